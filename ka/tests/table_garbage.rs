//! Damaged tables are read or refused: nothing panics, nothing loops, and what is written is what is read.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, Role};
use ka::disk::ids::Seed;
use ka::disk::layout::{Layout, Least, Placing};
use ka::disk::table::{Finding, Table};
use ka::disk::units::{DiskSize, Lba, MB, SectorSize};
use proptest::prelude::*;
use std::io::Cursor;

const DISK: u64 = 12 * MB;
const LOGICALS: &str = "linux 1\nextended fill\nlogical swap 1\nlogical linux 2\nlogical linux fill\n";
const GPT: &str = "label: gpt\nsize=1M, type=U, name=one\nsize=3M\nsize=fill\n";

/// A disk in memory with the table of a description.
fn image(text: &str, sector: SectorSize) -> Vec<u8> {
    let description = Description::parse(text, "desc").unwrap();
    let disk = DiskSize::of_bytes(DISK, sector);
    let layout = Layout::new(&description, disk, &Placing::default(), &Least::new(), &Seed([1; 32])).unwrap();
    let mut bytes = vec![0; usize::try_from(DISK).unwrap()];
    for write in layout.writes().unwrap() {
        let at = usize::try_from(write.offset).unwrap();
        bytes[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    bytes
}

fn read(bytes: &[u8], sector: SectorSize) -> Result<Table, ka::disk::table::TableError> {
    Table::read(&mut Cursor::new(bytes), DiskSize::of_bytes(bytes.len() as u64, sector))
}

/// CRC-32 as a GPT has it (ISO 3309), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Makes the sums of a GPT's primary copy right again.
fn mend(bytes: &mut [u8], sector: usize) {
    let entries = crc(&bytes[2 * sector..2 * sector + 128 * 128]);
    bytes[sector + 88..sector + 92].copy_from_slice(&entries.to_le_bytes());
    bytes[sector + 16..sector + 20].fill(0);
    let header = crc(&bytes[sector..sector + 92]);
    bytes[sector + 16..sector + 20].copy_from_slice(&header.to_le_bytes());
}

#[test]
fn what_is_written_is_read() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        for (text, count) in [(LOGICALS, 5), (GPT, 3)] {
            let table = read(&image(text, sector), sector).unwrap();
            assert_eq!((table.partitions.len(), table.findings.as_slice()), (count, &[][..]));
        }
    }
    assert!(read(&[], SectorSize::B512).is_err());
    assert!(read(&[0; 512], SectorSize::B512).is_err());
}

#[test]
fn an_extended_partition_may_be_empty() {
    let mut bytes = image("extended fill\n", SectorSize::B512);
    assert_eq!(read(&bytes, SectorSize::B512).unwrap().findings, []);
    // As parted and others leave it: without even an empty table.
    bytes[1 << 20..(1 << 20) + 512].fill(0);
    assert_eq!(read(&bytes, SectorSize::B512).unwrap().findings, []);
}

#[test]
fn a_chain_that_breaks_or_loops_gives_what_is_before() {
    let mut bytes = image(LOGICALS, SectorSize::B512);
    let ebrs: Vec<_> =
        read(&bytes, SectorSize::B512).unwrap().partitions.iter().filter_map(|p| p.ebr).collect();
    let at = |lba: Lba| usize::try_from(lba.0 * 512).unwrap();
    // The last table's link leads to the first.
    let link = at(ebrs[2]) + 446 + 16;
    bytes[link + 4] = 5;
    bytes[link + 8..link + 12].fill(0);
    bytes[link + 12] = 1;
    let table = read(&bytes, SectorSize::B512).unwrap();
    assert_eq!(table.findings, [Finding::EbrLoop { at: ebrs[0], last: 7 }]);
    assert_eq!(table.partitions.len(), 5);
    // No table where the chain leads.
    bytes[at(ebrs[1]) + 510] = 0;
    let table = read(&bytes, SectorSize::B512).unwrap();
    assert!(matches!(table.findings.as_slice(), [Finding::EbrBroken { at, .. }] if *at == ebrs[1]));
    assert_eq!(table.partitions.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_mbrs_and_chains_are_read_or_refused(
        damage in prop::collection::vec((0..4_usize, 440..512_usize, any::<u8>()), 1..30),
    ) {
        let mut bytes = image(LOGICALS, SectorSize::B512);
        let tables = [0, 2 << 20, 4 << 20, 7 << 20];
        for (table, at, byte) in damage {
            bytes[tables[table] + at] = byte;
        }
        if let Ok(table) = read(&bytes, SectorSize::B512) {
            prop_assert!(table.partitions.len() <= 64);
            let _ = table.describe();
        }
    }

    #[test]
    fn damaged_gpts_are_read_or_refused(
        damage in prop::collection::vec((0..92_usize, any::<u8>()), 0..6),
        entries in prop::collection::vec((0..128 * 5_usize, any::<u8>()), 0..20),
        mended: bool,
        large: bool,
    ) {
        let (sector, size) = if large { (SectorSize::B4096, 4096) } else { (SectorSize::B512, 512) };
        let mut bytes = image(GPT, sector);
        for (at, byte) in damage {
            bytes[size + at] = byte;
        }
        for (at, byte) in entries {
            bytes[2 * size + at] = byte;
        }
        if mended {
            mend(&mut bytes, size);
        }
        if let Ok(table) = read(&bytes, sector) {
            if !mended && bytes != image(GPT, sector) {
                let noted = |f: &Finding| matches!(f, Finding::PrimaryDamaged(_));
                prop_assert!(table.findings.iter().any(noted), "{:?}", table.findings);
            }
            let _ = table.describe();
        }
    }

    #[test]
    fn any_sectors_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..4096), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() > 1024 {
            bytes[446..510].iter_mut().step_by(16).for_each(|flag| *flag = 0);
            bytes[510..520].copy_from_slice(b"\x55\xaaEFI PART");
            bytes[450] = 0xee;
        }
        let _ = read(&bytes, SectorSize::B512);
    }

    /// Whatever a description says, its layout is sound and can be written, or is refused.
    #[test]
    fn layouts_are_sound(
        sizes in prop::collection::vec((0..6_u8, 1..4000_u64, 1..5_u32), 1..12),
        starts in prop::collection::vec(0..20_000_u64, 12),
        named: bool,
        gpt: bool,
        disk_mb in 1..9000_u64,
        odd in 0..2048_u64,
        scale in prop::option::of(1..9000_u64),
        large: bool,
    ) {
        let mut text = if gpt { "label: gpt\n".to_owned() } else { "label: dos\n".to_owned() };
        for ((kind, size, weight), start) in sizes.into_iter().zip(starts) {
            let start = if named { format!("start={start}K, ") } else { String::new() };
            text += &match kind {
                0 => format!("{start}size=fill*{weight}\n"),
                1 => format!("{start}size={size}K\n"),
                2 if !gpt => format!("{start}size={size}M, type=E\n"),
                3 if !gpt => format!("{start}type=E\n"),
                _ => format!("{start}size={size}M\n"),
            };
        }
        let Ok(description) = Description::parse(&text, "script") else { return Ok(()) };
        let sector = if large { SectorSize::B4096 } else { SectorSize::B512 };
        let disk = DiskSize::of_bytes(disk_mb * MB + odd * 512, sector);
        let placing = Placing { scale: scale.map(|mb| mb * MB), keep_ids: false };
        let Ok(layout) = Layout::new(&description, disk, &placing, &Least::new(), &Seed([2; 32])) else {
            return Ok(());
        };
        prop_assert_eq!(layout.partitions.len(), description.entries().len());
        let extended = layout.partitions.iter().find(|p| p.role == Role::Extended);
        for (i, one) in layout.partitions.iter().enumerate() {
            prop_assert!(one.size.0 > 0 && one.end() <= Lba(disk.sectors.0), "{one:?}\n{text}");
            for other in layout.partitions.iter().skip(i + 1) {
                let nested = (one.role == Role::Logical) != (other.role == Role::Logical);
                let apart = one.end() <= other.start || other.end() <= one.start;
                prop_assert!(nested || apart, "{one:?}\n{other:?}\n{text}");
            }
            if one.role == Role::Logical {
                let (extended, table) = (extended.unwrap(), one.ebr.unwrap());
                prop_assert!(extended.start <= table && table < one.start && one.end() <= extended.end());
            }
        }
        prop_assert!(layout.writes().is_ok());
    }
}
