//! Identifies the mount that a file is on. The device number is not sufficient: a bind mount of the same file
//! system has the same number, and an overlay's files have other numbers than its directories.

use ka::archive::Time;
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, statx};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The lookup triggers no automount, and contacts no server, which might never answer.
const LOOK: AtFlags = AtFlags::NO_AUTOMOUNT.union(AtFlags::SYMLINK_NOFOLLOW).union(AtFlags::STATX_DONT_SYNC);

/// The kernel's ID of the mount that an open file is on.
pub(super) fn id(file: impl AsFd) -> Option<u64> {
    let told = statx(&file, c"", LOOK | AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    told.ok().and_then(|told| number(&told)).or_else(|| by_proc(file.as_fd()))
}

/// The same for a name in a directory, without opening it.
pub(super) fn id_at(parent: BorrowedFd<'_>, name: &[u8]) -> Option<u64> {
    let told = statx(parent, name, LOOK, StatxFlags::MNT_ID);
    told.ok().and_then(|told| number(&told)).or_else(|| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let seen = rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?;
        by_proc(seen.as_fd())
    })
}

/// The attributes of a mounted directory that are known without contacting its server: mode, owner, group and
/// time. Nothing is known of a FUSE mount that only its owner can access.
pub(super) fn top(parent: BorrowedFd<'_>, name: &[u8]) -> Option<(u32, u32, u32, Time)> {
    let told = statx(parent, name, LOOK, StatxFlags::BASIC_STATS).ok()?;
    let mtime = Time { sec: told.stx_mtime.tv_sec, nsec: told.stx_mtime.tv_nsec };
    Some((u32::from(told.stx_mode) & 0o7777, told.stx_uid, told.stx_gid, mtime))
}

/// The mount ID, if the kernel reports it (Linux 5.8).
fn number(told: &Statx) -> Option<u64> {
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

/// The mount ID on older kernels (proc(5), `fdinfo`).
fn by_proc(file: BorrowedFd<'_>) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_kernels_give_the_same_number() {
        let directory = std::fs::File::open("/").unwrap();
        let found = id(&directory);
        assert!(found.is_some());
        assert_eq!(by_proc(directory.as_fd()), found);
        assert_eq!(id_at(directory.as_fd(), b"."), found);
        assert_ne!(id_at(directory.as_fd(), b"proc"), found);
    }
}
