//! Partitions as files of an archive, from loop devices to loop devices: judged by cmp, fsck, and GNU tar.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ka::archive::{Decoder, Kind, RawHoles};
use ka_agent::unpack::{Options, Partition, UnpackError, unpack};
use kactl::golden::pack::{self, pack};
use kactl::golden::plan::RawSource;
use nix::mount::{MsFlags, mount, umount};
use tempfile::TempDir;

use super::snapshot::{assert_same, snapshot};
use super::{room, untarred};

const MIB: u64 = 1 << 20;

/// A file as a block device.
struct Loop {
    file: PathBuf,
    device: PathBuf,
}

impl Loop {
    /// A device of `size` bytes, all of them `fill`, or holes.
    fn new(room: &TempDir, name: &str, size: u64, fill: Option<u8>) -> Self {
        let file = room.path().join(name);
        match fill {
            Some(byte) => fs::write(&file, vec![byte; usize::try_from(size).unwrap()]).unwrap(),
            None => File::create(&file).unwrap().set_len(size).unwrap(),
        }
        let device = run("losetup", &["--find", "--show", text(&file)]);
        Self { file, device: device.trim().into() }
    }

    /// Works in the file system that is on it.
    fn mounted<T: Send>(&self, kind: &str, work: impl FnOnce(&Path) -> T + Send) -> T {
        let at = room();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let none: Option<&str> = None;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
                mount(Some(&self.device), at.path(), Some(kind), MsFlags::empty(), none).unwrap();
                let done = work(at.path());
                umount(at.path()).unwrap();
                done
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn source(&self, kind: Option<&str>) -> RawSource {
        let size = fs::metadata(&self.file).unwrap().len();
        RawSource { name: "sda3".into(), device: self.device.clone(), size, kind: kind.map(str::to_owned) }
    }

    fn target(&self, name: &str) -> Partition {
        let file = OpenOptions::new().write(true).open(&self.device).unwrap();
        let size = fs::metadata(&self.file).unwrap().len();
        Partition { name: name.into(), device: self.device.clone(), file: Arc::new(file), size }
    }

    /// What is on the device.
    fn bytes(&self) -> Vec<u8> {
        run("sync", &[text(&self.device)]);
        fs::read(&self.device).unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", text(&self.device)]);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|e| panic!("{tool}: {e}"));
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&said));
    String::from_utf8(output.stdout).unwrap()
}

fn packed(source: RawSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = pack::Options { partitions: vec![source], ..Default::default() };
    let summary = pack(&[], &options, &mut bytes).unwrap();
    assert_eq!((summary.entries, summary.bytes), (1, bytes.len() as u64));
    bytes
}

fn written(archive: &[u8], targets: Vec<Partition>) -> Result<(), UnpackError> {
    let root = room();
    let outcome = unpack(archive, root.path(), &Options { partitions: Some(targets), ..Options::default() });
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "a partition became a file");
    outcome.map(drop)
}

fn holes(archive: &[u8]) -> RawHoles {
    Decoder::new(archive).next_entry().unwrap().unwrap().partition.unwrap().holes
}

fn fill(root: &Path) {
    fs::create_dir(root.join("folder")).unwrap();
    for i in 0..300 {
        fs::write(root.join(format!("folder/{i}")), vec![b"abcdefghijklmnopqrstuvwxyz"[i % 26]; i * 37])
            .unwrap();
    }
    fs::remove_file(root.join("folder/7")).unwrap();
}

/// A file system through the archive to a larger partition that is full of something else.
fn file_system(kind: &str, size: u64, larger: Option<u64>, make: &[&str], judge: (&str, &[&str])) -> Vec<u8> {
    let room = room();
    let golden = Loop::new(&room, "golden", size, larger.map(|_| 0xaa));
    let (tool, options) = make.split_first().unwrap();
    run(tool, &[options, &[text(&golden.device)]].concat());
    golden.mounted(kind, fill);
    let archive = packed(golden.source(Some(kind)));
    assert_eq!(holes(&archive), RawHoles::Unused);
    let target = Loop::new(&room, "target", larger.unwrap_or(size), larger.map(|_| 0x55));
    written(&archive, vec![target.target("sda3")]).unwrap();
    run(judge.0, &[judge.1, &[text(&target.device)]].concat());
    let of = |device: &Loop| device.mounted(kind, snapshot);
    assert_same(&of(&golden), &of(&target));
    if larger.is_some() {
        let rest = target.bytes().split_off(usize::try_from(size).unwrap());
        assert!(rest.iter().all(|byte| *byte == 0x55), "what is behind it was written");
    }
    archive
}

#[test]
fn only_what_an_ext4_uses_travels() {
    let make = ["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0"];
    let archive = file_system("ext4", 64 * MIB, Some(80 * MIB), &make, ("e2fsck", &["-f", "-n"]));
    assert!(archive.len() < 24 << 20, "{} bytes", archive.len());
}

#[test]
fn only_what_an_xfs_uses_travels() {
    let archive = file_system("xfs", 320 * MIB, None, &["mkfs.xfs", "-q", "-K"], ("xfs_repair", &["-n"]));
    assert!(archive.len() < 100 << 20, "{} bytes", archive.len());
}

#[test]
fn only_what_a_btrfs_uses_travels() {
    let make = ["mkfs.btrfs", "-q", "-K"];
    let archive = file_system("btrfs", 128 * MIB, Some(160 * MIB), &make, ("btrfs", &["check"]));
    assert!(archive.len() < 64 << 20, "{} bytes", archive.len());
}

/// Bytes with runs of zeros of all lengths.
fn mixture(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let (mut state, mut at) = (7_u64, 0);
    while at < bytes.len() {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 40).unwrap()
        };
        let (len, gap) = (next() % 50_000, next() % 900_000);
        for byte in bytes.iter_mut().skip(at).take(len) {
            *byte = u8::try_from(next() & 255).unwrap();
        }
        at += len + gap;
    }
    bytes
}

#[test]
fn what_nobody_knows_arrives_to_the_byte() {
    let room = room();
    let size = 32 * MIB + 512;
    let golden = Loop::new(&room, "golden", size, None);
    let content = mixture(size);
    OpenOptions::new().write(true).open(&golden.device).unwrap().write_all_at(&content, 0).unwrap();
    let archive = packed(golden.source(None));
    assert_eq!(holes(&archive), RawHoles::Zero);
    assert!((archive.len() as u64) < 8 * MIB, "{} bytes", archive.len());

    let target = Loop::new(&room, "target", size + MIB, Some(0xff));
    written(&archive, vec![target.target("sda3")]).unwrap();
    let mut found = target.bytes();
    let rest = found.split_off(content.len());
    assert!(found == content, "it differs");
    assert!(rest.iter().all(|byte| *byte == 0xff), "what is behind it was written");

    // Where no partition waits for it, and for another tar, it is a file.
    for unpack_as_file in [
        |archive: &[u8], root: &Path| unpack(archive, root, &Options::default()).map(drop).unwrap(),
        untarred,
    ] {
        let folder = super::room();
        unpack_as_file(&archive, folder.path());
        assert!(fs::read(folder.path().join("KA.partitions/sda3")).unwrap() == content);
    }
}

#[test]
fn an_ext4_whose_journal_is_needed_is_copied_whole() {
    let room = room();
    let golden = Loop::new(&room, "golden", 16 * MIB, Some(0xaa));
    run("mkfs.ext4", &["-q", "-E", "nodiscard", text(&golden.device)]);
    run("debugfs", &["-w", "-R", "feature needs_recovery", text(&golden.device)]);
    let archive = packed(golden.source(Some("ext4")));
    assert_eq!(holes(&archive), RawHoles::Zero);
    let target = Loop::new(&room, "target", 16 * MIB, Some(0x55));
    written(&archive, vec![target.target("sda3")]).unwrap();
    assert!(golden.bytes() == target.bytes(), "it differs");
}

#[test]
fn an_xfs_whose_log_is_needed_is_copied_whole() {
    let room = room();
    let golden = Loop::new(&room, "golden", 320 * MIB, None);
    run("mkfs.xfs", &["-q", text(&golden.device)]);
    golden.mounted("xfs", |root| {
        fill(root);
        // As after a crash, but with the log on the disk.
        run("xfs_io", &["-x", "-c", "shutdown -f", text(root)]);
    });
    let archive = packed(golden.source(Some("xfs")));
    assert_eq!(holes(&archive), RawHoles::Zero);
    let target = Loop::new(&room, "target", 320 * MIB, None);
    written(&archive, vec![target.target("sda3")]).unwrap();
    assert_eq!(target.mounted("xfs", |root| fs::read_dir(root.join("folder")).unwrap().count()), 299);
}

#[test]
fn partitions_that_do_not_fit_or_belong_are_refused() {
    let room = room();
    let golden = Loop::new(&room, "golden", 2 * MIB, Some(0xaa));
    let archive = packed(golden.source(None));
    let small = Loop::new(&room, "small", 2 * MIB - 512, Some(0x55));
    let error = written(&archive, vec![small.target("sda3")]).unwrap_err().to_string();
    assert!(error.contains("sda3 of 2097152 bytes") && error.contains("has 2096640"), "{error}");
    assert!(small.bytes().iter().all(|byte| *byte == 0x55), "it was written");

    let large = Loop::new(&room, "large", 2 * MIB, Some(0x55));
    let error = written(&archive, vec![large.target("sda4")]).unwrap_err().to_string();
    assert!(error.contains("sda3, which was not planned"), "{error}");
    let error = written(&archive, vec![large.target("sda3"), large.target("sda4")]).unwrap_err().to_string();
    assert!(error.contains("does not bring the golden partition sda4"), "{error}");
    let twice = [&archive[..archive.len() - 1024], &archive[..]].concat();
    let error = written(&twice, vec![large.target("sda3")]).unwrap_err().to_string();
    assert!(error.contains("sda3 twice"), "{error}");

    let changed = RawSource { size: MIB, ..golden.source(None) };
    let options = pack::Options { partitions: vec![changed], ..Default::default() };
    let error = pack(&[], &options, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("has 2097152 bytes; the plan says 1048576"), "{error}");
}

/// An archive may come from anybody.
#[test]
fn damaged_records_of_partitions_are_refused() {
    let room = room();
    let golden = Loop::new(&room, "golden", MIB, Some(0xaa));
    let archive = packed(golden.source(None));
    let with = |from: &[u8], to: &[u8]| {
        let at = archive.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = archive.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        let first = Decoder::new(bytes.as_slice()).next_entry();
        first.map(|entry| assert!(matches!(entry.unwrap().kind, Kind::File { .. })))
    };
    assert!(with(b"KA.partition=sda3", b"KA.partition=sdb3").is_ok());
    for (from, to) in [
        (&b"KA.partition=sda3"[..], &b"KA.partition=../3"[..]),
        (b"KA.partition=sda3", b"KB.partition=sda3"),
        (b"KA.holes=zero", b"KA.holes=none"),
    ] {
        let error = with(from, to).unwrap_err().to_string();
        assert!(error.contains("damaged") || error.contains("is missing"), "{error}");
    }
}
