//! Descriptions of golden disks that were made up.

use super::*;
use ka::disk::mbr::{self, DiskSignature};
use ka::disk::units::{DiskSize, Lba, SectorCount, SectorSize};
use ka_agent::disk::blkid::Contents;
use ka_agent::disk::mountinfo::DeviceNumber;

fn entry(kind: u8, start_mb: u64, kib: u64) -> Option<mbr::Entry> {
    Some(mbr::Entry { active: false, kind, start: Lba(start_mb * 2048), size: SectorCount(kib * 2) })
}

fn disk(entries: [Option<mbr::Entry>; 4], partitions: Vec<GoldenPartition>) -> GoldenDisk {
    let mbr = Mbr { boot_code: [0; 440], signature: DiskSignature(1), entries };
    let size = DiskSize::of_bytes(10 << 30, SectorSize::B512);
    GoldenDisk { name: "sda".to_owned(), size, table: Table::Mbr(Box::new(mbr)), partitions }
}

fn partition(number: u32, kind: u8, contents: &str, size_kib: u64, usage: Usage) -> GoldenPartition {
    let contents =
        Contents { kind: Some(contents.to_owned()), label: Some("a\nb".to_owned()), ..Contents::default() };
    let node = format!("/dev/sda{number}").into();
    GoldenPartition { number, node, size: size_kib << 10, kind: Some(kind), contents, links: vec![], usage }
}

#[test]
fn the_last_partition_for_files_fills_the_disk() {
    let root = Usage::Mounted { at: "/x\n y".into(), device: DeviceNumber { major: 8, minor: 1 }, used: 1 };
    let disk = disk(
        [entry(0x83, 1, 1024 * 500), entry(0x83, 501, 1024 * 300 + 1), entry(0x82, 802, 1023), None],
        vec![
            partition(1, 0x83, "ext4", 1024 * 500, Usage::Unused),
            partition(2, 0x83, "ext4", 1024 * 300 + 1, root),
            partition(3, 0x82, "swap", 1023, Usage::Swap),
        ],
    );
    let description = describe(&disk).unwrap();
    let desc = Desc::parse(&description.text, "desc").unwrap();
    assert_eq!(desc.to_string(), "linux 500\nlinux fill\nswap 1\n");
    assert!(
        description.text.contains("/dev/sda2, 301 MB, ext4 \"a\\nb\", mounted at /x\\n y\n"),
        "{}",
        description.text
    );
    assert_eq!(description.notes, Vec::<String>::new());
}

#[test]
fn extended_partitions_are_described() {
    let disk = disk(
        [entry(0x83, 1, 1024 * 100), entry(0x05, 101, 1024 * 900), None, None],
        vec![
            partition(1, 0x83, "ext4", 1024 * 100, Usage::Unused),
            partition(2, 0x05, "", 1, Usage::Unused),
            partition(5, 0x82, "swap", 1024 * 200, Usage::Unused),
            partition(6, 0x83, "ext4", 1024 * 690, Usage::Unused),
        ],
    );
    let description = describe(&disk).unwrap();
    let desc = Desc::parse(&description.text, "desc").unwrap();
    assert_eq!(desc.to_string(), "linux 100\nextended fill\nlogical swap 200\nlogical linux fill\n");
    assert_eq!(description.notes, Vec::<String>::new());
}

#[test]
fn what_cannot_be_described_is_told() {
    let gap = disk([entry(0x83, 1, 1024), None, entry(0x83, 5, 1024), None], vec![]);
    assert_eq!(describe(&gap), Err(DescribeError::Gap { disk: "sda".to_owned(), missing: 2, number: 3 }));
    let gpt = GoldenDisk { table: Table::Gpt, ..gap.clone() };
    assert!(describe(&gpt).unwrap_err().to_string().contains("GPTs are not supported yet"));
    let none = GoldenDisk { table: Table::None, ..gap };
    assert!(matches!(describe(&none), Err(DescribeError::NoTable(_))));
    let empty = disk([None; 4], vec![]);
    assert!(matches!(describe(&empty), Err(DescribeError::Problem { problem: Problem::Empty, .. })));
}
