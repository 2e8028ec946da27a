//! Files that are there whole or not at all, whatever happens while they are written.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file or directory that could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: what was tried on which path.
    pub fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Writes a file with exactly these permissions, whatever the umask: first beside its place and
/// synced, then renamed into it.
///
/// # Errors
/// [`FileError`]; the old file, if there was one, is then untouched.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    stage(path, content, mode)
        .and_then(|new| new.persist(path).map_err(|e| e.error))
        .and_then(|_| sync_parent(path))
        .map_err(FileError::new("write", path))
}

/// Like [`write()`], but never replaces a file: one that is there is an error.
///
/// # Errors
/// [`FileError`], of kind `AlreadyExists` if the file is there.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    stage(path, content, mode)
        .and_then(|new| new.persist_noclobber(path).map_err(|e| e.error))
        .and_then(|_| sync_parent(path))
        .map_err(FileError::new("create", path))
}

/// Writes the content to a file without its name yet, in the directory that the name is in.
///
/// # Errors
/// What the system said.
pub fn stage(path: &Path, content: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut new = tempfile::Builder::new().prefix(".ka-").tempfile_in(parent(path))?;
    new.write_all(content)?;
    new.as_file().set_permissions(Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    Ok(new)
}

/// Makes a directory and what is missing above it; the directory itself gets exactly this mode, also
/// when it was there.
///
/// # Errors
/// [`FileError`] with what the system said.
pub fn directory(path: &Path, mode: u32) -> Result<(), FileError> {
    if let Some(above) = path.parent().filter(|p| !p.exists()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)
            .map_err(FileError::new("make the directory", above))?;
    }
    // Born with the narrow mode, so that there is no moment at which others can look in.
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(FileError::new("make the directory", path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename is only durable when the directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

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
