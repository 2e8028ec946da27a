//! A read-only view for kernels that cannot change a detached mount (before Linux 5.12, so Debian 11).
//!
//! The mount is attached for a moment in a mount namespace that belongs to a separate thread: no other
//! process ever sees it. The namespace ends with the thread, and the mount with its last descriptor.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

/// A mount point that exists on every machine. `/` is not suitable: a mount on it is not visible by its path.
const PLACE: &str = "/proc";

/// A mount of the file system at `mounted_at`, without the mounts below it.
pub(super) fn read_only(mounted_at: &Path) -> io::Result<OwnedFd> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("view".into()).spawn_scoped(scope, || open(mounted_at))?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that mounts has panicked")))
    })
}

fn open(mounted_at: &Path) -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    // Before anything is mounted: no mount of this thread may propagate to the machine's own namespace.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(mounted_at), PLACE, none, MsFlags::MS_BIND, none)?;
    let attributes = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    mount(none, PLACE, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | attributes, none)?;
    Ok(openat(CWD, PLACE, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn an_old_kernels_view_is_read_only_leaves_access_times_alone_and_no_mount_behind() {
        assert!(rustix::process::geteuid().is_root(), "this test must run as root: it mounts");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "golden").unwrap();
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_times(fs::FileTimes::new().set_accessed(long_ago))
            .unwrap();
        let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();

        let view = read_only(folder.path()).unwrap();
        let seen = Path::new("/proc/self/fd").join(view.as_raw_fd().to_string()).join("file");
        assert_eq!(fs::read_to_string(&seen).unwrap(), "golden");
        assert_eq!(fs::metadata(&file).unwrap().accessed().unwrap(), long_ago);
        let error = fs::write(&seen, "other").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{error}");
        fs::write(&file, "the golden node itself goes on").unwrap();
        assert_eq!(mounts(), before, "the machine sees no mount");
    }
}
