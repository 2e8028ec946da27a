//! A medium that takes writes, says that they are done, and does not keep them: what is read back shows it, wherever
//! something is read back, and then it is a failure with this reason.
//!
//! Needs root, `/dev/fuse`, loop devices, and `mkfs.ext4`, `mkfs.xfs`, `mkfs.btrfs`, `e2fsck`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use ka::disk::description::Description;
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Storage};
use ka_agent::disk::{self, Prepared};
use ka_tests::fault::disk::{Access, Effect, FaultyDisk, Rule};
use ka_tests::fault::file_system::{FaultyFileSystem, Kind};
use ka_tests::process::{Process, program};
use ka_tests::site::{MIB, Site, reasons};

const LOST: &str = "lost what was written to it without an error";

/// From now on the disk loses what is written to this part of it.
fn lose(disk: &FaultyDisk, from: f64, to: f64) {
    disk.harm(Rule { access: Access::Write, range: disk.part(from, to), effect: Effect::Lose });
}

/// Sends `source` to `sink`; both must say that the disk has lost it.
fn is_found(site: &Site, source: [&Path; 2], sink: [&Path; 2]) {
    let mut sender = site.send("a", 1, source);
    let mut receiver = site.receiver(&mut sender, "a", 0, sink);
    assert_eq!((sender.end(), receiver.end()), (1, 1), "{sink:?}: {}", receiver.said());
    let reason = reasons(&sender).pop().unwrap().unwrap();
    // btrfs has checksums of its own, and says so when it reads.
    assert!(reason.contains(LOST) || reason.contains("could not read"), "{sink:?}: {reason}");
    assert!(sink[0] != Path::new("--file") || !sink[1].is_file(), "{sink:?}: it has its name");
}

#[test]
fn what_a_receiver_has_written_is_read_back() {
    let site = Site::new();
    let file = site.noise("file", 20 * MIB, 1);
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    for i in 0..200 {
        let _ = site.noise(&format!("tree/{i}"), 50_000, i);
    }
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let made = FaultyFileSystem::new(kind);
        let out = made.path().join("out");
        lose(&made.disk, 0.0, 1.0);
        is_found(&site, ["--file".as_ref(), &file], ["--file".as_ref(), &out]);
        is_found(&site, ["--dir".as_ref(), &tree], ["--dir".as_ref(), &out]);
    }
    let disk = FaultyDisk::new(64 << 20);
    lose(&disk, 0.1, 0.2);
    is_found(&site, ["--file".as_ref(), &file], ["--file".as_ref(), disk.node().as_ref()]);
}

/// The same disk without the fault.
#[test]
fn what_was_kept_passes() {
    let site = Site::new();
    let file = site.noise("file", 20 * MIB, 1);
    let disk = FaultyDisk::new(64 << 20);
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--file", disk.node()]);
    assert_eq!((sender.end(), receiver.end()), (0, 0), "{}", receiver.said());
    let disk = FaultyDisk::new(200 << 20);
    let (status, said) = apply(&disk);
    assert!(status == 0 && !said.contains("nothing has checked"), "{said}");
}

fn apply(disk: &FaultyDisk) -> (i32, String) {
    let work = tempfile::tempdir().unwrap();
    let desc = work.path().join("desc");
    fs::write(&desc, "linux 64\nlinux fill\n").unwrap();
    let mut command = Command::new(program("ka-agent"));
    command.args(["disk", "apply", "--yes", "--fs", "ext4", "--disk", disk.node(), "--desc"]);
    let mut apply = Process::start(command.arg(&desc), "apply", work.path());
    (apply.end(), apply.said())
}

/// Not only the superblocks: the tables of an empty file system too.
#[test]
fn a_disk_that_loses_a_part_is_not_called_prepared() {
    // The table itself; the first file system's tables; the second's.
    for (from, to) in [(0.0, 1.0), (0.01, 0.05), (0.34, 0.5)] {
        let disk = FaultyDisk::new(200 << 20);
        // Whatever is lost differs from what was there: nothing on a used disk is zero by chance.
        let junk: Vec<u8> = (0..1 << 20).map(|i: u32| i.to_le_bytes()[1] | 1).collect();
        let node = fs::File::options().write(true).open(disk.node()).unwrap();
        (0..200).for_each(|i| node.write_all_at(&junk, i << 20).unwrap());
        node.sync_all().unwrap();
        drop(node);
        lose(&disk, from, to);
        let (status, said) = apply(&disk);
        assert_eq!(status, 1, "{from} to {to}: {said}");
    }
}

fn prepare(disk: &FaultyDisk, root: &Path) -> Prepared {
    let desc = Description::parse("linux 64\nlinux fill\n", "desc").unwrap();
    let of = |partition, point: &str| {
        let mut fs = FileSystemPlan::new(FileSystemKind::Ext4);
        fs.mount_point = Some(point.into());
        (partition, fs)
    };
    let plan = Storage::of(DiskPlan::new(disk.node().into(), desc), [of(1, "/boot"), of(2, "/")]);
    disk::prepare(&disk::confirm_now(&plan).unwrap(), root).unwrap()
}

/// Boot files are read back whole, of the others a sample; each part of the disk is lost by itself.
#[test]
fn a_node_whose_disk_loses_writes_does_not_become_bootable() {
    let (boot, root_part) = ((1.0 / 200.0, 65.0 / 200.0), (66.0 / 200.0, 1.0));
    for lost in [Some(boot), Some(root_part), None] {
        let disk = FaultyDisk::new(200 << 20);
        let work = tempfile::tempdir().unwrap();
        let root = work.path().join("root");
        let mut prepared = prepare(&disk, &root);
        if let Some((from, to)) = lost {
            lose(&disk, from, to);
        }
        fs::write(root.join("boot/vmlinuz"), vec![1; 5 << 20]).unwrap();
        for i in 0..40 {
            fs::write(root.join(format!("file-{i}")), vec![i; 1 << 20]).unwrap();
        }
        prepared.unmount().unwrap();
        let proven = prepared.prove().map_err(|e| e.to_string());
        disk.heal();
        prepared.abandon();
        assert_eq!(proven.is_err(), lost.is_some(), "{lost:?}: {proven:?}");
        assert!(proven.err().is_none_or(|e| e.contains(LOST) || e.contains("cannot mount it")));
    }
}
