//! Blank disks for tests: loop devices on sparse files. On a machine without loop devices, the test fails.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::tool::tool;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// One MiB in bytes.
pub const MIB: u64 = 1 << 20;

/// Machines have few loop devices: the tests of one binary use one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A blank disk on a file, detached when dropped.
#[derive(Debug)]
pub struct Loop {
    node: String,
    size: u64,
    _dir: TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Loop {
    /// Creates a disk of this size with this sector size, both in bytes.
    pub fn new(bytes: u64, sector: u32) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Self::attach(bytes, sector, Some(turn))
    }

    /// Creates another one for the same test.
    #[must_use]
    pub fn another(&self, bytes: u64, sector: u32) -> Self {
        Self::attach(bytes, sector, None)
    }

    fn attach(bytes: u64, sector: u32, turn: Option<MutexGuard<'static, ()>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let node = tool(
            "losetup",
            ["--find", "--show", "--sector-size", &sector.to_string(), image.to_str().unwrap()],
        );
        Self { node: node.trim().to_owned(), size: bytes, _dir: dir, _turn: turn }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The same, filled with this byte.
    #[must_use]
    pub fn filled(self, byte: u8) -> Self {
        self.write(0, &vec![byte; usize::try_from(self.size).unwrap()]);
        self
    }

    /// The device node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        self.node.trim_start_matches("/dev/")
    }

    /// Reads this many bytes from an offset.
    pub fn read(&self, at: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        File::open(&self.node).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// Writes bytes at an offset, and waits until they are on disk.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.node).unwrap();
        file.write_all_at(bytes, at).unwrap();
        file.sync_all().unwrap();
    }

    /// The `sha256sum` of the whole disk.
    pub fn hash(&self) -> String {
        tool("sha256sum", [&self.node])
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The kernel keeps partitions that were registered with it; a disk without any is not an error.
        let _ = Command::new("partx").args(["-d", &self.node]).output();
        let detached = Command::new("losetup").args(["-d", &self.node]).status();
        if !std::thread::panicking() {
            assert!(detached.unwrap().success(), "cannot detach {}", self.node);
        }
    }
}
