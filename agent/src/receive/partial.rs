//! A received file, which has a temporary name until all of it is verified.
//!
//! The name is unique and the file locked, so that a second receiver for the same file is refused, and no
//! receiver mistakes another's file for its own. A file left behind by a killed receiver is not locked, and
//! is removed.

use std::fs::{self, File, Metadata, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::SinkError;
use crate::read_back::{self, Sample};
use ka_host::health::Watched;

/// The infix of every partial file's name, before the unique part.
const MARK: &[u8] = b".ka-partial-";

/// How many bytes of the target's name the partial name includes, to limit its length.
const NAME: usize = 200;

/// A file that is being received. Dropping this removes it.
#[derive(Debug)]
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    /// Its final mode, once it is complete.
    mode: Permissions,
    /// The number of bytes written, and a sample of them.
    length: u64,
    sample: Sample<()>,
    /// Checks, after the last write, that everything is on disk.
    watched: Watched,
    settled: bool,
}

impl Partial {
    /// Starts a file that will replace `target`, and takes over its mode if it exists.
    ///
    /// # Errors
    /// Another receiver is writing to it, or a system error.
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
        options.read(true).write(true).create_new(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        // Other users can neither read nor lock it until it is complete.
        options.mode(0o600);
        let file = options.open(&path).map_err(partial)?;
        let mode = old.map_or_else(|| Permissions::from_mode(0o666 & !umask()), |old| old.permissions());
        let (sample, settled) = (Sample::new(read_back::PIECES), false);
        let new = Self {
            target: target.to_owned(),
            path: path.clone(),
            file,
            mode,
            length: 0,
            sample,
            watched,
            settled,
        };
        lock(&new.file).map_err(partial)?;
        // Another one may have started at the same moment. Then both give up, since neither has precedence.
        refuse_others(target, Some(&path))?;
        Ok(new)
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sample.offer(self.length, bytes, || Some(()));
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Checks that the medium has what was written to it.
    fn read_back(&self) -> Result<(), SinkError> {
        let failed = |error| SinkError::File { path: self.target.clone(), error };
        let length = self.file.metadata().map_err(failed)?.len();
        if length != self.length {
            let what = format!("it should have {} bytes, and has {length}", self.length);
            return Err(failed(io::Error::other(what)));
        }
        for piece in self.sample.pieces() {
            if !piece.is_in(&self.file).map_err(failed)? {
                return Err(SinkError::NotKept { path: self.target.clone(), offset: piece.offset });
            }
        }
        Ok(())
    }

    /// Gives the verified file its name.
    ///
    /// # Errors
    /// Not all of it is on disk, or it no longer exists.
    pub(super) fn settle(mut self) -> Result<(), SinkError> {
        let failed = |error| SinkError::File { path: self.target.clone(), error };
        if let Err(error) = self.file.set_permissions(self.mode.clone()) {
            // FAT has no modes.
            log::warn!("{}: cannot set its mode: {error}", self.target.display());
        }
        self.file.sync_all().map_err(failed)?;
        // A file with lost data must not replace the target.
        self.watched.check()?;
        self.read_back()?;
        let own = self.file.metadata().map_err(failed)?;
        self.is_own(&self.path, &own)?;
        fs::rename(&self.path, &self.target).map_err(failed)?;
        self.settled = true;
        self.is_own(&self.target, &own)?;
        File::open(parent(&self.target)).and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(self.watched.check()?)
    }

    /// Checks that the file at `path` is the one that was written.
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
        // Never another receiver's file.
        if own.is_ok_and(|own| self.is_own(&self.path, &own).is_ok())
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what killed receivers have left of `target`; one that is still running is an error.
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
        // Removed meanwhile.
        let Ok(other) = other else { continue };
        // Another user's file does not count: otherwise any user who can write here could block us for ever.
        let owner = other.metadata().map_err(failed)?.uid();
        if owner != geteuid().as_raw() && owner != 0 {
            continue;
        }
        if !lock(&other).map_err(failed)? {
            return Err(SinkError::InUse { path: target.to_owned(), by: path });
        }
        if own.is_none() && other.metadata().is_ok_and(|metadata| metadata.is_file()) {
            log::info!("{}: removed; an earlier receiver left it behind", path.display());
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Locks a file; false if another process holds the lock. On a file system without locks, no other process
/// does.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The bits that this user's umask removes from a new file's mode. Reading it with umask(2) would change it
/// for a moment.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let octal = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    octal.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(0o022)
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
        first.write(b"first").unwrap();
        let error = Partial::create(&target).unwrap_err();
        assert!(matches!(error, SinkError::InUse { .. }), "{error}");
        let mut another = Partial::create(&directory.path().join("other")).unwrap();
        another.write(b"other").unwrap();
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
        partial.write(b"mine").unwrap();
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
    fn nobody_else_opens_it_or_stops_it() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let partial = Partial::create(&target).unwrap();
        assert_eq!(mode(&partial.path), 0o600);
        let planted = directory.path().join("file.ka-partial-0000000000000000");
        partial.settle().unwrap();
        assert_eq!(mode(&target), 0o666 & !umask());
        if !geteuid().is_root() {
            eprintln!("NOT TESTED without root: another user's locked file");
            return;
        }
        let theirs = File::create(&planted).unwrap();
        std::os::unix::fs::chown(&planted, Some(65534), None).unwrap();
        assert!(lock(&theirs).unwrap());
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        Partial::create(&target).unwrap().settle().unwrap();
        assert_eq!(mode(&target), 0o640);
        assert!(planted.exists(), "theirs stays");
    }

    #[test]
    fn a_long_name_has_a_partial_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x".repeat(255));
        Partial::create(&target).unwrap().settle().unwrap();
        assert!(target.exists());
    }
}
