//! Plans from synthetic golden disks.

use super::disk::Job;
use super::*;
use crate::golden::scan::{Files, GoldenSubvolume, GoldenVolume, Usage};
use crate::golden::shape::{Made, Pool};
use ka::disk::description::DiskId;
use ka::disk::guid::Guid;
use ka::disk::kind::PartitionKind;
use ka::disk::table::{Finding, Table};
use ka::disk::units::{DiskSize, SectorSize};
use ka::inventory::Firmware;
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Loader, RawPlan, Shape};
use ka_host::blkid::Contents;
use ka_host::mountinfo::DeviceNumber;
use std::collections::{BTreeMap, BTreeSet};

/// No machine's root file system has this device number: the plans of these tests count no files.
const NODE: DeviceNumber = DeviceNumber { major: 4095, minor: 1 };

fn partition(number: u32, kind: &str, usage: Usage) -> GoldenVolume {
    let kind = (!kind.is_empty()).then(|| kind.to_owned());
    GoldenVolume {
        name: ka::plan::VolumeName::Partition(number),
        node: format!("/dev/vda{number}").into(),
        size: 1 << 30,
        kind: Some(PartitionKind::Mbr(0x83)),
        contents: Contents { kind, uuid: Some(format!("uuid-{number}")), ..Contents::default() },
        made: Made::default(),
        subvolumes: Vec::new(),
        links: vec![format!("/dev/disk/by-id/virtio-1-part{number}").into()],
        usage,
    }
}

fn mounted(at: &str, used_mb: u64) -> Usage {
    let (used, compress) = (used_mb << 20, None);
    Usage::Mounted { at: at.into(), device: NODE, used, inodes: 1000, compress, read_only: false }
}

fn golden(partitions: Vec<GoldenVolume>) -> GoldenDisk {
    let size = DiskSize::of_bytes(10 << 30, SectorSize::B512);
    GoldenDisk { name: "vda".to_owned(), size, table: Err("made up".to_owned()), partitions }
}

fn usual() -> GoldenDisk {
    golden(vec![
        partition(1, "ext4", mounted("/boot", 80)),
        partition(2, "swap", Usage::Swap),
        partition(3, "ext4", mounted("/", 400)),
    ])
}

fn request(disks: &[WantedDisk]) -> Request<'_> {
    Request {
        run: "r1",
        disks,
        exclude_dirs: &[],
        exclude_disks: &[],
        own_dirs: Vec::new(),
        raw: &[],
        boot_code: &[],
        scale: false,
        keep_uuids: false,
        sizes: &[],
        stage2: None,
        boot: BootPlan {
            initrd_modules: vec!["ata_piix".to_owned()],
            ..BootPlan::new(Loader::Grub, Firmware::Bios)
        },
        after: FinalAction::Reboot,
    }
}

/// The plan from the disk `vda` to the nodes' `sda`, with these partitions copied byte by byte.
fn decide(request: &Request<'_>, golden: &GoldenDisk, text: &str, raw: &[u32]) -> Result<Planned, PlanError> {
    let desc = Description::parse(text, "desc").unwrap();
    let raw: BTreeSet<PathBuf> = raw.iter().map(|number| format!("/dev/vda{number}").into()).collect();
    let mut planned = Planned::new(request, Vec::new());
    let groups = BTreeMap::new();
    let job = Job { request, golden, file: "desc", raw: &raw, groups: &groups };
    let storage = disk::plan(&job, "vda".into(), desc, &mut planned)?;
    planned.plan.storage.append(storage);
    check_root(&planned, std::slice::from_ref(golden))?;
    planned.sources.sort_by_key(|s| s.mount_point.components().count());
    Ok(planned)
}

fn decide_on(golden: &GoldenDisk, text: &str) -> Result<Planned, PlanError> {
    decide(&request(&[]), golden, text, &[])
}

fn refused(golden: &GoldenDisk, text: &str) -> String {
    decide_on(golden, text).unwrap_err().to_string()
}

fn made(planned: &Planned) -> &DiskPlan {
    let [disk] = planned.plan.storage.disks.as_slice() else { panic!("{planned:?}") };
    disk
}

/// The file systems by their partition numbers.
fn file_systems(planned: &Planned) -> Vec<(u32, &FileSystemPlan)> {
    let volumes = planned.plan.storage.partitions(0);
    volumes.filter_map(|(number, volume)| Some((number, volume.file_system()?))).collect()
}

fn raw_copies(planned: &Planned) -> Vec<(u32, &RawPlan)> {
    let volumes = planned.plan.storage.partitions(0);
    volumes.filter_map(|(number, volume)| Some((number, volume.raw()?))).collect()
}

fn sources(planned: &Planned) -> Vec<(&str, PathBuf)> {
    planned.sources.iter().map(|s| (s.mount_point.to_str().unwrap(), s.files.path())).collect()
}

/// None of this is in a description.
#[test]
fn an_active_protective_mbr_goes_with_the_plan() {
    let (mut disk, text) = (
        usual(),
        "linux 200
swap 100
linux fill
",
    );
    assert!(!decide_on(&disk, text).unwrap().plan.storage.disks[0].protective_active);
    disk.table = Ok(Table {
        disk: disk.size,
        id: DiskId::Gpt(Guid::NIL),
        length: 128,
        partitions: Vec::new(),
        findings: vec![Finding::ProtectiveActive],
    });
    assert!(decide_on(&disk, text).unwrap().plan.storage.disks[0].protective_active);
}

#[test]
fn partitions_correspond_by_number() {
    let planned = decide_on(&usual(), "linux 200\nswap 100\nlinux fill\n").unwrap();
    let made: Vec<_> = file_systems(&planned)
        .into_iter()
        .map(|(number, fs)| (number, fs.kind, fs.mount_point.as_deref(), fs.used >> 20))
        .collect();
    assert_eq!(
        made,
        [
            (1, FileSystemKind::Ext4, Some("/boot"), 80),
            (2, FileSystemKind::Swap, None, 0),
            (3, FileSystemKind::Ext4, Some("/"), 400),
        ]
    );
    let names = file_systems(&planned)[2].1.golden.clone().unwrap();
    assert_eq!(names.uuid.as_deref(), Some("uuid-3"));
    assert_eq!(names.devices, ["/dev/vda3", "/dev/disk/by-id/virtio-1-part3"]);
    assert_eq!(sources(&planned), [("/", "/".into()), ("/boot", "/boot".into())]);
    assert_eq!(planned.notes, Vec::<String>::new());
}

#[test]
fn every_kind_is_planned_with_its_shape() {
    let shape = Shape { block_size: Some(1024), features: Some(vec!["crc".into()]), ..Shape::default() };
    for kind in FileSystemKind::ALL.into_iter().filter(|kind| *kind != FileSystemKind::Swap) {
        let mut disk = golden(vec![partition(1, kind.name(), mounted("/", 20))]);
        disk.partitions[0].made.shape = shape.clone();
        disk.partitions[0].contents.label = Some("top".into());
        let planned = decide_on(&disk, "linux fill\n").unwrap();
        let [(_, fs)] = file_systems(&planned)[..] else { panic!("{planned:?}") };
        assert_eq!((fs.kind, &fs.shape, fs.label.as_deref(), &fs.uuid), (kind, &shape, Some("top"), &None));
    }
}

#[test]
fn logical_partitions_and_a_gpt_are_planned_alike() {
    let disk = golden(vec![
        partition(1, "ext2", mounted("/boot", 80)),
        partition(5, "swap", Usage::Swap),
        partition(6, "xfs", mounted("/", 100)),
    ]);
    let planned =
        decide_on(&disk, "linux 200\nextended fill\nlogical swap 100\nlogical linux fill\n").unwrap();
    let numbers: Vec<u32> = file_systems(&planned).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 5, 6]);
    let mut disk = usual();
    disk.partitions[0] = partition(1, "vfat", mounted("/boot/efi", 1));
    let planned = decide_on(&disk, "label: gpt\nsize=100M, type=U\nsize=100M, type=S\ntype=L\n").unwrap();
    assert_eq!(file_systems(&planned)[0].1.kind, FileSystemKind::Vfat);
}

#[test]
fn what_is_wrong_is_told_by_file_line_and_partition() {
    let table = [
        ("linux 200\nswap 100\n", "desc: expected a partition 3: /dev/vda3 is ext4, mounted at /"),
        (
            "linux 200\n\nlinux 100\nlinux fill\n",
            "desc:3: expected `swap` for partition 2, found `linux`: /dev/vda2 is swap, in use",
        ),
        (
            "linux 200\nswap 100\n# root\nswap fill\n",
            "desc:4: expected a type for files, such as `linux` for partition 3, found `swap`: /dev/vda3 is ext4, mounted at /",
        ),
        (
            "linux 200\nswap 100\nlinux 300\n",
            "desc:3: partition 3 has 300 MB, too small for the 400 MB that the golden one uses",
        ),
        (
            "linux 200\nswap 100\nextended fill\nlogical linux fill\n",
            "desc: expected a partition 3: /dev/vda3 is ext4, mounted at /",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(refused(&usual(), text), expected);
    }
}

/// Sectors without a size get the golden disk's, and a GPT has no end.
#[test]
fn sizes_are_those_of_the_golden_disk() {
    let disk = golden(vec![partition(1, "ext4", mounted("/", 400))]);
    for text in
        ["label: gpt\nstart=2048,size=7814035080,type=linux\n", "label: gpt\nsize=18TiB, type=linux\n"]
    {
        let planned = decide_on(&disk, text).unwrap();
        assert_eq!(made(&planned).desc.header().sector, Some(SectorSize::B512), "{text}");
    }
    for text in ["size=204800, type=83\n", "label: gpt\nsize=204800, type=linux\n"] {
        let error = refused(&disk, text);
        assert!(error.contains("partition 1 has 100 MB, too small for the 400 MB"), "{error}");
    }
    // The description takes precedence.
    decide_on(&disk, "sector-size: 4096\nsize=204800, type=83\n").unwrap();
    let mut large = golden(vec![partition(1, "ext4", mounted("/", 400))]);
    large.size = DiskSize::of_bytes(10 << 30, SectorSize::B4096);
    decide_on(&large, "size=204800, type=83\n").unwrap();
}

#[test]
fn files_that_share_blocks_count_one_by_one() {
    // The space in use, the size of the copied and of the excluded files; complete or partial, compressed or
    // not.
    for (used, trees, left_out, all, compressed, expected) in [
        (10, None, 4, true, false, 6),
        (10, Some(8), 4, true, false, 6),
        (10, Some(30), 4, true, false, 26),
        (10, Some(8), 4, false, false, 4),
        (10, Some(30), 4, false, false, 26),
        (10, Some(30), 0, true, true, 10),
        // A third of their size is a third of the space they use.
        (10, Some(30), 10, true, true, 7),
        (10, Some(30), 4, false, true, 10),
        (10, Some(8), 4, false, true, 4),
        (0, Some(0), 0, true, true, 0),
    ] {
        let found = disk::needed(used, trees, left_out, all, compressed);
        assert_eq!(found, expected, "{used} {trees:?} {left_out} {all} {compressed}");
    }
}

#[test]
fn inodes_and_compression_go_with_the_plan() {
    let of = |kind: &str| {
        let mut disk = golden(vec![partition(1, kind, mounted("/", 200))]);
        let Usage::Mounted { compress, .. } = &mut disk.partitions[0].usage else { unreachable!() };
        *compress = Some("compress=zstd:3".to_owned()).filter(|_| kind == "btrfs");
        let planned = decide_on(&disk, "linux fill\n").unwrap();
        let fs = file_systems(&planned)[0].1;
        (fs.inodes, fs.compress.clone())
    };
    assert_eq!(of("ext3"), (1000, None));
    assert_eq!(of("xfs"), (0, None));
    assert_eq!(of("btrfs"), (0, Some("compress=zstd:3".to_owned())));
    let mut many = golden(vec![partition(1, "ext4", mounted("/", 100))]);
    let Usage::Mounted { inodes, .. } = &mut many.partitions[0].usage else { unreachable!() };
    *inodes = 1_000_000;
    let error = refused(&many, "linux 512\n");
    assert!(
        error.starts_with("desc:1: partition 1 has 512 MB, which gives ext4 at most 524288 inodes"),
        "{error}"
    );
}

/// A tool that rejects a label would do so on every node, after its disk is erased.
#[test]
fn a_label_that_no_tool_takes_is_left_out() {
    let of = |kind: &str, label: &str| {
        let mut disk =
            golden(vec![partition(1, "ext4", mounted("/", 20)), partition(2, kind, Usage::Unused)]);
        disk.partitions[1].contents.label = Some(label.to_owned());
        let planned = decide_on(&disk, "linux fill\nlinux 100\n").unwrap();
        let fs = file_systems(&planned)[1].1.clone();
        assert_eq!(fs.label.is_none(), planned.notes.iter().any(|n| n.contains("no label")), "{planned:?}");
        assert_eq!(planned.lost.count(NoteKind::Setting), u64::from(fs.label.is_none()), "{planned:?}");
        fs.label
    };
    for label in ["EFI", "my disk", "small", "A-B_C~1"] {
        assert_eq!(of("vfat", label).as_deref(), Some(label));
    }
    for label in ["A.B", "A+B", "a\"b", "é", " A", "A\u{fffd}", "TWELVE CHARS", "A\tB"] {
        assert_eq!(of("vfat", label), None, "{label}");
    }
    assert_eq!(of("ext4", "A.B é").as_deref(), Some("A.B é"));
    assert_eq!(of("ext4", "caf\u{fffd}"), None);
}

#[test]
fn what_cannot_be_copied_is_named_with_the_way_out() {
    let text = "linux 200\nswap 100\nlinux fill\n";
    let mut disk = usual();
    for (replaced, expected) in [
        (
            partition(1, "ntfs", mounted("/win", 80)),
            "/dev/vda1 is ntfs, mounted at /win: files are copied from",
        ),
        (
            partition(1, "LVM2_member", Usage::Held { by: "dm-0".to_owned() }),
            "/dev/vda1 is LVM2_member, part of dm-0: LVM, RAID and LUKS that are in use",
        ),
        (
            partition(1, "zfs_member", Usage::Exclusive),
            "/dev/vda1 is zfs_member, in use by an unknown program",
        ),
    ] {
        disk.partitions[0] = replaced;
        let error = refused(&disk, text);
        assert!(error.starts_with(expected), "{error}");
    }
    disk.partitions[0] = partition(1, "btrfs", mounted("/srv", 80));
    disk.partitions[0].made.pool = Some(Pool { devices: 2 });
    assert!(refused(&disk, text).contains("a btrfs of several devices"));
}

#[test]
fn the_root_file_system_must_be_on_the_disk() {
    let disk = golden(vec![partition(1, "ext4", mounted("/srv", 1))]);
    let text = refused(&disk, "linux fill\n");
    assert!(text.contains("expected it on a partition of vda"), "{text}");
}

#[test]
fn what_is_not_copied_is_noted() {
    let disk = golden(vec![
        partition(1, "ext4", mounted("/", 400)),
        partition(2, "ext4", Usage::Unused),
        partition(3, "", Usage::Unused),
        partition(4, "vfat", Usage::Unused),
    ]);
    let planned = decide_on(&disk, "linux fill\nlinux 100\ntype7 100\n").unwrap();
    assert_eq!(
        planned.notes,
        [
            "the clones have no partition 4: /dev/vda4 is vfat, not in use",
            "partition 2 is created empty: /dev/vda2 is ext4, not in use",
            "partition 3 is created without a file system: /dev/vda3 is without a file system, not in use",
        ]
    );
    assert_eq!(file_systems(&planned).len(), 2);
}

#[test]
fn what_nobody_knows_is_copied_as_it_is() {
    let disk = golden(vec![
        partition(1, "ext4", mounted("/", 400)),
        partition(2, "ntfs", Usage::Unused),
        partition(3, "crypto_LUKS", Usage::Unused),
    ]);
    let planned = decide_on(&disk, "linux fill\ntype7 1024\nlinux 2000\n").unwrap();
    let raw: Vec<_> =
        raw_copies(&planned).iter().map(|(number, r)| (*number, r.name.as_str(), r.size)).collect();
    assert_eq!(raw, [(2, "vda2", 1 << 30), (3, "vda3", 1 << 30)]);
    assert_eq!(planned.raw[0].device, Path::new("/dev/vda2"));
    assert_eq!(planned.notes[0], "partition 2 is copied as it is: /dev/vda2 is ntfs, not in use");
    let error = refused(&disk, "linux fill\ntype7 1023\nlinux 2000\n");
    assert!(error.starts_with("desc:2: partition 2 has 1072693248 bytes, and the golden"), "{error}");
}

#[test]
fn a_partition_that_a_person_names_is_copied_as_it_is() {
    let mut disk = usual();
    disk.partitions.push(partition(4, "ext4", mounted("/srv", 7)));
    let text = "linux 200\nswap 100\nlinux fill\nlinux 1024\n";
    let planned = decide(&request(&[]), &disk, text, &[4]).unwrap();
    assert_eq!(raw_copies(&planned).len(), 1);
    assert_eq!(file_systems(&planned).len(), 3);
    assert!(planned.sources.iter().all(|s| s.mount_point != Path::new("/srv")), "it is copied twice");
    assert_eq!(planned.notes, Vec::<String>::new());
    let missing = decide(&request(&[]), &disk, "linux 200\nswap 100\nlinux fill\n", &[4]).unwrap_err();
    assert_eq!(missing.to_string(), "desc: expected a partition 4: /dev/vda4 is ext4, mounted at /srv");
}

#[test]
fn what_is_written_while_it_is_read_is_not_copied_as_it_is() {
    let thawed = |_: &Path| Ok(false);
    for (usage, expected) in [
        (mounted("/srv", 1), "it is mounted at /srv, and what is written"),
        (Usage::Swap, "it is in use as swap"),
        (Usage::Held { by: "md0".into() }, "it is part of md0"),
        (Usage::Exclusive, "an unknown program"),
    ] {
        let error = raw::check(&partition(1, "ext4", usage), thawed).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut read_only = mounted("/srv", 0);
    if let Usage::Mounted { read_only, .. } = &mut read_only {
        *read_only = true;
    }
    for (usage, frozen) in [(Usage::Unused, false), (read_only, false), (mounted("/srv", 1), true)] {
        raw::check(&partition(1, "ext4", usage), |_: &Path| Ok(frozen)).unwrap();
    }
    let mut extended = partition(2, "", Usage::Unused);
    extended.kind = Some(PartitionKind::Mbr(5));
    assert!(raw::check(&extended, thawed).unwrap_err().contains("logical partitions"));
}

#[test]
fn uuids_and_sizes_are_kept_or_scaled_as_it_was_asked_for() {
    let request = Request { keep_uuids: true, scale: true, ..request(&[]) };
    let planned = decide(&request, &usual(), "linux 200\nswap 100\nlinux 2000\n", &[]).unwrap();
    let disk = made(&planned);
    assert!(disk.keep_ids);
    assert_eq!(disk.scale_from, Some(10 << 30));
    let uuids: Vec<_> =
        file_systems(&planned).into_iter().map(|(_, fs)| fs.uuid.as_deref().unwrap()).collect();
    assert_eq!(uuids, ["uuid-1", "uuid-2", "uuid-3"]);
}

fn subvolume(path: &str, mounted_at: Option<&str>, files: Option<(&str, &str)>) -> GoldenSubvolume {
    GoldenSubvolume {
        path: path.into(),
        mount_point: mounted_at.map(PathBuf::from),
        files: files.map(|(at, below)| Files { mounted_at: at.into(), below: below.into(), device: NODE }),
        snapshot: path.contains("snap"),
        default: path == "@",
        id: 256,
    }
}

#[test]
fn subvolumes_are_made_and_copied_where_they_are_mounted() {
    let mut disk = golden(vec![partition(1, "btrfs", mounted("/", 300))]);
    disk.partitions[0].subvolumes = vec![
        subvolume("", None, None),
        subvolume("@", Some("/"), Some(("/", ""))),
        subvolume("@home", Some("/home"), Some(("/home", ""))),
        subvolume("old", None, None),
        subvolume("@/snap", None, None),
        subvolume("@/var/lib/machines", None, Some(("/", "var/lib/machines"))),
    ];
    let planned = decide_on(&disk, "linux fill\n").unwrap();
    let [(_, fs)] = file_systems(&planned)[..] else { panic!("{planned:?}") };
    assert_eq!((fs.mount_point.as_deref(), fs.used >> 20), (None, 300));
    let told: Vec<_> =
        fs.subvolumes.iter().map(|s| (s.path.as_str(), s.mount_point.as_deref(), s.default)).collect();
    assert_eq!(
        told,
        [
            ("@", Some("/"), true),
            ("@home", Some("/home"), false),
            ("old", None, false),
            ("@/var/lib/machines", None, false),
        ]
    );
    assert_eq!(
        sources(&planned),
        [("/", "/".into()), ("/home", "/home".into()), ("/var/lib/machines", "/var/lib/machines".into()),]
    );
    assert_eq!(
        planned.notes,
        [
            "/dev/vda1: subvolume old is created empty: neither it nor a subvolume that contains it is mounted",
            "/dev/vda1: 1 snapshots are not copied: @/snap",
        ]
    );
    assert_eq!(planned.lost.count(NoteKind::MountLeftOut), 2, "a part of the result");
}

#[test]
fn limits_of_quotas_are_told_and_counted_as_lost() {
    let mut disk =
        golden(vec![partition(1, "xfs", mounted("/", 20)), partition(2, "ext4", mounted("/home", 20))]);
    assert!(decide_on(&disk, "linux fill\nlinux 100\n").unwrap().lost.is_empty());
    disk.partitions[0].made.quotas = true;
    disk.partitions[1].made.shape.features = Some(vec!["extent".to_owned(), "quota".to_owned()]);
    let planned = decide_on(&disk, "linux fill\nlinux 100\n").unwrap();
    let told: Vec<_> = planned.notes.iter().filter(|note| note.contains("limits are not")).collect();
    assert_eq!((told.len(), planned.lost.count(NoteKind::Setting)), (2, 2), "{planned:?}");
}

#[test]
fn a_btrfs_without_subvolumes_is_like_any_other() {
    let mut disk = golden(vec![partition(1, "btrfs", mounted("/", 200))]);
    disk.partitions[0].subvolumes = vec![subvolume("", Some("/"), Some(("/", "")))];
    let planned = decide_on(&disk, "linux fill\n").unwrap();
    let [(_, fs)] = file_systems(&planned)[..] else { panic!("{planned:?}") };
    assert_eq!((fs.mount_point.as_deref(), fs.subvolumes.len()), (Some("/"), 0));
}

#[test]
fn nodes_must_have_the_tools() {
    let stage2 = tempfile::tempdir().unwrap();
    let disk = golden(vec![partition(1, "ext4", mounted("/", 9)), partition(2, "xfs", mounted("/srv", 9))]);
    let planned = decide_on(&disk, "linux fill\nlinux 2000\n").unwrap();
    let error = tools::check(stage2.path(), &planned.plan).unwrap_err().to_string();
    assert!(error.starts_with("/dev/vda2 is xfs, and ") && error.contains("install xfsprogs"), "{error}");
    std::fs::create_dir_all(stage2.path().join("usr/sbin")).unwrap();
    std::fs::write(stage2.path().join("usr/sbin/mkfs.xfs"), "").unwrap();
    tools::check(stage2.path(), &planned.plan).unwrap();
}

#[test]
fn boot_code_is_for_a_disk_without_a_boot_loader() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("code");
    let wanted = [WantedBootCode { disk: "vda".into(), file: Some(file.clone()) }];
    let disk = usual();
    let storage = decide_on(&disk, "linux 200\nswap 100\nlinux fill\n").unwrap().plan.storage;
    let with =
        |loader| Request { boot_code: &wanted, boot: BootPlan::new(loader, Firmware::Bios), ..request(&[]) };
    for (length, expected) in [(440, Some(446)), (446, Some(446)), (512, Some(446)), (0, None), (447, None)] {
        std::fs::write(&file, vec![7; length]).unwrap();
        let mut with_code = storage.clone();
        let added = boot_code::add(&with(Loader::None), &disk, &mut with_code);
        assert_eq!(added.is_ok(), expected.is_some(), "{length} bytes");
        assert_eq!(with_code.disks[0].boot_code.as_ref().map(Vec::len), expected, "{length} bytes");
    }
    let error = boot_code::add(&with(Loader::Grub), &disk, &mut storage.clone()).unwrap_err().to_string();
    assert!(error.contains("-r none"), "{error}");
    let none = GoldenDisk { name: "vdb".into(), ..disk };
    let error = boot_code::check(&with(Loader::None), &[none]).unwrap_err().to_string();
    assert_eq!(error, "boot code for vda: it is not a disk that is copied (-p)");
}

#[test]
fn excluded_directories_ask_for_no_room() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    std::fs::write(dir.path().join("below/file"), vec![1; 1 << 20]).unwrap();
    std::fs::write(dir.path().join("linked"), vec![1; 1 << 20]).unwrap();
    std::fs::hard_link(dir.path().join("linked"), dir.path().join("below/too")).unwrap();
    rustix::fs::sync();
    let device = DeviceNumber::of(std::fs::metadata(dir.path()).unwrap().dev());
    let twice = [dir.path().to_owned(), dir.path().join("below")];
    assert_eq!(exclude::left_out(&twice, device), 1 << 20);
    assert_eq!(exclude::left_out(&twice, DeviceNumber { major: 0, minor: 0 }), 0);
    assert_eq!(exclude::used_in(dir.path(), device), 2 << 20);
    // Data that btrfs stores next to a file's name takes no block, regardless of the kernel's figure.
    std::fs::write(dir.path().join("small"), "12345").unwrap();
    rustix::fs::sync();
    assert_eq!(exclude::used_in(dir.path(), device), (2 << 20) + 5);
}

#[test]
fn a_link_to_a_directory_leaves_out_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(top.join("real/below")).unwrap();
    std::fs::write(top.join("file"), "").unwrap();
    std::os::unix::fs::symlink("real", top.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", top.join("dangling")).unwrap();
    let excluded_by = |paths: &[&str]| {
        let dirs: Vec<PathBuf> = paths.iter().map(|path| top.join(path)).collect();
        exclude::directories(&dirs, &[])
    };

    assert_eq!(excluded_by(&["link"]).unwrap(), [top.join("real")]);
    assert_eq!(excluded_by(&["link/below/", "real/below/../below"]).unwrap(), [top.join("real/below")]);
    for none in ["dangling", "file", "missing"] {
        assert!(matches!(excluded_by(&[none]), Err(PlanError::NoDirectory(dir)) if dir == top.join(none)));
    }
    assert!(matches!(exclude::directories(&[PathBuf::from(".")], &[]), Err(PlanError::NoDirectory(_))));
    let own = exclude::directories(&[], &[top.join("link/below"), top.join("missing")]).unwrap();
    assert_eq!(own, [top.join("missing"), top.join("real/below")]);
}

#[test]
fn a_node_with_the_other_firmware_gets_what_it_needs() {
    let root = tempfile::tempdir().unwrap();
    let convert = |desc: &str| {
        let mut planned = decide(&request(&[]), &usual(), desc, &[]).unwrap();
        firmware::convert(&mut planned, root.path());
        planned
    };
    let with_esp = convert("label: gpt\nsize=200M, type=L\nsize=100M, type=S\ntype=L\nsize=100M, type=U\n");
    let esp = with_esp.plan.storage.partition(0, 4).unwrap().file_system().unwrap();
    assert_eq!((esp.kind, esp.mount_point.as_deref()), (FileSystemKind::Vfat, Some("/boot/efi")));
    assert!(with_esp.other_firmware.unwrap().contains("grub-efi-amd64-bin"));

    let install = root.path().join("usr/sbin/grub-install");
    let modules = root.path().join("usr/lib/grub/x86_64-efi/kernel.img");
    for file in [install, modules] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    }
    let without = convert("linux 200\nswap 100\nlinux fill\n");
    assert_eq!(without.other_firmware, None);
    let reason = ka::boot::refusal(&without.plan, Firmware::Uefi).unwrap();
    assert!(reason.contains("--firmware auto"), "the plan of this test does not ask for it: {reason}");
}

#[test]
fn a_system_whose_kernels_no_node_could_boot_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let boot = root.path().join("boot");
    std::fs::create_dir_all(&boot).unwrap();
    let check = |loader| {
        let mut planned = Planned::new(&request(&[]), Vec::new());
        planned.plan.boot.loader = loader;
        check_kernels(&mut planned, root.path()).map(|()| planned.notes).map_err(|e| e.to_string())
    };
    assert!(check(Loader::Grub).unwrap_err().contains("this system has no kernel in /boot"));
    let notes = check(Loader::None).unwrap();
    assert!(notes[0].contains("no initrd is built on the nodes"), "{notes:?}");
    std::fs::write(boot.join("vmlinuz-6"), "").unwrap();
    std::fs::create_dir_all(root.path().join("lib/modules/6")).unwrap();
    assert_eq!(check(Loader::Grub), Ok(Vec::new()));
}
