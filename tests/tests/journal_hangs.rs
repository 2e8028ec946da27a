//! A journal on a disk that never answers: the run goes on without it, and says so.
//!
//! Needs root, a loop device, `mkfs.ext4`, `mount`, `fsfreeze`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use ka_tests::loop_device::{Loop, MIB};
use ka_tests::site::{Site, summary};
use ka_tests::tool::tool;

/// A mounted file system that can stop answering: whoever writes to it waits for ever.
struct Disk {
    at: PathBuf,
    is_frozen: bool,
    _device: Loop,
}

impl Disk {
    fn mount(at: PathBuf) -> Self {
        let device = Loop::new(64 * MIB, 512);
        tool("mkfs.ext4", ["-q", device.node()]);
        fs::create_dir_all(&at).unwrap();
        tool("mount", [device.node(), at.to_str().unwrap()]);
        Self { at, is_frozen: false, _device: device }
    }

    fn freeze(&mut self) {
        tool("fsfreeze", ["--freeze", self.at.to_str().unwrap()]);
        self.is_frozen = true;
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            tool("fsfreeze", ["--unfreeze", self.at.to_str().unwrap()]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        // A process that is being killed may have it open for a moment more.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_run_whose_journal_hangs_goes_on_without_it() {
    let site = Site::new();
    let file = site.noise("file", 3 << 20, 1);
    let mut disk = Disk::mount(site.path("state"));
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    disk.freeze();
    let mut receivers = site.receivers(&mut sender, "a", 1);
    let receiver = &mut receivers[0];
    assert_eq!(receiver.end(), 0, "{}", receiver.said());
    assert!(site.holds("out-0", &[&file]));
    sender.wait_for("the journal's disk has not responded", 1);
    // A process with a thread that waits for a disk ends when that answers.
    disk.thaw();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert_eq!(summary(&sender)["ok"], true);
}
