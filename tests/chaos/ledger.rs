//! What a run counts and finds, and the report of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Instant;

/// Groups of counts, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    /// Processes that were killed, by kind.
    Kill,
    /// Servers that were ended and started again.
    Restart,
    /// Faults of the line to the store.
    Fault,
    /// Work that was carried out and acknowledged.
    Work,
    /// Attempts that ended without success, and that were repeated.
    Repeated,
}

/// Ways in which the promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finding {
    /// Something acknowledged is not there.
    Lost,
    /// A success with other content than the model's.
    WrongBytes,
    /// A good package failed for good.
    Failed,
    /// Something did not come to its end in time.
    Stuck,
    /// An answer or an exit status that nobody should get.
    Unexpected,
}

const FINDINGS: [(Finding, &str); 5] = [
    (Finding::Lost, "lost"),
    (Finding::WrongBytes, "wrong bytes"),
    (Finding::Failed, "failed for good"),
    (Finding::Stuck, "stuck"),
    (Finding::Unexpected, "unexpected answers"),
];

pub(super) struct Ledger {
    began: Instant,
    seed: u64,
    counts: Mutex<BTreeMap<(Counted, String), u64>>,
    findings: Mutex<Vec<(Finding, String)>>,
    /// Lines that the end of the run adds.
    remarks: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        let (counts, findings, remarks) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { began: Instant::now(), seed, counts, findings, remarks }
    }

    /// Seconds since the run began.
    pub(super) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    pub(super) fn count(&self, group: Counted, name: &str) {
        *self.counts.lock().unwrap().entry((group, name.to_owned())).or_default() += 1;
    }

    /// Notes that the promise was broken, and says so at once.
    pub(super) fn find(&self, finding: Finding, text: String) {
        eprintln!("chaos: {:.0} s: {finding:?}: {text}", self.seconds());
        self.findings.lock().unwrap().push((finding, text));
    }

    pub(super) fn remark(&self, line: String) {
        self.remarks.lock().unwrap().push(line);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.findings.lock().unwrap().is_empty()
    }

    fn group(&self, group: Counted) -> String {
        let counts = self.counts.lock().unwrap();
        let of_group = counts.iter().filter(|((found, _), _)| *found == group);
        let parts: Vec<String> = of_group.map(|((_, name), count)| format!("{name} {count}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }

    /// What was done so far, on one line.
    pub(super) fn progress(&self) -> String {
        format!(
            "{:.0} s: {}; kills: {}; restarts: {}; repeated: {}",
            self.seconds(),
            self.group(Counted::Work),
            self.group(Counted::Kill),
            self.group(Counted::Restart),
            self.group(Counted::Repeated)
        )
    }

    pub(super) fn report(&self) -> String {
        let mut report = format!("chaos, seed {}, {:.0} s\n", self.seed, self.seconds());
        let groups = [
            (Counted::Work, "work"),
            (Counted::Kill, "kills"),
            (Counted::Restart, "restarts"),
            (Counted::Fault, "faults of the store"),
            (Counted::Repeated, "repeated"),
        ];
        for (group, title) in groups {
            let _ = writeln!(report, "  {title}: {}", self.group(group));
        }
        for remark in &*self.remarks.lock().unwrap() {
            let _ = writeln!(report, "  {remark}");
        }
        let findings = self.findings.lock().unwrap();
        let counts = FINDINGS.map(|(finding, name)| {
            format!("{name} {}", findings.iter().filter(|(found, _)| *found == finding).count())
        });
        let _ = writeln!(report, "  {}", counts.join(", "));
        for (finding, text) in &*findings {
            let _ = writeln!(report, "  {finding:?}: {text}");
        }
        report
    }
}
