//! The program as a child process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// The program, with an environment that holds no settings of the person who runs the tests.
pub(crate) fn adit(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ADIT_")) {
        command.env_remove(name);
    }
    command.arg("--data").arg(data);
    command
}

/// Runs the program to its end.
pub(crate) fn run(data: &Path, arguments: &[&str]) -> Output {
    adit(data).args(arguments).output().unwrap()
}

/// Standard output of a run that must succeed.
pub(crate) fn succeed(data: &Path, arguments: &[&str]) -> String {
    succeeded(adit(data).args(arguments))
}

/// Standard output of a command that must succeed.
pub(crate) fn succeeded(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The last line of standard output.
pub(crate) fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().to_owned()
}

/// A server process. It is killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the process, with its log at the end of a file, and waits for the line of its output that `ready` looks for.
    pub(crate) fn start<T>(mut command: Command, log: &Path, ready: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Self { child, log: log.to_owned() };
        let found = loop {
            let Some(Ok(line)) = lines.next() else { panic!("{command:?} ended too soon:\n{}", process.log()) };
            if let Some(found) = ready(&line) {
                break found;
            }
        };
        // Reads on, so that the program never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        (process, found)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Kills the process as a power cut would: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop: SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Asks the process to stop and waits for its end, which must come.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.terminate();
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the process was asked to end and did not:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
