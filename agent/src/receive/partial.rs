//! A received file, which has a name of its own until all of it is proven.
//!
//! The name is unique and the file locked, so that a second receiver for the same file is refused, and nobody takes what
//! another one writes. What a killed receiver has left behind is not locked, and is removed.

use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::error::SinkError;
use ka_host::health::Watched;

/// What is behind the name of every partial file, before what makes it unique.
const MARK: &[u8] = b".ka-partial-";

/// So much of a file's name is in the partial one's, which must not become too long.
const NAME: usize = 200;

/// A file that is being received. Removed when dropped.
#[derive(Debug)]
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    /// Asked, when all is written, whether that is true.
    watched: Watched,
    settled: bool,
}

impl Partial {
    /// Begins a file that is to take the place of `target`, whose mode it gets if that is there.
    ///
    /// # Errors
    /// Another receiver writes to it, or the system's.
    pub(super) fn create(target: &Path) -> Result<Self, SinkError> {
        let failed = |error| SinkError::File { path: target.to_owned(), error };
        let old = match fs::metadata(target) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(e)),
        };
        if let Ok(link) = fs::read_link(target) {
            let (target, link) = (target.display(), link.display());
            log::warn!("{target} is a symbolic link: the file takes its place, and {link} stays as it is");
        }
        refuse_second(target)?;
        let name = target.file_name().ok_or_else(|| failed(Errno::ISDIR.into()))?.as_bytes();
        let unique = format!("{:016x}", RandomState::new().build_hasher().finish());
        let path = with_name(target, [stem(name), MARK, unique.as_bytes()].concat());
        let partial = |error| SinkError::File { path: path.clone(), error };
        let directory = File::open(parent(target)).map_err(failed)?;
        let watched = Watched::new(directory.into(), parent(target))?;
        let mut options = File::options();
        options.write(true).create_new(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        // Nobody reads it before it has the right mode.
        options.mode(if old.is_some() { 0o600 } else { 0o666 });
        let file = options.open(&path).map_err(partial)?;
        let new = Self { target: target.to_owned(), path: path.clone(), file, watched, settled: false };
        lock(&new.file).map_err(partial)?;
        // Another one may have begun at the same moment. Then neither goes on: both would be right.
        refuse_others(target, Some(&path))?;
        if let Some(old) = old {
            new.file.set_permissions(old.permissions()).map_err(partial)?;
        }
        Ok(new)
    }

    /// Where the bytes go.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name, now that it is proven.
    ///
    /// # Errors
    /// Not all of it is on its disk, or it is not there any more.
    pub(super) fn settle(mut self) -> Result<(), SinkError> {
        let failed = |error| SinkError::File { path: self.target.clone(), error };
        self.file.sync_all().map_err(failed)?;
        // What the file system has lost takes the place of nothing.
        self.watched.check()?;
        let own = self.file.metadata().map_err(failed)?;
        self.is_own(&self.path, &own)?;
        fs::rename(&self.path, &self.target).map_err(failed)?;
        self.settled = true;
        self.is_own(&self.target, &own)?;
        File::open(parent(&self.target)).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(self.watched.check()?)
    }

    /// The file at `path` is the one that was written.
    fn is_own(&self, path: &Path, own: &Metadata) -> Result<(), SinkError> {
        let there = fs::symlink_metadata(path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(());
        }
        let error = io::Error::other("another program removed or replaced the file while it was received");
        Err(SinkError::File { path: path.to_owned(), error })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let own = self.file.metadata();
        // Never somebody else's.
        if own.is_ok_and(|own| self.is_own(&self.path, &own).is_ok())
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Locks a directory into which a tree is unpacked, as long as the returned file is open.
///
/// # Errors
/// Another receiver unpacks into it, or the system's.
pub(super) fn lock_directory(directory: &Path) -> Result<File, SinkError> {
    let failed = |error| SinkError::File { path: directory.to_owned(), error };
    let file = File::open(directory).map_err(failed)?;
    if lock(&file).map_err(failed)? {
        Ok(file)
    } else {
        Err(SinkError::InUse { path: directory.to_owned(), by: directory.to_owned() })
    }
}

/// Removes what killed receivers have left of `target`; one that lives is an error.
fn refuse_second(target: &Path) -> Result<(), SinkError> {
    refuse_others(target, None)
}

fn refuse_others(target: &Path, own: Option<&Path>) -> Result<(), SinkError> {
    let failed = |error| SinkError::File { path: target.to_owned(), error };
    let Some(name) = target.file_name() else { return Ok(()) };
    let prefix = [stem(name.as_bytes()), MARK].concat();
    for entry in fs::read_dir(parent(target)).map_err(failed)? {
        let path = with_name(target, entry.map_err(failed)?.file_name().into_vec());
        let is_partial = path.file_name().is_some_and(|name| name.as_bytes().starts_with(&prefix));
        if !is_partial || own == Some(path.as_path()) {
            continue;
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let other = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
        // Gone meanwhile, or of another user.
        let Ok(other) = other else { continue };
        if !lock(&other).map_err(failed)? {
            return Err(SinkError::InUse { path: target.to_owned(), by: path });
        }
        if own.is_none() && other.metadata().is_ok_and(|metadata| metadata.is_file()) {
            log::info!("{}: left behind by an earlier receiver, and removed", path.display());
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Locks a file; false if somebody else has. Where a file system knows no locks, nobody has.
fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn stem(name: &[u8]) -> &[u8] {
    name.get(..NAME).unwrap_or(name)
}

fn with_name(target: &Path, name: Vec<u8>) -> PathBuf {
    target.with_file_name(std::ffi::OsString::from_vec(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_receiver_for_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let mut first = Partial::create(&target).unwrap();
        first.file().write_all(b"first").unwrap();
        let error = Partial::create(&target).unwrap_err();
        assert!(matches!(error, SinkError::InUse { .. }), "{error}");
        let mut another = Partial::create(&directory.path().join("other")).unwrap();
        another.file().write_all(b"other").unwrap();
        first.settle().unwrap();
        another.settle().unwrap();
        assert_eq!(names(directory.path()), ["file", "other"]);
        assert_eq!(fs::read(&target).unwrap(), b"first");
    }

    #[test]
    fn what_was_replaced_is_not_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let mut partial = Partial::create(&target).unwrap();
        partial.file().write_all(b"mine").unwrap();
        fs::remove_file(&partial.path).unwrap();
        fs::write(&partial.path, "theirs").unwrap();
        assert!(partial.settle().unwrap_err().to_string().contains("replaced"));
        assert!(!target.exists());
        assert_eq!(names(directory.path()).len(), 1, "theirs stays");
    }

    #[test]
    fn what_a_killed_receiver_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let killed = Partial::create(&target).unwrap();
        fs::write(killed.path.with_extension("ka-partial-dead"), "half").unwrap();
        drop(killed);
        let partial = Partial::create(&target).unwrap();
        assert_eq!(names(directory.path()).len(), 1);
        drop(partial);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_long_name_has_a_partial_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x".repeat(255));
        Partial::create(&target).unwrap().settle().unwrap();
        assert!(target.exists());
    }

    #[test]
    fn a_directory_is_unpacked_into_once_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock_directory(directory.path()).unwrap();
        assert!(matches!(lock_directory(directory.path()), Err(SinkError::InUse { .. })));
        drop(first);
        lock_directory(directory.path()).unwrap();
    }
}
