//! Where partitions come to lie, and what doesn't fit.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::{Description, DiskId};
use ka::disk::ids::Seed;
use ka::disk::layout::{Layout, LayoutError, Least, Placing};
use ka::disk::mbr::{DiskSignature, Mbr, MbrError, SIZE, set_active};
use ka::disk::units::{DiskSize, MB, SectorSize};
use ka::plan::fit::{FitError, fit};
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Storage, VolumeName};
use proptest::prelude::*;

const TIB: u64 = 1 << 40;

const SEED: Seed = Seed([7; 32]);

fn desc(text: &str) -> Description {
    Description::parse(text, "desc").unwrap()
}

fn layout_of(text: &str, disk: DiskSize) -> Result<Layout, LayoutError> {
    Layout::new(&desc(text), disk, &Placing::default(), &Least::new(), &SEED)
}

/// The partitions as start and size in MB.
fn layout(text: &str, bytes: u64, sector: SectorSize) -> Result<Vec<(u64, u64)>, LayoutError> {
    let layout = layout_of(text, DiskSize::of_bytes(bytes, sector))?;
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
    assert_eq!(error, LayoutError::TooSmall { all_fixed: false, have: 11 * MB + 512, need: 12 * MB });
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
fn logical_partitions_lie_in_the_extended_one_a_mb_apart() {
    let text = "linux 10\nextended fill\nlogical swap 5\nlogical linux fill\nlinux 7\n";
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let got = layout(text, 100 * MB, sector).unwrap();
        // Numbers 1, 2, 3, 5, 6; on the disk 3 is behind the extended one.
        assert_eq!(got, [(1, 10), (11, 82), (93, 7), (12, 5), (18, 75)]);
        let disk = DiskSize::of_bytes(100 * MB, sector);
        let tables: Vec<_> = layout_of(text, disk).unwrap().partitions.iter().filter_map(|p| p.ebr).collect();
        assert_eq!(tables.iter().map(|t| t.0 / sector.per_mb()).collect::<Vec<_>>(), [11, 17]);
    }
    let error =
        layout("extended 20\nlogical linux 10\nlogical linux 9\n", TIB, SectorSize::B512).unwrap_err();
    assert_eq!(error, LayoutError::ExtendedTooSmall { line: 1, have: 20 * MB, need: 21 * MB });
    assert!(layout("extended 21\nlogical linux 10\nlogical linux 9\n", TIB, SectorSize::B512).is_ok());
    // One that fills holds at least its logical ones, whatever its weight.
    let got = layout("linux fill*9\nextended fill\nlogical linux 50\n", 101 * MB, SectorSize::B512).unwrap();
    assert_eq!(got, [(1, 49), (50, 51), (51, 50)]);
}

#[test]
fn several_fills_share_by_weight() {
    let got = layout("linux fill\nlinux 10\nlinux fill*3\n", 111 * MB, SectorSize::B512).unwrap();
    assert_eq!(got, [(1, 25), (26, 10), (36, 75)]);
}

#[test]
fn a_gpt_ends_before_its_backup() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let text = "label: gpt\nsize=10M, type=U\nsize=fill*2\nsize=fill";
        let got = layout(text, 100 * MB, sector).unwrap();
        assert_eq!(got, [(1, 10), (11, 58), (69, 30)]);
        assert!(layout("label: gpt\nsize=98M", 100 * MB, sector).is_ok());
        assert!(matches!(
            layout("label: gpt\nsize=99M", 100 * MB, sector),
            Err(LayoutError::TooSmall { .. })
        ));
        assert!(layout("label: gpt\nsize=fill", 100 * TIB, sector).is_ok());
    }
}

const DUMP: &str = "label: dos\nlabel-id: 0x0badcafe\nunit: sectors\nsector-size: 512\n\n\
    /dev/sda1 : start=63, size=1000, type=7, bootable\n\
    /dev/sda2 : start=30000, size=40000, type=f\n\
    /dev/sda3 : start=2048, size=10000, type=83\n\
    /dev/sda5 : start=30063, size=9937, type=83\n\
    /dev/sda6 : start=40010, size=20000, type=82\n";

#[test]
fn a_dump_is_copied_to_the_sector_where_it_fits() {
    let disk = DiskSize::of_bytes(100 * MB, SectorSize::B512);
    let got = layout_of(DUMP, disk).unwrap();
    let places: Vec<_> = got.partitions.iter().map(|p| (p.number, p.start.0, p.size.0)).collect();
    assert_eq!(
        places,
        [(1, 63, 1000), (2, 30000, 40000), (3, 2048, 10000), (5, 30063, 9937), (6, 40010, 20000)]
    );
    assert_eq!(got.partitions.iter().filter_map(|p| p.ebr).map(|e| e.0).collect::<Vec<_>>(), [30000, 40000]);
    assert_ne!(got.id, DiskId::Mbr(DiskSignature(0x0bad_cafe)));
    let kept = Placing { keep_ids: true, ..Placing::default() };
    let kept = Layout::new(&desc(DUMP), disk, &kept, &Least::new(), &SEED).unwrap();
    assert_eq!(kept.id, DiskId::Mbr(DiskSignature(0x0bad_cafe)));
    assert_eq!(kept.partuuid(6).unwrap(), "0badcafe-06");
}

#[test]
fn a_dump_gives_order_and_sizes_where_its_places_do_not_fit() {
    // 30000 sectors of gaps are less here, and 4096-byte sectors have no place 63.
    for disk in
        [DiskSize::of_bytes(30 * MB, SectorSize::B512), DiskSize::of_bytes(100 * MB, SectorSize::B4096)]
    {
        let got = layout_of(DUMP, disk).unwrap();
        let per_mb = disk.sector.per_mb();
        let starts: Vec<_> = got.partitions.iter().map(|p| (p.number, p.start.0 / per_mb)).collect();
        assert_eq!(starts, [(1, 1), (2, 7), (3, 2), (5, 8), (6, 14)]);
        assert!(got.partitions.iter().all(|p| p.start.0 % per_mb == 0));
        let bytes: Vec<_> = got.partitions.iter().map(|p| p.size.bytes(disk.sector)).collect();
        let rounded = |sectors: u64| (sectors * 512).next_multiple_of(disk.sector.bytes());
        assert_eq!(bytes, [rounded(1000), 20 * MB, rounded(10000), rounded(9937), rounded(20000)], "{got:?}");
    }
    assert!(matches!(
        layout_of(DUMP, DiskSize::of_bytes(25 * MB, SectorSize::B512)),
        Err(LayoutError::TooSmall { .. })
    ));
}

/// The description of a running machine: one partition fills, and the others are as they were.
#[test]
fn a_dump_with_fill_keeps_order_and_makes_room_for_alignment() {
    let disk = DiskSize::of_bytes(200 * MB, SectorSize::B512);
    let starts = |description: &Description| -> Vec<_> {
        let layout = Layout::new(description, disk, &Placing::default(), &Least::new(), &SEED).unwrap();
        layout.partitions.iter().map(|p| (p.number, p.start.0 / 2048, p.size.0.div_ceil(2048))).collect()
    };
    let mut dump = desc(DUMP);
    dump.set_fill(1);
    assert_eq!(starts(&dump), [(1, 1, 174), (2, 180, 20), (3, 175, 5), (5, 181, 5), (6, 187, 10)]);
    // Logical partitions that lie close together need more when they are aligned.
    let close = "sector-size: 512\nsda1 : start=63, size=2000\nsda2 : start=2063, size=4126, type=5\n\
        sda5 : start=2126, size=2000\nsda6 : start=4189, size=2000\n";
    let mut dump = desc(close);
    dump.set_fill(1);
    assert!(dump.entries().iter().all(|e| e.start.is_none()));
    assert_eq!(starts(&dump), [(1, 1, 195), (2, 196, 4), (5, 197, 1), (6, 199, 1)]);
    let short = dump.render(ka::disk::description::Format::Desc).text;
    assert_eq!(short, "linux fill\nextended 4\nlogical linux 1\nlogical linux 1\n");
    assert_eq!(starts(&desc(&short)), starts(&dump));
}

#[test]
fn places_that_contradict_each_other_are_refused() {
    let disk = DiskSize::of_bytes(100 * MB, SectorSize::B512);
    let error = layout_of("sda1 : start=2048, size=4096\nsda2 : start=6143, size=1", disk).unwrap_err();
    assert_eq!(error, LayoutError::Overlap { number: 2, line: 2, other: 1 });
    let error = layout_of("start=2048, size=4096, type=5\nsda5 : start=2048, size=1", disk).unwrap_err();
    assert_eq!(error, LayoutError::Outside { number: 5, line: 2 });
}

#[test]
fn fixed_sizes_of_data_scale_with_the_disk() {
    let text = "linux 100\nswap 50\nextended 150\nlogical linux 99\nlogical type7 49\n";
    let sizes = |disk_mb: u64, least: &[(u32, u64)]| {
        let placing = Placing { scale: Some(302 * MB), ..Placing::default() };
        let disk = DiskSize::of_bytes(disk_mb * MB, SectorSize::B512);
        let least = least.iter().map(|(number, mb)| (*number, mb * MB)).collect();
        let layout = Layout::new(&desc(text), disk, &placing, &least, &SEED)?;
        Ok::<_, LayoutError>(layout.partitions.iter().map(|p| p.size.0 / 2048).collect::<Vec<_>>())
    };
    assert_eq!(sizes(302, &[]).unwrap(), [100, 50, 150, 99, 49]);
    // 249 MB of the disk scale; 53 don't: table, swap, and the tables of two logical partitions.
    assert_eq!(sizes(53 + 498, &[]).unwrap(), [200, 50, 298, 198, 98]);
    assert_eq!(sizes(53 + 125, &[]).unwrap(), [50, 50, 76, 49, 25]);
    // Nobody falls below its least, at the others' expense.
    assert_eq!(sizes(53 + 125, &[(1, 90)]).unwrap()[0], 90);
    assert!(matches!(sizes(54, &[]), Err(LayoutError::TooSmall { .. })));
}

fn plan(text: &str, file_systems: Vec<(u32, FileSystemPlan)>) -> Storage {
    Storage::of(DiskPlan::new("sda".into(), desc(text)), file_systems)
}

fn ext4(partition: u32, mount_point: &str, used: u64) -> (u32, FileSystemPlan) {
    let mount_point = Some(mount_point.to_owned());
    (partition, FileSystemPlan { mount_point, used, ..FileSystemPlan::new(FileSystemKind::Ext4) })
}

#[test]
fn file_systems_need_their_partition_its_kind_and_room() {
    let disk = DiskSize::of_bytes(1000 * MB, SectorSize::B512);
    let text = "linux 600\nswap fill\n";
    let check = |file_systems| fit(&plan(text, file_systems), 0, disk, &SEED).map(|_| ());
    assert_eq!(check(vec![ext4(1, "/", 500 * MB)]), Ok(()));
    assert!(matches!(
        check(vec![ext4(1, "/", 590 * MB)]),
        Err(FitError::TooSmall { volume: VolumeName::Partition(1), .. })
    ));
    assert_eq!(check(vec![ext4(3, "/", 0)]), Err(FitError::NoPartition(3)));
    assert_eq!(
        check(vec![ext4(1, "/", 0), ext4(1, "/home", 0)]),
        Err(FitError::Twice(VolumeName::Partition(1)))
    );
    assert!(matches!(check(vec![ext4(2, "/", 0)]), Err(FitError::Kind { number: 2, .. })));
    for path in ["", "home", "/../etc", "/a/../b", "/a//b", "/a/", "/./a", "//"] {
        assert!(matches!(check(vec![ext4(1, path, 0)]), Err(FitError::MountPoint { .. })), "{path}");
    }
    let two = "linux 100\nlinux fill\n";
    let twice = fit(&plan(two, vec![ext4(1, "/a", 0), ext4(2, "/a", 0)]), 0, disk, &SEED);
    assert!(matches!(twice, Err(FitError::MountPoint { volume: VolumeName::Partition(2), .. })));
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
                let LayoutError::TooSmall { have, need: told, .. } = e else { panic!("{e}") };
                prop_assert_eq!((have, told), (disk_mb * MB, need * MB));
            }
        }
    }

    #[test]
    fn tables_are_read_as_they_were_written(signature: u32, kinds in prop::collection::vec(1_u8.., 1..=4), active in 1..=4_u32) {
        let text: String = kinds.iter().map(|_| "linux 7\n").collect();
        let disk = DiskSize::of_bytes(TIB, SectorSize::B512);
        let mut mbr = Mbr::of(&layout_of(&text, disk).unwrap(), DiskSignature(signature));
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

/// A size is given in bytes where two sizes would be the same in MB. The message names the remedy, and an
/// exact start that is given up.
#[test]
fn messages_say_what_differs_and_what_helps() {
    let fs = FileSystemPlan::new(FileSystemKind::Ext4);
    let error = FitError::TooSmallToMake {
        volume: VolumeName::Partition(1),
        size: MB - 512,
        least: MB,
        makes: fs.kind,
    };
    let text = error.to_string();
    assert!(text.contains("1048064 bytes") && text.contains("1048576 bytes"), "{text}");
    let text = LayoutError::TooSmall { all_fixed: true, have: 64 * MB, need: 64 * MB + 3584 }.to_string();
    assert!(text.contains("size=+"), "{text}");
    let text = LayoutError::TooSmall { all_fixed: false, have: 64 * MB, need: 72 * MB }.to_string();
    assert_eq!(text, "the disk has 64 MB, the description needs 72 MB");
}

/// Where a disk cannot have the places that a description names, that is said with both.
#[test]
fn a_place_that_is_given_up_is_reported() {
    let disk = DiskSize::of_bytes(100 * MB, SectorSize::B512);
    let departures = |text: &str| layout_of(text, disk).unwrap().departures(&desc(text));
    // sfdisk keeps 12 sectors for 48 entries; the specification wants room for 128.
    let short = "label: gpt\nunit: sectors\ntable-length: 48\nfirst-lba: 16\nstart=16, size=20480, type=L\n";
    // What Rockchip's loaders want, and no GPT of the full length has room for.
    let early = "label: gpt\nunit: sectors\nstart=16, size=20480, type=L\n";
    for text in [short, early] {
        let told = departures(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("partition 1 begins at byte 1048576, not at 8192"), "{told:?}");
    }
    // The end is too far: all are placed again, and each that moves is named with its line.
    let moved = departures("label: gpt\nstart=2MiB, size=40MiB, type=L\nstart=70MiB, size=40MiB, type=L\n");
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert!(
        moved[1].starts_with("line 3: partition 2 begins at byte 42991616, not at 73400320"),
        "{moved:?}"
    );
    for kept in [
        "label: gpt\ntable-length: 48\nstart=34, size=20480, type=L\n",
        "label: gpt\nstart=2MiB, size=40MiB, type=L\n",
        // A share of what is left has no place of its own.
        "label: gpt\nstart=2MiB, size=+, type=L\n",
        "linux 10\nlinux fill\n",
    ] {
        assert_eq!(departures(kept), [""; 0], "{kept}");
    }
}
