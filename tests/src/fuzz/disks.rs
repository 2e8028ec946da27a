//! Descriptions that an administrator writes, and tables that are on disks.

use std::collections::BTreeMap;

use ka::disk::description::{Description, Entry, Format, Role};
use ka::disk::ids::Seed;
use ka::disk::layout::{Layout, Placing};
use ka::disk::mbr::{Mbr, SIZE, set_active};
use ka::disk::units::{DiskSize, SectorSize};

use super::input::Input;

/// Any text as a description, on disks of any size: an error has its place, and partitions are within the disk and
/// apart from each other.
pub(super) fn description(data: &[u8]) {
    let mut input = Input::new(data);
    let sector = input.one_of(&[SectorSize::B512, SectorSize::B4096]);
    let size = input.u64() >> input.below(64);
    let text = String::from_utf8_lossy(input.rest());
    let desc = match Description::parse(&text, "disk") {
        Ok(desc) => desc,
        Err(error) => {
            let lines = text.lines().count().max(1);
            assert!((1..=lines).contains(&(error.line as usize)), "{error}");
            assert!(error.column >= 1, "{error}");
            return;
        }
    };
    let text = desc.render(Format::Sfdisk).text;
    let written = Description::parse(&text, "disk").expect("what was read can be written");
    let bare = |desc: &Description| -> Vec<Entry> {
        desc.entries().iter().map(|entry| Entry { line: 0, ..entry.clone() }).collect()
    };
    assert_eq!(bare(&written), bare(&desc));
    let disk = DiskSize::of_bytes(size, sector);
    let placing = Placing::default();
    let Ok(layout) = Layout::new(&desc, disk, &placing, &BTreeMap::new(), &Seed([7; 32])) else { return };
    let mut placed: Vec<_> = layout.partitions.iter().filter(|p| p.role != Role::Extended).collect();
    placed.sort_by_key(|p| p.start);
    let mut end = 1;
    for placed in placed {
        assert!(placed.start.0 >= end && placed.size.0 > 0, "{layout:?}");
        end = placed.end().0;
        assert!(end <= disk.sectors.0, "{layout:?}");
    }
}

/// Any sector as a master boot record.
pub(super) fn mbr(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.below(6).into();
    let mut sector = [0; SIZE];
    let bytes = input.rest();
    let length = bytes.len().min(SIZE);
    sector[..length].copy_from_slice(&bytes[..length]);
    assert!(length == SIZE || Mbr::decode(&bytes[..length]).is_err());
    if length == SIZE - 2 {
        sector[SIZE - 2..].copy_from_slice(&[0x55, 0xaa]);
    }
    let Ok(table) = Mbr::decode(&sector) else { return };
    if let Ok(encoded) = table.encode() {
        assert_eq!(Mbr::decode(&encoded).as_ref(), Ok(&table));
    }
    if set_active(&mut sector, number).is_ok() {
        let active = Mbr::decode(&sector).expect("still a table");
        let marked = (1..=4).filter(|n| active.entry(*n).is_some_and(|entry| entry.active));
        assert_eq!(marked.collect::<Vec<_>>(), [number]);
        assert_eq!(active.boot_code, table.boot_code);
    }
}
