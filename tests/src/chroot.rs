//! Runs a test's binary again in a chroot, as a machine whose root is a directory.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::loop_device::Loop;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs an ignored test of this binary on a machine whose root is a directory, in separate mount and network
/// namespaces; returns whether it succeeds. The script `mounts` adds mounts: its `$1` is the directory, `$2`
/// the disk, whose name the test gets in `KA_TEST_DISK`.
pub fn in_chroot(root: &Path, disk: &Loop, mounts: &str, test: &str) -> bool {
    fs::write(root.join("exe"), "").unwrap();
    let script = format!(
        "set -e
        {mounts}
        for dir in usr lib lib64 bin sbin etc proc sys dev; do
            mkdir -p \"$1/$dir\" && mount --rbind \"/$dir\" \"$1/$dir\"
        done
        mount --bind \"$3\" \"$1/exe\"
        ip link set lo up
        exec chroot \"$1\" /exe --exact \"$4\" --ignored --nocapture"
    );
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["-m", "-n", "sh", "-c", &script, "sh"])
        .args([root, Path::new(disk.node()), &exe, Path::new(test)])
        .env("KA_TEST_DISK", disk.name())
        .status();
    status.unwrap().success()
}
