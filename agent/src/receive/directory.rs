//! Allows one receiver at a time to unpack into a directory.
//!
//! The directory itself is locked, so that receivers of all users and in all containers see each other.
//! However, every user who can read the directory can lock it too, and must not be able to block a receiver
//! that way. So the holder of the lock matters: a lock of another user is ignored, and this user's receivers
//! additionally use a lock that no other user can open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::error::SinkError;
use super::partial::lock;
use ka_host::guarded;

/// Root's locks are in this directory, which holds nothing else.
const RUN: &str = "/run/ka";
/// Permissions reserved to its owner: read and write. dnsmasq may pass through to its own files.
const CLOSED: u32 = 0o067;

/// A directory claimed for unpacking.
#[derive(Debug)]
pub(super) struct Claimed {
    _own: Option<File>,
    _directory: File,
}

/// Claims a directory for unpacking, as long as the value lives.
///
/// # Errors
/// Another receiver is unpacking into it, or a system error.
pub(super) fn claim(directory: &Path) -> Result<Claimed, SinkError> {
    let failed = |error| SinkError::File { path: directory.to_owned(), error };
    let in_use = |by: &Path| SinkError::InUse { path: directory.to_owned(), by: by.to_owned() };
    let file = File::open(directory).map_err(failed)?;
    let is = file.metadata().map_err(failed)?;
    let own = match own_lock(is.dev(), is.ino()) {
        Some((path, own)) if !lock(&own).map_err(failed)? => return Err(in_use(&path)),
        own => own.map(|(_, own)| own),
    };
    if !lock(&file).map_err(failed)? {
        let uid = geteuid().as_raw();
        let others = fs::read_to_string("/proc/locks").map(|locks| holders(&locks, is.ino()));
        let strangers = own.is_some() && others.is_ok_and(|others| are_strangers(&others, uid, uid_of));
        if !strangers {
            return Err(in_use(directory));
        }
        log::warn!("{} is locked by another user's program", directory.display());
    }
    Ok(Claimed { _own: own, _directory: file })
}

/// This user's lock for a directory, if the user has a place for locks.
fn own_lock(device: u64, inode: u64) -> Option<(PathBuf, File)> {
    let place = if geteuid().is_root() {
        guarded::shared_directory(Path::new(RUN), 0o700, CLOSED).map(|()| PathBuf::from(RUN))
    } else {
        Ok(PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty())?))
    };
    let made = place.and_then(|place| {
        let place = place.join("ka-receive");
        guarded::directory(&place, 0o700)?;
        let path = place.join(format!("{device:x}-{inode}"));
        guarded::lock(&path).map(|file| (path, file))
    });
    made.inspect_err(|error| log::debug!("cannot lock the directory: {error}: {}", error.source)).ok()
}

/// The processes that hold a lock on a file with this inode number, on any device: some file systems show
/// another device here than in stat(2).
fn holders(locks: &str, inode: u64) -> Vec<u32> {
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
        let pid = words.next()?.parse().ok()?;
        let number = words.next()?.rsplit(':').next()?.parse::<u64>().ok()?;
        (number == inode).then_some(pid)
    };
    // A line with an arrow is only a waiter.
    locks.lines().filter(|line| !line.contains("->")).filter_map(holder).collect()
}

/// Whether all of them belong to other users. A receiver holds its lock itself until it ends, so a process
/// that is gone was not a receiver. A process that is not visible, in another container, may be one.
fn are_strangers(holders: &[u32], uid: u32, uid_of: impl Fn(u32) -> io::Result<Option<u32>>) -> bool {
    let is_stranger = |pid: &u32| match uid_of(*pid) {
        Ok(Some(other)) => other != uid && other != 0,
        Ok(None) => true,
        Err(_) => false,
    };
    !holders.is_empty() && holders.iter().all(is_stranger)
}

/// The process's owner; `None` if the process is gone.
fn uid_of(pid: u32) -> io::Result<Option<u32>> {
    match fs::metadata(format!("/proc/{pid}")) {
        Ok(process) => Ok(Some(process.uid())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_unpacked_into_once_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = claim(directory.path()).unwrap();
        assert!(matches!(claim(directory.path()), Err(SinkError::InUse { .. })));
        drop(first);
        claim(directory.path()).unwrap();
    }

    #[test]
    fn only_other_users_locks_are_passed_over() {
        let locks = "1: FLOCK  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 13 fe:00:78 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 14 00:2a:77 0 EOF\n\
                     4: -> FLOCK  ADVISORY  WRITE 15 00:2a:77 0 EOF\n";
        assert_eq!(holders(locks, 77), [11, 14]);
        let uid_of = |pid| match pid {
            11 => Ok(Some(1000)),
            12 => Ok(Some(0)),
            13 => Ok(None),
            14 => Ok(Some(1001)),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        };
        for (holders, uid, strangers) in [
            (vec![11, 13, 14], 0, true),
            (vec![11, 14], 1000, false),
            (vec![11, 12], 1001, false),
            (vec![11, 15], 0, false),
            (vec![], 0, false),
        ] {
            assert_eq!(are_strangers(&holders, uid, uid_of), strangers, "{holders:?} for {uid}");
        }
    }

    /// Any user who can read a directory can lock it.
    #[test]
    fn another_user_stops_nobody_by_a_lock() {
        if !geteuid().is_root() {
            eprintln!("NOT TESTED without root: another user's lock of a directory");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        let mut other = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "flock", "--nonblock"])
            .arg(directory.path())
            // Runs as long as its input is open, and reports when it has the lock.
            .args(["sh", "-c", "echo locked; read end"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 7];
        io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut said).unwrap();
        let first = claim(directory.path()).unwrap();
        // That does not let a second receiver in either.
        assert!(matches!(claim(directory.path()), Err(SinkError::InUse { .. })));
        drop((first, other.stdin.take()));
        other.wait().unwrap();
    }
}
