//! The disk that was confirmed is the disk that is erased, and whoever uses a disk is known before the first write.
//!
//! Needs root, loop devices, and `losetup`, `partx`, `mkfs.ext2`, `mount`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Storage};
use ka_agent::disk::{self, DiskError, overwrite};
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::process::program;
use ka_tests::tool::{run, tool};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn plan(disk: &Loop) -> Storage {
    let desc = Description::parse("linux 32\nlinux fill\n", "desc").unwrap();
    Storage::of(DiskPlan::new(disk.node().into(), desc), [(1, FileSystemPlan::new(FileSystemKind::Ext2))])
}

fn prepare(disk: &Loop) -> Result<(), DiskError> {
    let root = tempfile::tempdir().unwrap();
    disk::prepare(&disk::confirm_now(&plan(disk))?, root.path()).map(drop)
}

/// Why the disk is not written; nothing on it has changed.
fn refused(disk: &Loop) -> String {
    let before = disk.hash();
    let error = prepare(disk).unwrap_err().to_string();
    assert_eq!(disk.hash(), before, "{error}");
    assert!(error.contains("nothing was written"), "{error}");
    error
}

fn backing(disk: &Loop) -> String {
    tool("losetup", ["--noheadings", "--output", "BACK-FILE", disk.node()]).trim().to_owned()
}

/// Between the question and the answer the device gets another file.
#[test]
fn a_disk_that_changes_while_somebody_is_asked_is_not_written() {
    let disk = Loop::new(64 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let desc = work.path().join("desc");
    fs::write(&desc, "linux fill\n").unwrap();
    let other = work.path().join("other");
    File::create(&other).unwrap().set_len(64 * MIB).unwrap();
    let first = backing(&disk);
    let before = tool("sha256sum", [&first]);

    let mut child = Command::new(program("ka-agent"))
        .args(["disk", "apply", "--disk", disk.name(), "--desc", desc.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let out = child.stdout.as_mut().unwrap();
    while !shown.ends_with(b"to erase the disk: ") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    run("losetup", ["-d", disk.node()]);
    run("losetup", [disk.node(), other.to_str().unwrap()]);
    child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    let output = child.wait_with_output().unwrap();

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it is not the disk that was confirmed: its"), "{said}");
    assert_eq!(tool("sha256sum", [&first]), before);
    assert!(fs::read(&other).unwrap().iter().all(|b| *b == 0), "the other disk was written");
}

/// A process that has a file open until it is dropped.
struct Holder(Child);

impl Holder {
    fn of(node: &str, redirection: &str) -> Self {
        let script = format!("exec 3{redirection}\"$0\"; echo; read -r _");
        let mut child = Command::new("sh")
            .args(["-c", &script, node])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn an_old_partition_that_is_open_is_known_before_the_first_write() {
    let disk = Loop::new(100 * MIB, 512);
    prepare(&disk).unwrap();
    let first = format!("{}p1", disk.node());
    for (node, redirection) in [(first.as_str(), "<"), (first.as_str(), ">"), (disk.node(), "<>")] {
        let holder = Holder::of(node, redirection);
        let error = refused(&disk);
        assert!(error.contains("is open in sh (process "), "{error}");
        drop(holder);
    }
    // What cannot be seen in /proc, here as it is this process itself: the kernel tells.
    let second = File::open(format!("{}p2", disk.node())).unwrap();
    let error = refused(&disk);
    assert!(error.contains("p2 is open in a program"), "{error}");
    assert!(Path::new(&first).exists(), "the kernel has lost a partition");
    drop(second);
    // Whoever only reads the whole disk harms nobody.
    let reader = Holder::of(disk.node(), "<");
    prepare(&disk).unwrap();
    drop(reader);
}

#[test]
fn loop_devices_on_the_same_bytes_are_known() {
    let disk = Loop::new(100 * MIB, 512);
    prepare(&disk).unwrap();
    let attach = |arguments: &[&str]| {
        let node = tool("losetup", [&["--find", "--show"], arguments].concat());
        node.trim().to_owned()
    };
    let second = attach(&[&backing(&disk)]);
    let error = refused(&disk);
    run("losetup", ["-d", &second]);
    let name = second.trim_start_matches("/dev/");
    assert!(
        error.contains(&format!("{} and {name} are loop devices of the same file", disk.name())),
        "{error}"
    );

    for node in [disk.node().to_owned(), format!("{}p1", disk.node())] {
        let above = attach(&[&node]);
        let error = refused(&disk);
        run("losetup", ["-d", &above]);
        assert!(error.contains("backs the loop device"), "{error}");
    }
    prepare(&disk).unwrap();
}

/// As QEMU locks its disks: shared locks of the open file on single bytes.
fn lock(path: &str) -> File {
    let file = File::open(path).unwrap();
    let lock = libc::flock {
        l_type: libc::c_short::try_from(libc::F_RDLCK).unwrap(),
        l_whence: 0,
        l_start: 201,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    file
}

#[test]
fn a_disk_of_a_virtual_machine_is_known() {
    let disk = Loop::new(100 * MIB, 512);
    prepare(&disk).unwrap();
    for path in [disk.node().to_owned(), format!("{}p1", disk.node()), backing(&disk)] {
        let locked = lock(&path);
        let error = refused(&disk);
        assert!(error.contains("is locked by another program"), "{path}: {error}");
        assert!(overwrite::open(Path::new(disk.node())).is_err(), "{path}");
        drop(locked);
    }
    prepare(&disk).unwrap();
}

/// `ka-agent receive --file /dev/…`.
#[test]
fn a_device_in_use_is_not_overwritten() {
    let disk = Loop::new(100 * MIB, 512);
    prepare(&disk).unwrap();
    let work = tempfile::tempdir().unwrap();
    let point = work.path().to_str().unwrap();
    let first = format!("{}p1", disk.node());
    let open = |node: &str| overwrite::open(Path::new(node)).map_err(|e| e.to_string());
    run("mount", [first.as_str(), point]);
    let (whole, part) = (open(disk.node()), open(&first));
    let other = open(&format!("{}p2", disk.node()));
    run("umount", [point]);
    for refused in [whole, part] {
        let error = refused.unwrap_err();
        assert!(error.contains("is mounted at") && error.contains("nothing was written"), "{error}");
    }
    drop(other.unwrap());

    let taken = open(disk.node()).unwrap();
    assert!(open(disk.node()).is_err(), "taken twice");
    let mounted = Command::new("mount").args([first.as_str(), point]).output().unwrap();
    assert!(!mounted.status.success(), "mounted while it is overwritten");
    drop(taken);
    drop(open(&first).unwrap());
    assert!(open("/dev/null").unwrap_err().contains("no block device"));
}
