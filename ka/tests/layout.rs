//! Where partitions come to lie, and what doesn't fit.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::desc::Desc;
use ka::disk::fit::{FitError, fit};
use ka::disk::layout::{Layout, LayoutError};
use ka::disk::mbr::{DiskSignature, Mbr, MbrError, SIZE, set_active};
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan};
use proptest::prelude::*;

const TIB: u64 = 1 << 40;

fn desc(text: &str) -> Desc {
    Desc::parse(text, "desc").unwrap()
}

/// The partitions as start and size in MB.
fn layout(text: &str, bytes: u64, sector: SectorSize) -> Result<Vec<(u64, u64)>, LayoutError> {
    let layout = Layout::new(&desc(text), DiskSize::of_bytes(bytes, sector))?;
    let mb = |sectors: u64| {
        assert_eq!(sectors % sector.per_mb(), 0, "not aligned");
        sectors / sector.per_mb()
    };
    Ok(layout.partitions.iter().map(|p| (mb(p.start.0), mb(p.size.0))).collect())
}

#[test]
fn partitions_follow_each_other_and_fill_takes_the_rest() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let got = layout("linux 10\nlinux fill\nswap 5\n", 100 * MB + MB / 2, sector).unwrap();
        assert_eq!(got, [(1, 10), (11, 84), (95, 5)]);
        let got = layout("linux 10\nswap 5\n", 16 * MB, sector).unwrap();
        assert_eq!(got, [(1, 10), (11, 5)]);
    }
}

#[test]
fn what_does_not_fit_is_told_with_figures() {
    let error = layout("linux 10\nlinux fill\n", 11 * MB + 512, SectorSize::B512).unwrap_err();
    assert_eq!(error, LayoutError::TooSmall { have: 11 * MB + 512, need: 12 * MB });
    let error = layout("linux 4294967295\nlinux 4294967295\n", MB, SectorSize::B512).unwrap_err();
    assert!(matches!(error, LayoutError::TooSmall { .. }));
}

#[test]
fn an_mbr_reaches_two_tib_of_512_byte_sectors() {
    let error = layout("linux 10\nlinux fill\n", 3 * TIB, SectorSize::B512).unwrap_err();
    assert_eq!(error, LayoutError::BeyondMbr { number: 2, line: 2, end: 3 * TIB, reach: 2 * TIB });
    assert!(error.to_string().contains("give sizes in MB instead of `fill`"), "{error}");
    assert!(layout("linux fill\n", 2 * TIB, SectorSize::B512).is_ok());
    assert!(layout("linux fill\n", 2 * TIB + MB, SectorSize::B512).is_err());
    assert!(layout("linux 500000\nlinux 1597151\n", 3 * TIB, SectorSize::B512).is_ok());
    assert!(layout("linux 500000\nlinux 1597152\n", 3 * TIB, SectorSize::B512).is_err());
    assert!(layout("linux fill\n", 16 * TIB, SectorSize::B4096).is_ok());
    assert!(layout("linux fill\n", 17 * TIB, SectorSize::B4096).is_err());
}

#[test]
fn extended_partitions_are_refused_by_line() {
    let error = layout("linux 10\nextended fill\nlogical linux fill\n", TIB, SectorSize::B512).unwrap_err();
    assert_eq!(error, LayoutError::Extended { line: 2 });
    assert!(error.to_string().contains("extended and logical partitions are not supported yet"), "{error}");
}

fn plan(text: &str, file_systems: Vec<FileSystemPlan>) -> DiskPlan {
    DiskPlan { file_systems, ..DiskPlan::new("sda".into(), desc(text)) }
}

fn ext4(partition: u32, mount_point: &str, used: u64) -> FileSystemPlan {
    FileSystemPlan {
        mount_point: Some(mount_point.to_owned()),
        used,
        ..FileSystemPlan::new(partition, FileSystemKind::Ext4)
    }
}

#[test]
fn file_systems_need_their_partition_its_kind_and_room() {
    let disk = DiskSize::of_bytes(1000 * MB, SectorSize::B512);
    let text = "linux 600\nswap fill\n";
    let check = |file_systems| fit(&plan(text, file_systems), disk).map(|_| ());
    assert_eq!(check(vec![ext4(1, "/", 500 * MB)]), Ok(()));
    assert!(matches!(check(vec![ext4(1, "/", 590 * MB)]), Err(FitError::TooSmall { number: 1, .. })));
    assert_eq!(check(vec![ext4(3, "/", 0)]), Err(FitError::NoPartition(3)));
    assert_eq!(check(vec![ext4(1, "/", 0), ext4(1, "/home", 0)]), Err(FitError::Twice(1)));
    assert!(matches!(check(vec![ext4(2, "/", 0)]), Err(FitError::Kind { number: 2, .. })));
    for path in ["", "home", "/../etc", "/a/../b", "/a//b", "/a/", "/./a", "//"] {
        assert!(matches!(check(vec![ext4(1, path, 0)]), Err(FitError::MountPoint { .. })), "{path}");
    }
    let two = "linux 100\nlinux fill\n";
    let twice = fit(&plan(two, vec![ext4(1, "/a", 0), ext4(2, "/a", 0)]), disk);
    assert!(matches!(twice, Err(FitError::MountPoint { number: 2, .. })));
}

#[test]
fn sectors_that_are_no_table_are_told_apart() {
    assert_eq!(Mbr::decode(&[0; 100]), Err(MbrError::Short(100)));
    assert_eq!(Mbr::decode(&[0; SIZE]), Err(MbrError::NoMagic([0, 0])));
    let mut boot_sector = [b'x'; SIZE];
    boot_sector[510..].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(Mbr::decode(&boot_sector), Err(MbrError::NoTable { entry: 1, flag: b'x' }));
}

proptest! {
    #[test]
    fn layouts_stay_on_the_disk_in_order(
        sizes in prop::collection::vec(1..3000_u64, 1..=4),
        fill in 0..5_usize,
        disk_mb in 2..20_000_u64,
        large_sectors: bool,
    ) {
        let sector = if large_sectors { SectorSize::B4096 } else { SectorSize::B512 };
        let lines = sizes.iter().enumerate().map(|(i, mb)| {
            if i == fill { "linux fill\n".to_owned() } else { format!("linux {mb}\n") }
        });
        let text: String = lines.collect();
        let fixed: u64 = sizes.iter().enumerate().filter(|(i, _)| *i != fill).map(|(_, mb)| mb).sum();
        let has_fill = fill < sizes.len();
        match layout(&text, disk_mb * MB, sector) {
            Ok(partitions) => {
                let mut next = 1;
                for (start, size) in &partitions {
                    prop_assert_eq!(*start, next);
                    next = start + size;
                }
                prop_assert!(next <= disk_mb);
                prop_assert!(!has_fill || next == disk_mb);
            }
            Err(e) => {
                let need = 1 + fixed + u64::from(has_fill);
                prop_assert!(need > disk_mb);
                prop_assert_eq!(e, LayoutError::TooSmall { have: disk_mb * MB, need: need * MB });
            }
        }
    }

    #[test]
    fn tables_are_read_as_they_were_written(signature: u32, kinds in prop::collection::vec(1_u8.., 1..=4), active in 1..=4_u32) {
        let text: String = kinds.iter().map(|_| "linux 7\n").collect();
        let disk = DiskSize::of_bytes(TIB, SectorSize::B512);
        let mut mbr = Mbr::of(&Layout::new(&desc(&text), disk).unwrap(), DiskSignature(signature));
        mbr.boot_code = [0xfa; 440];
        for (entry, kind) in mbr.entries.iter_mut().flatten().zip(&kinds) {
            entry.kind = *kind;
        }
        let mut bytes = mbr.encode().unwrap();
        prop_assert_eq!(&Mbr::decode(&bytes).unwrap(), &mbr);
        let known = mbr.entry(active).is_some();
        prop_assert_eq!(set_active(&mut bytes, active).is_ok(), known);
        let read = Mbr::decode(&bytes).unwrap();
        prop_assert_eq!(read.boot_code, mbr.boot_code);
        for number in 1..=4 {
            let is_active = read.entry(number).is_some_and(|e| e.active);
            prop_assert_eq!(is_active, known && number == active);
        }
    }

    #[test]
    fn any_sector_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Mbr::decode(&bytes);
    }
}
