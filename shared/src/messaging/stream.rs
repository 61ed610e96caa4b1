//! Byte streams under the connections of both sides, and Unix sockets by paths of any length.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};

/// A stream of any kind: TCP, TLS, a Unix socket, memory.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Longest path that fits a socket's address: 108 bytes on Linux and 104 elsewhere, with the NUL
/// behind it (`man 7 unix`).
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A listening Unix socket of mode 0600. Its file goes when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    /// Number of the user whom the file belongs to: who made it.
    pub(super) owner: u32,
}

impl SocketFile {
    /// Listens at `path`. A socket that is there is taken for that of a process that was killed,
    /// and replaced: callers hold the lock of the folder.
    ///
    /// # Errors
    /// When something else than a socket is there, or the path cannot be used.
    pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        match path.symlink_metadata() {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("{} is there and is no socket: move it away", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (_folder, short) = short_path(path)?;
        let listener = UnixListener::bind(short)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let owner = path.symlink_metadata()?.uid();
        Ok((listener, Self { path: path.to_owned(), owner }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays behind is replaced by the next process.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Connects to the Unix socket at `path`.
pub(super) async fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_path(path)?;
    UnixStream::connect(short).await
}

/// A path to the same file that fits a socket's address: the path itself, or one through its opened
/// folder, which must be kept open while the path is used.
fn short_path(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok((None, path.to_owned()));
    }
    path_through_folder(path)
}

#[cfg(target_os = "linux")]
fn path_through_folder(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    use std::os::fd::AsRawFd as _;

    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket has a folder and a name"));
    };
    let folder = File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((Some(folder), short))
}

#[cfg(not(target_os = "linux"))]
fn path_through_folder(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    let message = format!(
        "the path of a socket has at most {LONGEST_PATH} bytes here, {} has more: choose a data folder with a shorter path",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
