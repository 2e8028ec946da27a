//! Every type of file system, created on loop devices and judged by blkid, its own checker, and, where this
//! kernel can mount it, by the kernel.
//!
//! Needs root, loop devices, and the tools of all types. File systems that this kernel cannot mount are
//! mounted in a virtual machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::archive::{Flags, Traits};
use ka::disk::choice::DiskChoice;
use ka::disk::description::Description;
use ka::plan::{
    Backing, Covered, DiskPlan, ExtSettings, FileSystemKind, FileSystemPlan, RawPlan, Shape, Storage,
    Subvolume,
};
use ka_agent::disk::{self, DiskError, MadeFileSystem, Prepared};
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::{run, tool};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// The contents to create on a partition, by its number.
type OnPartition = (u32, FileSystemPlan);

fn prepare(plan: Storage, root: &Path) -> Result<Prepared, DiskError> {
    disk::prepare(&disk::confirm_now(&plan)?, root)
}

fn prepare_all(plans: impl IntoIterator<Item = Storage>, root: &Path) -> Result<Prepared, DiskError> {
    let mut all = Storage::default();
    plans.into_iter().for_each(|plan| all.append(plan));
    prepare(all, root)
}

fn plan(disk: &Loop, description: &str, file_systems: Vec<OnPartition>) -> Storage {
    let description = Description::parse(description, "description").unwrap();
    Storage::of(DiskPlan::new(disk.node().into(), description), file_systems)
}

fn fs(partition: u32, kind: FileSystemKind, mount_point: Option<&str>) -> OnPartition {
    (partition, made(kind, mount_point))
}

fn made(kind: FileSystemKind, mount_point: Option<&str>) -> FileSystemPlan {
    FileSystemPlan { mount_point: mount_point.map(str::to_owned), ..FileSystemPlan::new(kind) }
}

fn features(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// blkid's findings on a device.
fn probe(device: &Path, key: &str) -> String {
    let text = tool("blkid", ["-p", "-o", "export", path(device)]);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().replace("\\ ", " ")
}

fn check(made: &MadeFileSystem) {
    let device = path(&made.device);
    assert_eq!(probe(&made.device, "TYPE"), made.plan.kind.name());
    assert_eq!(probe(&made.device, "UUID"), made.uuid);
    assert_eq!(probe(&made.device, "LABEL"), made.plan.label.clone().unwrap_or_default());
    assert_eq!(probe(&made.device, "PART_ENTRY_UUID"), made.partuuid);
    match made.plan.kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => run("e2fsck", ["-fn", device]),
        FileSystemKind::Xfs => run("xfs_repair", ["-n", device]),
        FileSystemKind::Jfs => run("fsck.jfs", ["-n", device]),
        FileSystemKind::Reiserfs => run("reiserfsck", ["--check", "-y", "-q", device]),
        FileSystemKind::Btrfs => run("btrfs", ["check", device]),
        FileSystemKind::Vfat => run("fsck.vfat", ["-n", device]),
        FileSystemKind::Swap => {}
    }
}

/// All types, in logical partitions and in a GPT, with both sector sizes; only those that this kernel
/// supports are mounted.
const LOGICALS: &str = "linux 40\nextended fill\nlogical linux 320\nlogical linux 320\nlogical linux 40\n\
    logical linux 40\nlogical linux 120\nlogical type b 64\nlogical linux 64\nlogical swap 20\n";
const GPT: &str = "label: gpt\nsize=40MiB, type=L\nsize=1MiB, type=L\nsize=320MiB, type=L\n\
    size=320MiB, type=L\nsize=40MiB, type=L\nsize=40MiB, type=L\nsize=120MiB, type=L\n\
    size=64MiB, type=U, name=\"EFI system\"\nsize=64MiB, type=L\nsize=20MiB, type=S\n";

fn all_kinds(first: u32) -> Vec<OnPartition> {
    let label = |text: &str, (number, plan): OnPartition| {
        (number, FileSystemPlan { label: Some(text.into()), ..plan })
    };
    vec![
        label("boot", fs(1, FileSystemKind::Ext2, Some("/boot"))),
        label("a system", fs(first, FileSystemKind::Xfs, Some("/"))),
        fs(first + 1, FileSystemKind::Xfs, Some("/boot/x")),
        label("journal", fs(first + 2, FileSystemKind::Ext3, Some("/var"))),
        label("jay", fs(first + 3, FileSystemKind::Jfs, None)),
        label("tree", fs(first + 4, FileSystemKind::Btrfs, Some("/srv"))),
        label("EFI", fs(first + 5, FileSystemKind::Vfat, None)),
        label("reiser", fs(first + 6, FileSystemKind::Reiserfs, None)),
        label("swap", fs(first + 7, FileSystemKind::Swap, None)),
    ]
}

#[test]
fn every_kind_is_made_as_logical_partitions() {
    let disk = Loop::new(1100 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let mut prepared =
        prepare(plan(&disk, &LOGICALS.replace("type b", "typeb"), all_kinds(5)), work.path()).unwrap();
    check_mounts(work.path(), &prepared);
    prepared.unmount().unwrap();
    let verdict = tool("sfdisk", ["--verify", disk.node()]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
    prepared.made.iter().for_each(check);
    prepared.activate(None).unwrap();
    let dump = tool("sfdisk", ["-d", disk.node()]);
    let active: Vec<_> = dump.lines().filter(|line| line.contains("bootable")).collect();
    assert!(matches!(active.as_slice(), [one] if one.contains("p1 ")), "{dump}");
}

#[test]
fn every_kind_is_made_in_a_gpt_with_sectors_of_4096_bytes() {
    let disk = Loop::new(1100 * MIB, 4096);
    let work = tempfile::tempdir().unwrap();
    // Reiserfs and JFS always have blocks of 4096 bytes.
    let mut prepared = prepare(plan(&disk, GPT, all_kinds(3)), work.path()).unwrap();
    check_mounts(work.path(), &prepared);
    prepared.unmount().unwrap();
    let verdict = tool("sgdisk", ["-v", disk.node()]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    assert!(tool("sfdisk", ["--verify", disk.node()]).contains("No errors detected"));
    prepared.made.iter().for_each(check);
    assert!(disk.read(0, 440).iter().all(|b| *b == 0));
    prepared.activate(Some(&disk::BootCode([0xeb; 440]))).unwrap();
    assert_eq!(disk.read(0, 440), [0xeb; 440]);
    assert!(tool("sgdisk", ["-v", disk.node()]).contains("No problems found"));
}

fn check_mounts(root: &Path, prepared: &Prepared) {
    let source = |at: &str| tool("findmnt", ["-n", "-o", "SOURCE", "--mountpoint", path(&root.join(at))]);
    for made in &prepared.made {
        let Some(point) = made.mount_points().next() else { continue };
        assert_eq!(source(point.trim_start_matches('/')).trim(), path(&made.device), "{point}");
    }
}

/// The new file systems have the settings of the golden ones.
#[test]
fn the_shape_is_kept() {
    let disk = Loop::new(1400 * MIB, 512);
    let uuids = ["11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555"];
    let shaped = |partition: u32, kind, shape: Shape| {
        let uuid = uuids.get(usize::try_from(partition).unwrap() - 1).map(|uuid| (*uuid).to_owned());
        (partition, FileSystemPlan { shape, uuid, ..made(kind, None) })
    };
    let ext = [
        "ext_attr",
        "resize_inode",
        "dir_index",
        "filetype",
        "needs_recovery",
        "sparse_super",
        "large_file",
        "has_journal",
        "extent",
    ];
    let mut fat = shaped(
        4,
        FileSystemKind::Vfat,
        Shape { block_size: Some(2048), fat_bits: Some(32), ..Shape::default() },
    );
    fat.1.uuid = Some("1a2b-3c4d".into());
    let plan = plan(
        &disk,
        "label: gpt\nsize=100MiB, type=L\nsize=320MiB, type=L\nsize=320MiB, type=L\nsize=300MiB, type=U\n\
         size=128MiB, type=L\nsize=64MiB, type=L\n",
        vec![
            shaped(
                1,
                FileSystemKind::Ext4,
                Shape {
                    block_size: Some(1024),
                    inode_size: Some(128),
                    bytes_per_inode: Some(2048),
                    reserved: Some(1500),
                    features: features(&ext),
                    ..Shape::default()
                },
            ),
            shaped(
                2,
                FileSystemKind::Xfs,
                Shape {
                    block_size: Some(1024),
                    inode_size: Some(512),
                    features: features(&["crc", "ftype", "finobt", "sparse"]),
                    ..Shape::default()
                },
            ),
            // The oldest form of XFS.
            shaped(3, FileSystemKind::Xfs, Shape { features: features(&["ftype"]), ..Shape::default() }),
            fat,
            shaped(
                5,
                FileSystemKind::Btrfs,
                Shape { features: features(&["extref", "skinny-metadata"]), ..Shape::default() },
            ),
            (
                6,
                FileSystemPlan {
                    // Twice as many as mke2fs creates by default.
                    inodes: 32_000,
                    shape: Shape { features: features(&["filetype"]), ..Shape::default() },
                    ..made(FileSystemKind::Ext2, None)
                },
            ),
        ],
    );
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(plan, work.path()).unwrap();
    prepared.made.iter().for_each(check);
    assert_eq!(prepared.made[0].uuid, uuids[0]);
    assert_eq!(prepared.made[3].uuid, "1A2B-3C4D");
    let device = |number: usize| path(&prepared.made[number - 1].device).to_owned();

    let dump = tool("dumpe2fs", ["-h", &device(1)]);
    let value = |key: &str| dump.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!((value("Block size:").as_str(), value("Inode size:").as_str()), ("1024", "128"));
    let (blocks, reserved): (u64, u64) =
        (value("Block count:").parse().unwrap(), value("Reserved block count:").parse().unwrap());
    assert_eq!(reserved, blocks * 15 / 1000);
    let inodes = |number| -> u64 {
        let dump = tool("dumpe2fs", ["-h", &device(number)]);
        dump.lines().find_map(|line| line.strip_prefix("Inode count:")).unwrap().trim().parse().unwrap()
    };
    assert!((51_200..52_000).contains(&inodes(1)), "{}", inodes(1));
    assert!((33_000..35_000).contains(&inodes(6)), "{}", inodes(6));
    let mut found: Vec<String> =
        value("Filesystem features:").split_whitespace().map(str::to_owned).collect();
    let mut expected: Vec<String> =
        ext.iter().filter(|f| **f != "needs_recovery").map(|f| (*f).to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    let info = tool("xfs_info", [&device(2)]);
    for part in [
        "isize=512",
        "bsize=1024",
        "crc=1",
        "finobt=1",
        "sparse=1",
        "rmapbt=0",
        "reflink=0",
        "bigtime=0 inobtcount=0",
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    let old = tool("xfs_info", [&device(3)]);
    assert!(old.contains("crc=0") && old.contains("ftype=1"), "{old}");
    let sector = fs::File::open(device(4)).unwrap();
    let mut boot = [0; 90];
    sector.read_exact_at(&mut boot, 0).unwrap();
    assert_eq!((boot[13], &boot[82..87]), (4, &b"FAT32"[..]), "2048 bytes in a cluster");
    let flags = tool("btrfs", ["inspect-internal", "dump-super", &device(5)]);
    assert!(flags.contains("EXTENDED_IREF") && !flags.contains("NO_HOLES"), "{flags}");
    assert!(!flags.contains("FREE_SPACE_TREE"), "{flags}");
}

/// Nested subvolumes, mounted in each other, with a non-default one as the default.
#[test]
fn subvolumes_are_made_and_mounted() {
    let disk = Loop::new(400 * MIB, 512);
    let subvolume = |name: &str, mount_point: Option<&str>| Subvolume {
        golden_id: None,
        path: name.to_owned(),
        mount_point: mount_point.map(str::to_owned),
        default: name == "@",
    };
    let btrfs = FileSystemPlan {
        subvolumes: vec![
            subvolume("@", None),
            subvolume("@home", Some("/home")),
            subvolume("@/var/lib/machines", None),
            subvolume("", Some("/top")),
        ],
        compress: Some("compress=zstd:1".to_owned()),
        ..made(FileSystemKind::Btrfs, Some("/"))
    };
    let plan = plan(
        &disk,
        "linux 256\nlinux fill\n",
        vec![(1, btrfs), fs(2, FileSystemKind::Ext4, Some("/home/deep"))],
    );
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("root");
    let mut prepared = prepare(plan, &root).unwrap();

    let listed = tool("btrfs", ["subvolume", "list", path(&root.join("top"))]);
    let paths: Vec<&str> = listed.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(paths, ["@", "@home", "@/var/lib/machines"]);
    let default = tool("btrfs", ["subvolume", "get-default", path(&root.join("top"))]);
    assert!(default.trim().ends_with("path @"), "{default}");
    fs::write(root.join("home/deep/file"), "data").unwrap();
    let options = tool("findmnt", ["-n", "-o", "OPTIONS", "--mountpoint", path(&root)]);
    assert!(options.contains("subvol=/@") && options.contains("compress=zstd:1"), "{options}");
    assert!(root.join("top/@/var/lib/machines").is_dir() && root.join("var/lib/machines").is_dir());

    prepared.unmount().unwrap();
    prepared.made.iter().for_each(check);
}

/// dumpe2fs, xfs_info and fsck.fat judge the settings that are not features.
#[test]
fn settings_are_made_as_the_golden_ones() {
    let disk = Loop::new(5400 * MIB, 512);
    let settings = ExtSettings {
        errors: 2,
        mount_options: 0x4 | 0x8 | 0x60 | 0x400,
        max_mounts: 30,
        check_interval: 7 * 86_400,
        journal: Some(32 * MIB),
        stride: 65_536,
        stripe_width: 262_144,
        cluster_size: Some(65_536),
    };
    let ext = Shape {
        block_size: Some(4096),
        features: features(&["has_journal", "extent", "filetype", "bigalloc", "fast_commit"]),
        ext: Some(settings),
        ..Shape::default()
    };
    let xfs = Shape { stripe: Some((65_536, 262_144)), ..Shape::default() };
    let shaped = |number, kind, shape| (number, FileSystemPlan { shape, ..made(kind, None) });
    let plan = plan(
        &disk,
        "label: gpt\nsize=512MiB, type=L\nsize=4200MiB, type=L\nsize=100MiB, type=U\n",
        vec![
            shaped(1, FileSystemKind::Ext4, ext),
            shaped(2, FileSystemKind::Xfs, xfs),
            shaped(3, FileSystemKind::Vfat, Shape::default()),
        ],
    );
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(plan, work.path()).unwrap();
    prepared.made.iter().for_each(check);
    let device = |number: usize| path(&prepared.made[number].device).to_owned();
    let told = tool("dumpe2fs", ["-h", &device(0)]);
    for line in [
        "Errors behavior:          Remount read-only",
        "Default mount options:    journal_data_writeback user_xattr acl discard",
        "Maximum mount count:      30",
        "Check interval:           604800",
        "RAID stride:              16",
        "RAID stripe width:        64",
        "Cluster size:             65536",
        "fast_commit",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let told = tool("xfs_db", ["-r", "-c", "sb 0", "-c", "p unit width", &device(1)]);
    assert_eq!(told, "unit = 16\nwidth = 64\n");
    let told = tool("fsck.fat", ["-nv", &device(2)]);
    assert!(told.contains("FATs, 32 bit entries"), "{told}");
    assert_eq!(probe(Path::new(&device(2)), "VERSION"), "FAT32");
}

/// Ceph finds a BlueStore by any of its labels, even on a partition that stays empty.
#[test]
fn no_label_of_a_bluestore_survives() {
    let disk = Loop::new(12 << 30, 512);
    let label = b"bluestore block device\n";
    let places = [0, 1 << 30, 10 << 30];
    for start in [0, MIB] {
        places.iter().for_each(|at| disk.write(start + at, label));
    }
    // Promise's RAID is recognised 1.5 MiB before the end.
    disk.write(disk.size() - 3087 * 512, label);
    let plan = plan(&disk, "typeda fill\n", vec![]);
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(plan, work.path()).unwrap();
    for at in [0, MIB].iter().flat_map(|start| places.map(|at| start + at)).chain([disk.size() - 3087 * 512])
    {
        assert_ne!(disk.read(at, label.len() as u64), label, "at {at}");
    }
    assert_eq!(probe(&Path::new(disk.node()).with_file_name(format!("{}p1", disk.name())), "TYPE"), "");
    drop(prepared);
}

/// The files that a mount covers match the golden node's once the mount is removed.
#[test]
fn covered_directories_are_made_as_the_golden_ones() {
    let disk = Loop::new(200 * MIB, 512);
    let covered = Covered {
        mount_point: "/srv/data".into(),
        mode: 0o2750,
        uid: 1000,
        gid: 1001,
        mtime: (-5, 123_456_789),
        xattrs: vec![(b"user.beneath".to_vec(), b"yes".to_vec())],
        // No files are written below a missing mount.
        traits: Traits { flags: Flags::IMMUTABLE, ..Traits::default() },
    };
    let data = FileSystemPlan { covered: vec![covered], ..made(FileSystemKind::Ext4, Some("/srv/data")) };
    let plan =
        plan(&disk, "linux 100\nlinux fill\n", vec![(2, data), fs(1, FileSystemKind::Ext4, Some("/"))]);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare(plan, work.path()).unwrap();
    fs::write(work.path().join("srv/data/file"), "above").unwrap();
    prepared.unmount().unwrap();

    run("mount", [&format!("{}p1", disk.node()), path(work.path())]);
    let beneath = work.path().join("srv/data");
    let found = fs::metadata(&beneath).unwrap();
    let xattr = tool("getfattr", ["--only-values", "-n", "user.beneath", "--absolute-names", path(&beneath)]);
    let empty = fs::read_dir(&beneath).unwrap().next().is_none();
    let flags = tool("lsattr", ["-d", path(&beneath)]);
    run("umount", [path(work.path())]);
    assert!(flags.split(' ').next().unwrap().contains('i'), "{flags}");
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o2750, 1000, 1001));
    assert_eq!((found.mtime(), found.mtime_nsec()), (-5, 123_456_789));
    assert_eq!((xattr.as_str(), empty), ("yes", true));
}

/// A data disk in addition to the system's, a raw partition, and boot code from the plan.
#[test]
fn several_disks_are_prepared_together() {
    let system = Loop::new(200 * MIB, 512);
    let data = system.another(200 * MIB, 4096);
    let mut first = plan(
        &data,
        "label: gpt\nsize=64MiB, type=L\nsize=32MiB, type=L\n",
        vec![fs(1, FileSystemKind::Ext4, Some("/srv"))],
    );
    let raw = RawPlan { name: "sdb2".into(), size: 30 * MIB, golden: None };
    first.add(Backing::Partition { disk: 0, number: 2 }, raw.into());
    first.disks[0].boot_code = Some([vec![0xda; 440], vec![0xff; 6]].concat());
    let second = plan(&system, "linux fill\n", vec![fs(1, FileSystemKind::Ext4, Some("/"))]);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare_all([first, second], work.path()).unwrap();

    assert_eq!(path(&prepared.disk), system.node());
    assert_eq!(
        tool("findmnt", ["-n", "-o", "SOURCE", "--mountpoint", path(&work.path().join("srv"))]).trim(),
        format!("{}p1", data.node())
    );
    let raw = prepared.raw_of("sdb2").unwrap();
    assert_eq!((raw.size, path(&raw.device)), (32 * MIB, format!("{}p2", data.node()).as_str()));
    assert!(prepared.raw_of("sdb1").is_none());
    let raw_node = raw.device.clone();
    raw.file.write_all_at(b"raw bytes", 4096).unwrap();
    prepared.unmount().unwrap();
    let mut written = [0; 9];
    fs::File::open(&raw_node).unwrap().read_exact_at(&mut written, 4096).unwrap();
    assert_eq!(&written, b"raw bytes");
    assert!(data.read(0, 440).iter().all(|b| *b == 0));
    prepared.activate(Some(&disk::BootCode([0xeb; 440]))).unwrap();
    assert_eq!(system.read(0, 440), [0xeb; 440]);
    assert_eq!(data.read(0, 440), [0xda; 440]);
    assert!(data.read(440, 6).iter().all(|b| *b == 0), "the golden disk's signature was copied");
    for node in [system.node(), data.node()] {
        assert!(tool("sfdisk", ["--verify", node]).contains("No errors detected"));
    }
    prepared.abandon();
    assert!(system.read(0, MIB).iter().chain(&data.read(0, MIB)).all(|b| *b == 0));
}

/// Problems with one disk are detected before the other is written.
#[test]
fn one_refused_disk_spares_the_other() {
    let good = Loop::new(100 * MIB, 512);
    let bad = good.another(20 * MIB, 512);
    good.write(0, &[0xfa; 512]);
    let untouched = (good.hash(), bad.hash());
    let chosen = |disk: DiskChoice| {
        let mut plan = plan(&bad, "linux fill\n", vec![]);
        plan.disks[0].disk = disk;
        plan
    };
    let first = || plan(&good, "linux fill\n", vec![fs(1, FileSystemKind::Ext4, Some("/"))]);
    let work = tempfile::tempdir().unwrap();
    for (second, reason) in [
        (plan(&bad, "linux 200\n", vec![]), "the description needs"),
        (plan(&good, "linux fill\n", vec![]), "mean the same disk"),
        (plan(&bad, "linux fill\n", vec![fs(1, FileSystemKind::Ext4, Some("/"))]), "is not a mount point"),
        (
            plan(&bad, "linux fill\n", vec![fs(1, FileSystemKind::Ext4, Some("/a/../b"))]),
            "is not a mount point",
        ),
        (
            plan(
                &bad,
                "linux fill\n",
                vec![(1, FileSystemPlan { uuid: Some("x".into()), ..made(FileSystemKind::Ext4, None) })],
            ),
            "expected a UUID",
        ),
        (chosen("sdzz".into()), "no such disk"),
        (
            chosen(format!("{}:size=4T", bad.name()).parse().unwrap()),
            "expected size `4.0 TB`, found `21.0 MB`",
        ),
    ] {
        let error = prepare_all([first(), second], work.path()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("nothing was written"), "{error}");
    }
    assert_eq!((good.hash(), bad.hash()), untouched);
}

/// The second disk's tool fails: both tables are removed.
#[test]
fn a_failure_on_the_second_disk_clears_both() {
    let first = Loop::new(64 * MIB, 512);
    let second = first.another(64 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    // Only mke2fs itself detects an inode size that it rejects.
    let plans = [
        plan(&first, "label: gpt\nsize=+, type=L\n", vec![fs(1, FileSystemKind::Ext4, None)]),
        plan(
            &second,
            "linux fill\n",
            vec![(
                1,
                FileSystemPlan {
                    shape: Shape { inode_size: Some(3), ..Shape::default() },
                    ..made(FileSystemKind::Ext2, None)
                },
            )],
        ),
    ];
    let error = prepare_all(plans, work.path()).unwrap_err().to_string();
    assert!(error.contains("mke2fs for"), "{error}");
    for disk in [&first, &second] {
        assert!(disk.read(0, MIB).iter().all(|b| *b == 0));
        assert!(disk.read(63 * MIB, MIB).iter().all(|b| *b == 0));
        assert!(!Path::new(&format!("{}p1", disk.node())).exists());
    }
}
