//! What the work stores for the console: the node's key of this boot, and the current step.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ka::keys::KeyPair;
use ka_host::atomic::{self, FileError};

/// The node's key, in the format of a key file.
pub const KEY: &str = "/run/ka/node.key";
/// The node's current step.
pub const STEP: &str = "/run/ka/step";

/// How many bytes of a step's name are kept. All are written each time, so that no reader sees parts of two
/// names.
const LENGTH: usize = 200;

/// Stores the node's key for the console. A process that can read it already is root on this node.
///
/// # Errors
/// [`FileError`]. The console can then only show the node's log.
pub fn leave_key(path: &Path, key: &KeyPair) -> Result<(), FileError> {
    atomic::write(path, key.to_text().as_bytes(), 0o600)
}

/// The node's key, if it exists yet.
pub(super) fn key(path: &Path) -> Option<KeyPair> {
    let text = std::fs::read_to_string(path).ok()?;
    KeyPair::from_text(&text).inspect_err(|error| log::error!("{}: {error}", path.display())).ok()
}

/// The file with the current step. It stays open, because the work changes its root.
#[derive(Debug)]
pub struct StepFile(File);

impl StepFile {
    /// Creates the file.
    ///
    /// # Errors
    /// The system's error.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?))
    }

    /// Stores the step. A console that shows an old one is not a failure.
    pub fn set(&self, name: &str) {
        let mut bytes = [b' '; LENGTH];
        let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
        let length = ends.take_while(|end| *end <= LENGTH).last().unwrap_or(0);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        if let Err(error) = self.0.write_all_at(&bytes, 0) {
            log::debug!("the step cannot be noted: {error}");
        }
    }
}

/// The step; empty before the first one.
pub(super) fn step(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_last_one_however_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step");
        assert_eq!(step(&path), "");
        let file = StepFile::create(&path).unwrap();
        let long = "ä".repeat(200);
        for (name, kept) in [("drivers", "drivers"), (&*long, &*"ä".repeat(100)), ("x", "x"), ("", "")] {
            file.set(name);
            assert_eq!(step(&path), kept);
        }
    }

    #[test]
    fn a_key_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(key(&path), None);
        let pair = KeyPair::generate().unwrap();
        leave_key(&path, &pair).unwrap();
        assert_eq!(key(&path), Some(pair));
        std::fs::write(&path, "ka-controller-key-1 00").unwrap();
        assert_eq!(key(&path), None);
    }
}
