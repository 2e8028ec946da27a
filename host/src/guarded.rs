//! Directories and locks that only this user can change, regardless of the umask and of what existed before.
//!
//! If others can open a lock, they can hold it and block every run. If others can write to a directory, they
//! can plant files in it. So both get their modes at creation, and are checked before use.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::atomic::FileError;

/// The mode bits that let others change a directory's entries.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Creates a directory and its missing parents. The directory itself gets exactly this mode, even if it
/// existed.
///
/// # Errors
/// [`FileError`]: the system's error, or the directory belongs to another user.
pub fn directory(path: &Path, mode: u32) -> Result<(), FileError> {
    directory_of(path, mode, None)
}

/// Like [`directory`], but the directory may also belong to the user `owner`.
///
/// # Errors
/// As of [`directory`].
pub fn directory_of(path: &Path, mode: u32, owner: Option<u32>) -> Result<(), FileError> {
    let open = ensure(path, mode, owner)?;
    set_mode(&open, mode).map_err(FileError::new("set the mode of the directory", path))
}

/// Creates a directory like [`directory`] if it is missing. An existing one keeps its mode except for the
/// bits in `never`: an administrator may have chosen it, or it may reflect an ACL.
///
/// # Errors
/// As of [`directory`].
pub fn shared_directory(path: &Path, mode: u32, never: u32) -> Result<(), FileError> {
    let open = ensure(path, mode, None)?;
    let failed = FileError::new("set the mode of the directory", path);
    open.metadata().and_then(|is| set_mode(&open, is.mode() & 0o7777 & !never)).map_err(failed)
}

/// Opens a lock file that no other user can open, and creates it if it is missing.
///
/// # Errors
/// [`FileError`]: the system's error, or the file belongs to another user, is a symbolic link, or has several
/// names.
pub fn lock(path: &Path) -> Result<File, FileError> {
    let open = || {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(path)
            .map_err(|e| if is_link(&e) { refused("it is a symbolic link: remove it") } else { e })?;
        let is = file.metadata()?;
        belongs(&is, None)?;
        if !is.is_file() || is.nlink() > 1 {
            return Err(refused("it is not a file with this one name: remove it"));
        }
        set_mode(&file, 0o600)?;
        Ok(file)
    };
    open().map_err(FileError::new("open the lock", path))
}

/// Creates a directory, and opens the one that exists now.
fn ensure(path: &Path, mode: u32, owner: Option<u32>) -> Result<File, FileError> {
    make(path, mode).map_err(FileError::new("make the directory", path))?;
    open(path, owner).map_err(FileError::new("use the directory", path))
}

/// Created with the narrow mode, so that others can never look inside. Each level is created separately,
/// because the umask can only remove bits from the mode.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        make(above, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// Opens the existing directory, if no other user can change what its path leads to.
fn open(path: &Path, owner: Option<u32>) -> io::Result<File> {
    let link = fs::symlink_metadata(path)?;
    if link.is_symlink() {
        // An administrator's link to a larger disk.
        belongs(&link, None)?;
    }
    let path = fs::canonicalize(path)?;
    path.ancestors().skip(1).try_for_each(is_safe)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&path)?;
    let is = directory.metadata()?;
    belongs(&is, owner)?;
    if is.mode() & WRITABLE != 0 {
        log::warn!(
            "{} was writable by others (mode {:04o}) and no longer is: check its contents",
            path.display(),
            is.mode() & 0o7777
        );
    }
    Ok(directory)
}

/// Checks that no other user can replace a directory inside `above`.
fn is_safe(above: &Path) -> io::Result<()> {
    let mode = fs::metadata(above)?.mode();
    if mode & 0o002 != 0 && mode & STICKY == 0 {
        let above = above.display();
        return Err(refused(format!("any user can change its parent directory {above}: chmod o-w {above}")));
    }
    Ok(())
}

/// Checks that this user owns it, or root, who can do everything anyway.
fn belongs(is: &Metadata, owner: Option<u32>) -> io::Result<()> {
    let uid = is.uid();
    if uid == geteuid().as_raw() || uid == 0 || Some(uid) == owner {
        return Ok(());
    }
    Err(refused(format!("it belongs to the user {uid}: remove it if it is not needed")))
}

fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    // Root's directory, used by another user as it is.
    if file.metadata()?.mode() & 0o7777 == mode {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode))
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

/// Creates a directory with the first free number after `name`.
///
/// # Errors
/// The system's error, with the path.
pub fn numbered(parent: &Path, name: &str, mode: u32) -> Result<PathBuf, FileError> {
    let mut number = 1_u32;
    loop {
        let path = parent.join(format!("{name}-{number}"));
        match DirBuilder::new().mode(mode).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            outcome => {
                return outcome.map_err(FileError::new("make the directory", &path)).map(|()| path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn why(error: FileError) -> String {
        format!("{error}: {}", error.source)
    }

    #[test]
    fn modes_are_exact_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        directory(&inner, 0o700).unwrap();
        assert_eq!((mode(&inner), mode(inner.parent().unwrap())), (0o700, 0o755));
        fs::set_permissions(&inner, Permissions::from_mode(0o777)).unwrap();
        directory(&inner, 0o700).unwrap();
        assert_eq!(mode(&inner), 0o700);
        fs::set_permissions(&inner, Permissions::from_mode(0o2777)).unwrap();
        shared_directory(&inner, 0o750, WRITABLE).unwrap();
        assert_eq!(mode(&inner), 0o2755, "an administrator's choice, but for the writing");
        assert_eq!(numbered(&inner, "run", 0o750).unwrap(), inner.join("run-1"));
        assert_eq!(mode(&numbered(&inner, "run", 0o750).unwrap()) & 0o777, 0o750);
    }

    #[test]
    fn a_lock_is_a_file_of_its_own_that_nobody_else_can_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(lock(&path).unwrap());
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        drop(lock(&path).unwrap());
        assert_eq!(mode(&path), 0o600);
        let (link, hard) = (dir.path().join("link"), dir.path().join("hard"));
        symlink(&path, &link).unwrap();
        assert!(why(lock(&link).unwrap_err()).contains("symbolic link"));
        fs::hard_link(&path, &hard).unwrap();
        assert!(why(lock(&hard).unwrap_err()).contains("one name"));
        assert!(lock(dir.path()).is_err());
    }

    #[test]
    fn what_others_may_change_or_have_made_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        directory(&open.join("inner"), 0o700).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(why(directory(&open.join("inner"), 0o700).unwrap_err()).contains("chmod o-w"));
        if !geteuid().is_root() {
            eprintln!("NOT TESTED without root: what belongs to another user");
            return;
        }
        let theirs = dir.path().join("theirs");
        directory(&theirs, 0o700).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        assert!(why(directory(&theirs, 0o700).unwrap_err()).contains("belongs to the user 65534"));
        directory_of(&theirs, 0o755, Some(65534)).unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        directory(&link, 0o700).unwrap();
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        assert!(why(directory(&link, 0o700).unwrap_err()).contains("belongs to the user 65534"));
    }
}
