//! Descriptions of synthetic golden disks.

use super::*;
use crate::golden::scan::Usage;
use crate::golden::shape::Made;
use ka::disk::description::{DiskId, DiskSignature};
use ka::disk::guid::Guid;
use ka::disk::layout::Placed;
use ka::disk::table::{Finding, Table};
use ka::disk::units::{DiskSize, Lba, SectorCount, SectorSize};
use ka_host::blkid::Contents;
use ka_host::mountinfo::DeviceNumber;

const LINUX: PartitionKind = PartitionKind::Mbr(0x83);
const SWAP: PartitionKind = PartitionKind::Mbr(0x82);
const EXTENDED: PartitionKind = PartitionKind::Mbr(0x05);

fn placed(number: u32, kind: PartitionKind, start_mb: u64, kib: u64) -> Placed {
    let role = match number {
        _ if kind.is_extended() => Role::Extended,
        5.. if kind.table() == TableKind::Mbr => Role::Logical,
        _ => Role::Primary,
    };
    Placed {
        number,
        kind,
        role,
        start: Lba(start_mb * 2048),
        size: SectorCount(kib * 2),
        ebr: None,
        name: String::new(),
        uuid: None,
        attributes: 0,
        bootable: false,
    }
}

/// A disk with these partitions, each with its contents and its use.
fn disk(id: DiskId, all: Vec<(Placed, &str, Usage)>) -> GoldenDisk {
    let size = DiskSize::of_bytes(10 << 30, SectorSize::B512);
    let partitions = all.iter().map(|(placed, contents, usage)| GoldenVolume {
        name: ka::plan::VolumeName::Partition(placed.number),
        node: format!("/dev/sda{}", placed.number).into(),
        size: placed.size.0 * 512,
        kind: Some(placed.kind),
        contents: Contents {
            kind: (!contents.is_empty()).then(|| (*contents).to_owned()),
            label: Some("a\nb".to_owned()),
            ..Contents::default()
        },
        made: Made::default(),
        subvolumes: Vec::new(),
        links: vec![],
        usage: usage.clone(),
    });
    let partitions = partitions.collect();
    let table = Table {
        disk: size,
        id,
        length: 128,
        partitions: all.into_iter().map(|(placed, ..)| placed).collect(),
        findings: Vec::new(),
    };
    GoldenDisk { name: "sda".to_owned(), size, table: Ok(table), partitions }
}

fn mbr(all: Vec<(Placed, &str, Usage)>) -> GoldenDisk {
    disk(DiskId::Mbr(DiskSignature(1)), all)
}

fn mounted(at: &str) -> Usage {
    let device = DeviceNumber { major: 8, minor: 1 };
    Usage::Mounted { at: at.into(), device, used: 1, inodes: 1, compress: None, read_only: false }
}

/// The lines of the description without its comments.
fn lines(disk: &GoldenDisk, format: Option<Format>) -> String {
    let (text, _) = render(disk, &describe(disk).unwrap(), format);
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_last_partition_for_files_fills_the_disk() {
    let disk = mbr(vec![
        (placed(1, LINUX, 1, 1024 * 500), "ext4", Usage::Unused),
        (placed(2, LINUX, 501, 1024 * 301), "ext4", mounted("/x\n y")),
        (placed(3, SWAP, 802, 1024), "swap", Usage::Swap),
    ]);
    let described = describe(&disk).unwrap();
    let (text, notes) = render(&disk, &described, None);
    assert_eq!(notes, Vec::<String>::new());
    assert!(text.contains("# /dev/sda2: 301 MB, ext4 \"a\\nb\", mounted at /x\\n y, 1 MB used\n"), "{text}");
    let read = Description::parse(&text, "desc").unwrap();
    assert!(read.entry(2).unwrap().is_fill() && !read.entry(3).unwrap().is_fill());
    assert_eq!(lines(&disk, None), "linux 500\nlinux fill\nswap 1\n");
}

#[test]
fn a_partition_that_is_copied_as_it_is_keeps_its_size() {
    let disk = mbr(vec![
        (placed(1, LINUX, 1, 1024 * 500), "xfs", mounted("/")),
        (placed(2, LINUX, 501, 1024 * 300), "ntfs", Usage::Unused),
        (placed(3, LINUX, 801, 1024 * 100), "", Usage::Unused),
    ]);
    assert_eq!(lines(&disk, None), "linux fill\nlinux 300\nlinux 100\n");
}

#[test]
fn extended_partitions_are_described() {
    let disk = mbr(vec![
        (placed(1, LINUX, 1, 1024 * 100), "ext4", mounted("/")),
        (placed(2, EXTENDED, 101, 1024 * 900), "", Usage::Unused),
        (placed(5, SWAP, 102, 1024 * 200), "swap", Usage::Swap),
        (placed(6, LINUX, 303, 1024 * 690), "jfs", mounted("/home")),
    ]);
    assert_eq!(lines(&disk, None), "linux 100\nextended fill\nlogical swap 200\nlogical linux fill\n");
}

#[test]
fn a_gpt_is_described_in_sfdisks_form() {
    let gpt = |name| PartitionKind::parse(name, TableKind::Gpt).unwrap();
    let disk = disk(
        DiskId::Gpt(Guid::new(7)),
        vec![
            (
                Placed { name: "EFI".into(), ..placed(1, gpt("uefi"), 1, 1024 * 100) },
                "vfat",
                mounted("/boot/efi"),
            ),
            (placed(3, gpt("linux"), 101, 1024 * 900), "btrfs", mounted("/")),
        ],
    );
    let described = describe(&disk).unwrap();
    let (text, notes) = render(&disk, &described, None);
    assert!(text.contains("label: gpt") && text.contains("name=\"EFI\""), "{text}");
    assert_eq!(notes, Vec::<String>::new());
    let read = Description::parse(&text, "desc").unwrap();
    let fills: Vec<_> = read.entries().iter().map(|e| (e.number, e.is_fill())).collect();
    assert_eq!(fills, [(1, false), (3, true)]);
    // The short form is for an MBR: what it loses is reported, also in the text.
    let (text, notes) = render(&disk, &described, Some(Format::Desc));
    assert!(!notes.is_empty() && text.contains("# NOTE: sda: "), "{text}");
}

/// The kernel swaps to partitions of any type, and mounts any type; a run accepts the description of either
/// disk.
#[test]
fn types_are_those_of_the_contents() {
    let disk = mbr(vec![
        (placed(1, LINUX, 1, 1024 * 100), "ext4", mounted("/")),
        (placed(2, LINUX, 101, 1024 * 100), "swap", Usage::Swap),
        (placed(3, SWAP, 201, 1024 * 500), "xfs", mounted("/srv")),
        (placed(4, SWAP, 701, 1024 * 50), "ntfs", Usage::Unused),
    ]);
    assert_eq!(lines(&disk, None), "linux 100\nswap 100\nlinux fill\nswap 50\n");
    let (text, notes) = render(&disk, &describe(&disk).unwrap(), None);
    assert_eq!(
        notes,
        [
            "/dev/sda2 is swap and has the type `Linux`: the description says `Linux swap / Solaris`",
            "/dev/sda3 is xfs and has the type `Linux swap / Solaris`: the description says `Linux`",
        ]
    );
    assert!(text.contains("# NOTE: /dev/sda2 is swap"), "{text}");
    let gpt = PartitionKind::linux(TableKind::Gpt);
    let disk = self::disk(
        DiskId::Gpt(Guid::new(7)),
        vec![
            (placed(1, gpt, 1, 1024 * 100), "ext4", mounted("/")),
            (placed(2, gpt, 101, 1024), "swap", Usage::Swap),
        ],
    );
    assert!(describe(&disk).unwrap().description.entry(2).unwrap().kind.is_swap());
}

/// An old disk for another system, filled to its end: in whole MB the layout would not even fit this disk.
#[test]
fn a_disk_on_which_nothing_grows_is_described_as_it_is() {
    let mut old = placed(1, PartitionKind::Mbr(7), 0, 0);
    (old.start, old.size) = (Lba(63), SectorCount(10 * 1024 * 2048 - 63));
    let disk = mbr(vec![(old, "ntfs", Usage::Unused)]);
    let (text, notes) = render(&disk, &describe(&disk).unwrap(), None);
    assert!(
        text.contains("label: dos") && notes.iter().any(|note| note.contains("none has `fill`")),
        "{text}"
    );
    let read = Description::parse(&text, "desc").unwrap();
    let (placing, least) = (ka::disk::layout::Placing::default(), ka::disk::layout::Least::new());
    let seed = ka::disk::ids::Seed([0; 32]);
    let layout = ka::disk::layout::Layout::new(&read, disk.size, &placing, &least, &seed).unwrap();
    assert_eq!(layout.partitions[0].start, Lba(63));
    assert!(lines(&disk, Some(Format::Desc)).starts_with("type7 10240"));
}

#[test]
fn what_cannot_be_described_is_told() {
    let good = mbr(vec![(placed(1, LINUX, 1, 1024), "ext4", Usage::Unused)]);
    let mut damaged = good.clone();
    damaged.table.as_mut().unwrap().findings =
        vec![Finding::BackupDamaged("x".into()), Finding::Overlap(1, 2)];
    let error = describe(&damaged).unwrap_err().to_string();
    assert!(error.starts_with("sda: partitions 1 and 2 overlap: repair"), "{error}");
    damaged.table.as_mut().unwrap().findings.pop();
    assert!(describe(&damaged).unwrap().notes[0].contains("backup"), "what is odd is noted");
    let none = GoldenDisk { table: Err("no partition table".into()), ..good };
    assert!(matches!(describe(&none), Err(DescribeError::NoTable { .. })));
    let empty = mbr(vec![]);
    assert!(matches!(describe(&empty), Err(DescribeError::Problem { problem: Problem::Empty, .. })));
}
