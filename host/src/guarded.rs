//! Directories and locks that are this user's alone, whatever the umask, and whoever was there before.
//!
//! A lock that others can open is a lock that others can hold: then no run starts. A directory that others can write to has
//! whatever they put into it. So both get their modes when they are made, and are looked at before they are used.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::atomic::FileError;

/// The modes by which others may change what is in a directory.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Makes a directory and what is missing above it; the directory itself gets exactly this mode, also when it was there.
///
/// # Errors
/// [`FileError`]: what the system said, or that it is somebody else's.
pub fn directory(path: &Path, mode: u32) -> Result<(), FileError> {
    directory_of(path, mode, None)
}

/// The same for a directory that may belong to the user `owner`, too.
///
/// # Errors
/// As of [`directory`].
pub fn directory_of(path: &Path, mode: u32, owner: Option<u32>) -> Result<(), FileError> {
    let open = ensure(path, mode, owner)?;
    set_mode(&open, mode).map_err(FileError::new("set the mode of the directory", path))
}

/// Makes a directory like [`directory`], if it is not there. One that is there keeps its mode, but for the bits of `never`:
/// it may be an administrator's choice, or tell of an ACL.
///
/// # Errors
/// As of [`directory`].
pub fn shared_directory(path: &Path, mode: u32, never: u32) -> Result<(), FileError> {
    let open = ensure(path, mode, None)?;
    let failed = FileError::new("set the mode of the directory", path);
    open.metadata().and_then(|is| set_mode(&open, is.mode() & 0o7777 & !never)).map_err(failed)
}

/// Opens a file to lock it, which no other user can open. It is made if it is not there.
///
/// # Errors
/// [`FileError`]: what the system said, or that it is somebody else's, or no file of its own.
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

/// Makes a directory, and opens the one that is there now.
fn ensure(path: &Path, mode: u32, owner: Option<u32>) -> Result<File, FileError> {
    make(path, mode).map_err(FileError::new("make the directory", path))?;
    open(path, owner).map_err(FileError::new("use the directory", path))
}

/// Born with the narrow mode, so that there is no moment at which others can look in. Each level by itself: the umask only
/// takes from the mode.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        make(above, 0o755)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

/// The directory as it is now, if nobody else has a say in what is there.
fn open(path: &Path, owner: Option<u32>) -> io::Result<File> {
    let link = fs::symlink_metadata(path)?;
    if link.is_symlink() {
        // An administrator's, to a larger disk.
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
            "{} was writable for others (mode {:04o}), and is no more: look at what is in it",
            path.display(),
            is.mode() & 0o7777
        );
    }
    Ok(directory)
}

/// Whether nobody can put another directory in the place of one that is in `above`.
fn is_safe(above: &Path) -> io::Result<()> {
    let mode = fs::metadata(above)?.mode();
    if mode & 0o002 != 0 && mode & STICKY == 0 {
        let above = above.display();
        return Err(refused(format!("everybody may change {above}, in which it is: chmod o-w {above}")));
    }
    Ok(())
}

/// Whether something is this user's, or root's, who may do everything anyway.
fn belongs(is: &Metadata, owner: Option<u32>) -> io::Result<()> {
    let uid = is.uid();
    if uid == geteuid().as_raw() || uid == 0 || Some(uid) == owner {
        return Ok(());
    }
    Err(refused(format!("it belongs to the user {uid}: remove it if nobody needs it")))
}

fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    // Root's, and used by somebody else as it is.
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

/// Makes a directory with the first free number behind `name`.
///
/// # Errors
/// What the system said, with the path.
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
