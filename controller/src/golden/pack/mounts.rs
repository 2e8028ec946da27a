//! Which mount an open file is on: also where the file system itself tells nobody anything.

use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's number of the mount (proc(5), `fdinfo`).
pub(super) fn id(file: &OwnedFd) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}
