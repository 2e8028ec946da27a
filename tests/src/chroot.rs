//! A machine whose root is a directory: a test's binary, run again in a chroot there.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::loop_device::Loop;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs one of the ignored tests of this binary on a machine whose root is a directory, in namespaces of its own for
/// mounts and networks; true if it succeeds. The script `mounts` mounts more: its `$1` is the directory, `$2` the
/// disk, of which the test gets the name in `KA_TEST_DISK`.
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
