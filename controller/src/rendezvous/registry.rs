//! Which process of this host serves which session, so that several may run side by side.
//!
//! A session is a file of its name with the control port in it, locked by the process that serves it.
//! The process that has the well-known port sends agents on to the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Far longer than a lookup takes.
const LOOKUP: Duration = Duration::from_millis(200);

/// A session name that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Another process serves it.
    #[error("a session '{0}' runs on this machine already; choose another --session")]
    Taken(String),
    /// The file system failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
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
        fs::create_dir_all(directory).map_err(io_error)?;
        let start = Instant::now();
        loop {
            let mut file =
                OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // Whoever only looks a session up has the lock for a moment as well.
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < LOOKUP => {
                    thread::sleep(LOOKUP / 10);
                    continue;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(RegistryError::Taken(name.to_owned())),
                Err(error) => return Err(io_error(error.into())),
            }
            // The one who had it may have removed the file between our open and our lock.
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
