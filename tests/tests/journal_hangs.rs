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

/// A mounted file system that can stop answering: a write to it then waits for ever.
struct Disk {
    at: PathBuf,
    _device: Loop,
}

impl Disk {
    fn mount(at: PathBuf) -> Self {
        let device = Loop::new(64 * MIB, 512);
        tool("mkfs.ext4", ["-q", device.node()]);
        fs::create_dir_all(&at).unwrap();
        tool("mount", [device.node(), at.to_str().unwrap()]);
        Self { at, _device: device }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that is being killed may have it open for a moment more.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Nothing is written while this exists. A process that waits for the disk cannot be killed before its end.
struct Frozen(PathBuf);

impl Frozen {
    fn new(disk: &Disk) -> Self {
        tool("fsfreeze", ["--freeze", disk.at.to_str().unwrap()]);
        Self(disk.at.clone())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
        assert!(thawed.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_run_whose_journal_hangs_goes_on_without_it() {
    let site = Site::new();
    let file = site.noise("file", 3 << 20, 1);
    let disk = Disk::mount(site.path("state"));
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let frozen = Frozen::new(&disk);
    let mut receivers = site.receivers(&mut sender, "a", 1);
    let receiver = &mut receivers[0];
    assert_eq!(receiver.end(), 0, "{}", receiver.said());
    assert!(site.holds("out-0", &[&file]));
    sender.wait_for("the journal's disk has not responded", 1);
    // A process with a thread that waits for a disk ends when that answers.
    drop(frozen);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert_eq!(summary(&sender)["ok"], true);
}
