//! Partitions as files of an archive, from loop devices to loop devices: judged by cmp, fsck, and GNU tar.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use ka::archive::{Decoder, Kind, RawHoles};
use ka_agent::unpack::{Options, Partition, UnpackError, unpack};
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::run;
use kactl::golden::chosen::RawSource;
use kactl::golden::pack::{self, pack};
use nix::mount::{MsFlags, mount, umount};
use rustix::fs::OFlags;

use super::snapshot::{assert_same, snapshot};
use super::{room, untarred};

/// Runs a function in the file system on a device.
fn mounted<T: Send>(device: &Loop, kind: &str, work: impl FnOnce(&Path) -> T + Send) -> T {
    let at = room();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some(device.node()), at.path(), Some(kind), MsFlags::empty(), none).unwrap();
            let done = work(at.path());
            umount(at.path()).unwrap();
            done
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn source(golden: &Loop, kind: Option<&str>) -> RawSource {
    let device = golden.node().into();
    RawSource { name: "sda3".into(), device, size: golden.size(), kind: kind.map(str::to_owned) }
}

fn partition(device: &Loop, name: &str) -> Partition {
    let file = OpenOptions::new().write(true).open(device.node()).unwrap();
    Partition { name: name.into(), device: device.node().into(), file: Arc::new(file), size: device.size() }
}

/// The contents of a device.
fn bytes(device: &Loop) -> Vec<u8> {
    run("sync", [device.node()]);
    fs::read(device.node()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
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

/// A file system through the archive to a larger partition that is full of other data.
fn file_system(kind: &str, size: u64, larger: Option<u64>, make: &[&str], judge: (&str, &[&str])) -> Vec<u8> {
    let full = |device: Loop, byte| if larger.is_some() { device.filled(byte) } else { device };
    let golden = full(Loop::new(size, 512), 0xaa);
    let (tool, options) = make.split_first().unwrap();
    run(tool, &[options, &[golden.node()]].concat());
    mounted(&golden, kind, fill);
    let archive = packed(source(&golden, Some(kind)));
    assert_eq!(holes(&archive), RawHoles::Unused);
    let target = full(golden.another(larger.unwrap_or(size), 512), 0x55);
    written(&archive, vec![partition(&target, "sda3")]).unwrap();
    run(judge.0, &[judge.1, &[target.node()]].concat());
    let of = |device: &Loop| mounted(device, kind, snapshot);
    assert_same(&of(&golden), &of(&target));
    if larger.is_some() {
        let rest = bytes(&target).split_off(usize::try_from(size).unwrap());
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
    let size = 32 * MIB + 512;
    let golden = Loop::new(size, 512);
    let content = mixture(size);
    OpenOptions::new().write(true).open(golden.node()).unwrap().write_all_at(&content, 0).unwrap();
    let archive = packed(source(&golden, None));
    assert_eq!(holes(&archive), RawHoles::Zero);
    assert!((archive.len() as u64) < 8 * MIB, "{} bytes", archive.len());

    let target = golden.another(size + MIB, 512).filled(0xff);
    written(&archive, vec![partition(&target, "sda3")]).unwrap();
    let mut found = bytes(&target);
    let rest = found.split_off(content.len());
    assert!(found == content, "it differs");
    assert!(rest.iter().all(|byte| *byte == 0xff), "what is behind it was written");

    // If no partition is assigned to it, and for other tar programs, it is a file.
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
    let golden = Loop::new(16 * MIB, 512).filled(0xaa);
    run("mkfs.ext4", ["-q", "-E", "nodiscard", golden.node()]);
    run("debugfs", ["-w", "-R", "feature needs_recovery", golden.node()]);
    let archive = packed(source(&golden, Some("ext4")));
    assert_eq!(holes(&archive), RawHoles::Zero);
    let target = golden.another(16 * MIB, 512).filled(0x55);
    written(&archive, vec![partition(&target, "sda3")]).unwrap();
    assert!(bytes(&golden) == bytes(&target), "it differs");
}

#[test]
fn an_xfs_whose_log_is_needed_is_copied_whole() {
    let golden = Loop::new(320 * MIB, 512);
    run("mkfs.xfs", ["-q", golden.node()]);
    mounted(&golden, "xfs", |root| {
        fill(root);
        // As after a crash, but with the log on disk.
        run("xfs_io", ["-x", "-c", "shutdown -f", text(root)]);
    });
    let archive = packed(source(&golden, Some("xfs")));
    assert_eq!(holes(&archive), RawHoles::Zero);
    let target = golden.another(320 * MIB, 512);
    written(&archive, vec![partition(&target, "sda3")]).unwrap();
    assert_eq!(mounted(&target, "xfs", |root| fs::read_dir(root.join("folder")).unwrap().count()), 299);
}

#[test]
fn partitions_that_do_not_fit_or_belong_are_refused() {
    let golden = Loop::new(2 * MIB, 512).filled(0xaa);
    let archive = packed(source(&golden, None));
    let small = golden.another(2 * MIB - 512, 512).filled(0x55);
    let error = written(&archive, vec![partition(&small, "sda3")]).unwrap_err().to_string();
    assert!(error.contains("sda3 of 2097152 bytes") && error.contains("has 2096640"), "{error}");
    assert!(bytes(&small).iter().all(|byte| *byte == 0x55), "it was written");

    let large = golden.another(2 * MIB, 512).filled(0x55);
    let error = written(&archive, vec![partition(&large, "sda4")]).unwrap_err().to_string();
    assert!(error.contains("sda3, which is not in the plan"), "{error}");
    let error = written(&archive, vec![partition(&large, "sda3"), partition(&large, "sda4")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not contain the golden partition sda4"), "{error}");
    let twice = [&archive[..archive.len() - 1024], &archive[..]].concat();
    let error = written(&twice, vec![partition(&large, "sda3")]).unwrap_err().to_string();
    assert!(error.contains("sda3 twice"), "{error}");

    let changed = RawSource { size: MIB, ..source(&golden, None) };
    let options = pack::Options { partitions: vec![changed], ..Default::default() };
    let error = pack(&[], &options, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("has 2097152 bytes; the plan says 1048576"), "{error}");
}

/// An archive may come from an untrusted source.
#[test]
fn damaged_records_of_partitions_are_refused() {
    let golden = Loop::new(MIB, 512).filled(0xaa);
    let archive = packed(source(&golden, None));
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

/// The partition must not be written to from the first byte read to the last.
#[test]
fn a_partition_that_somebody_writes_to_is_no_copy() {
    let golden = Loop::new(16 * MIB, 512).filled(0xaa);
    // It must contain more than is collected before output is written.
    run("mkfs.ext4", ["-q", "-E", "nodiscard", golden.node()]);
    let pack_to = |out: &mut dyn std::io::Write| {
        let options = pack::Options { partitions: vec![source(&golden, None)], ..Default::default() };
        pack(&[], &options, out).map(drop).map_err(|e| e.to_string())
    };
    pack_to(&mut std::io::sink()).unwrap();
    let at = room();
    let at = text(at.path());
    run("mount", [golden.node(), at]);
    let mounted = pack_to(&mut std::io::sink());
    run("fsfreeze", ["--freeze", at]);
    let frozen = pack_to(&mut std::io::sink());
    let thawed = pack_to(&mut Meanwhile(Some(|| run("fsfreeze", ["--unfreeze", at]))));
    run("umount", [at]);
    frozen.unwrap();
    for (what, error) in [("mounted", mounted), ("thawed", thawed)] {
        assert!(error.as_ref().is_err_and(|e| e.contains("it is mounted at")), "{what}: {error:?}");
    }
    let written = pack_to(&mut Meanwhile(Some(|| golden.write(8192, b"somebody"))));
    assert!(written.unwrap_err().contains("sectors were written to it while it was read"));
    let held =
        OpenOptions::new().read(true).custom_flags(OFlags::EXCL.bits().cast_signed()).open(golden.node());
    assert!(pack_to(&mut std::io::sink()).unwrap_err().contains("open exclusively"));
    drop(held.unwrap());
    pack_to(&mut std::io::sink()).unwrap();
}

/// Receives a stream, and runs an action once when it begins.
struct Meanwhile<F>(Option<F>);

impl<F: FnOnce()> std::io::Write for Meanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(work) = self.0.take() {
            work();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Files on XFS with unwritten extents, holes and zeros: the clone has the correct contents, regardless of
/// who read the golden files before.
#[test]
fn holes_stay_holes_and_written_zeros_stay_data() {
    let golden = Loop::new(320 * MIB, 512);
    let target = golden.another(320 * MIB, 512);
    for device in [&golden, &target] {
        run("mkfs.xfs", ["-q", device.node()]);
    }
    const PART: u64 = 1 << 16;
    mounted(&golden, "xfs", |root| {
        let file = fs::File::create(root.join("file")).unwrap();
        // Data, an unwritten extent, data, a hole, zeros, data.
        for (at, byte) in [(0, 1), (2, 2), (4, 0), (5, 3)] {
            file.write_all_at(&vec![byte; usize::try_from(PART).unwrap()], at * PART).unwrap();
        }
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), PART, PART).unwrap();
    });
    for read_before in [false, true] {
        let archive = mounted(&golden, "xfs", |root| {
            if read_before {
                fs::read(root.join("file")).unwrap();
            }
            super::packed(root)
        });
        mounted(&target, "xfs", |root| drop(super::unpacked(&archive, root)));
        let [one, other] = [&golden, &target].map(|device| {
            mounted(device, "xfs", |root| {
                let file = snapshot(root).remove(Path::new("file")).unwrap();
                (file.data, file.hash, fs::metadata(root.join("file")).unwrap().blocks())
            })
        });
        assert_eq!(one.0, [(0, PART), (2 * PART, 3 * PART), (4 * PART, 6 * PART)]);
        let filled = [(0, 3 * PART), (4 * PART, 6 * PART)];
        assert!(other.0 == one.0 || read_before && other.0 == filled, "{:?}", other.0);
        assert_eq!(one.1, other.1);
        assert!(other.2 <= one.2, "the clone takes {} blocks, the golden file {}", other.2, one.2);
    }
}
