//! Atomic file writes: the new content is complete, or the old file is untouched.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A failed operation on a file or directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// The operation.
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Returns a closure for `map_err` that adds the operation and the path.
    pub fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Writes a file with exactly this mode, regardless of the umask. The content goes to a temporary file in the
/// same directory, is synced, and is renamed into place.
///
/// # Errors
/// [`FileError`]. An existing file is then untouched.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    stage(path, content, mode)
        .and_then(|new| new.persist(path).map_err(|e| e.error))
        .and_then(|_| sync_parent(path))
        .map_err(FileError::new("write", path))
}

/// Like [`write()`], but fails if the file exists.
///
/// # Errors
/// [`FileError`], with kind `AlreadyExists` if the file exists.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    stage(path, content, mode)
        .and_then(|new| new.persist_noclobber(path).map_err(|e| e.error))
        .and_then(|_| sync_parent(path))
        .map_err(FileError::new("create", path))
}

/// Writes the content to an unnamed temporary file in the target's directory.
///
/// # Errors
/// The system's error.
pub fn stage(path: &Path, content: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut new = tempfile::Builder::new().prefix(".ka-").tempfile_in(parent(path))?;
    new.write_all(content)?;
    new.as_file().set_permissions(Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    Ok(new)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename is durable only once its directory is synced.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guarded::directory;
    use std::fs;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn modes_are_exact_and_nothing_else_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        directory(&inner, 0o700).unwrap();
        write(&file, b"one", 0o600).unwrap();
        write(&file, b"two", 0o666).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o666));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn create_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        create(&file, b"one", 0o600).unwrap();
        let error = create(&file, b"two", 0o600).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
