//! Maps each session to the process of this host that serves it, so that several can run side by side.
//!
//! A session is a file with the session's name that contains the control port and is locked by the serving
//! process. The process that owns the well-known port redirects agents to the others.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use ka_host::atomic::FileError;
use ka_host::guarded;

/// Far longer than a lookup takes.
const LOOKUP: Duration = Duration::from_millis(200);

/// Why a session name cannot be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another process serves it.
    #[error("a session '{0}' is already active on this machine; choose another --session")]
    Taken(String),
    /// Other users can change the directory of sessions or the session's file.
    #[error(transparent)]
    Guarded(#[from] FileError),
    /// The file system failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// A session that this process serves, until the value is dropped or the process dies.
#[derive(Debug)]
pub struct Registration {
    path: PathBuf,
    _lock: File,
}

impl Registration {
    /// Registers the session `name` with this process's control `port` in `directory`.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn take(directory: &Path, name: &str, port: u16) -> Result<Self, RegistryError> {
        let path = directory.join(name);
        let io_error = |error| RegistryError::Io { path: path.clone(), error };
        guarded::directory(directory, 0o700)?;
        let start = Instant::now();
        loop {
            let mut file = guarded::lock(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // A lookup also holds the lock for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < LOOKUP => {
                    thread::sleep(LOOKUP / 10);
                    continue;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(RegistryError::Taken(name.to_owned())),
                Err(error) => return Err(io_error(error.into())),
            }
            // The previous owner may have removed the file between our open and our lock.
            if !is_at(&file, &path) {
                continue;
            }
            file.set_len(0).and_then(|()| writeln!(file, "{port}")).map_err(io_error)?;
            return Ok(Self { path, _lock: file });
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// The control port of the process that serves the session `name`, if one does.
#[must_use]
pub fn lookup(directory: &Path, name: &str) -> Option<u16> {
    let path = directory.join(name);
    let file = File::open(&path).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    fs::read_to_string(&path).ok()?.trim().parse().ok()
}

/// Whether a process that serves a session of this directory has this control port.
#[must_use]
pub fn serves(directory: &Path, port: u16) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|name| lookup(directory, &name) == Some(port))
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_process_and_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(lookup(directory.path(), "a"), None);
        let first = Registration::take(directory.path(), "a", 30765).unwrap();
        assert_eq!(lookup(directory.path(), "a"), Some(30765));
        assert!(matches!(Registration::take(directory.path(), "a", 1), Err(RegistryError::Taken(_))));
        drop(first);
        assert_eq!(lookup(directory.path(), "a"), None);
        Registration::take(directory.path(), "a", 2).unwrap();
    }
}
