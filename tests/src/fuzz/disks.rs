//! Descriptions that an administrator writes, and tables on disks.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use ka::disk::choice::DiskChoice;
use ka::disk::description::{Description, Format, Role};
use ka::disk::ids::Seed;
use ka::disk::layout::{Layout, Least, Placing};
use ka::disk::mbr::{Mbr, SIZE, set_active};
use ka::disk::table::Table;
use ka::disk::units::{DiskSize, SectorSize};
use ka::disk::{script, short_form};

use super::input::Input;

/// Parses any text as a description in the short form.
pub(super) fn short(data: &[u8]) {
    description(data, short_form::parse);
}

/// Parses any text as a script for sfdisk.
pub(super) fn sfdisk(data: &[u8]) {
    description(data, script::parse);
}

type Parse<E> = fn(&str, &str) -> Result<Description, E>;

/// An error has a position; a parsed description can be written and read again; and on a disk of any size,
/// partitions are inside it and do not overlap, and a written table is read back unchanged.
fn description(data: &[u8], parse: Parse<ka::disk::problem::DescError>) {
    let mut input = Input::new(data);
    let sector = input.one_of(&[SectorSize::B512, SectorSize::B4096]);
    let size = input.u64() >> input.below(64);
    let scale = (input.byte() == 1).then(|| input.u64() >> 20);
    let text = String::from_utf8_lossy(input.rest());
    let description = match parse(&text, "disk") {
        Ok(description) => description,
        Err(error) => {
            let lines = text.lines().count().max(1);
            assert!((1..=lines).contains(&(error.line as usize)) && error.column >= 1, "{error}");
            return;
        }
    };
    let written = description.render(Format::Sfdisk).text;
    let again = Description::parse(&written, "disk").unwrap_or_else(|error| panic!("{written}{error}"));
    assert_eq!(again.entries().len(), description.entries().len(), "{written}");
    // A script is in the order of its numbers.
    let mut entries: Vec<_> = description.entries().iter().collect();
    entries.sort_by_key(|entry| entry.number);
    let mut others: Vec<_> = again.entries().iter().collect();
    others.sort_by_key(|entry| entry.number);
    for (one, other) in others.into_iter().zip(entries) {
        assert_eq!(
            (one.number, one.kind, one.role, one.size),
            (other.number, other.kind, other.role, other.size)
        );
    }
    let disk = DiskSize::of_bytes(size, sector);
    let placing = Placing { scale, keep_ids: false };
    let Ok(layout) = Layout::new(&description, disk, &placing, &Least::new(), &Seed([7; 32])) else { return };
    check(&layout);
    let Ok(writes) = layout.writes() else { return };
    let mut image = Image::new(disk);
    for write in writes {
        image.write(write.offset, &write.bytes);
    }
    let table = Table::read(&mut image, disk).expect("what was written can be read");
    assert!(table.findings.iter().all(|finding| !finding.is_damage()), "{:?}", table.findings);
    let places = |partitions: &[ka::disk::layout::Placed]| -> Vec<_> {
        partitions.iter().map(|p| (p.number, p.kind, p.start, p.size)).collect()
    };
    assert_eq!(places(&table.partitions), places(&layout.partitions));
}

fn check(layout: &Layout) {
    for (i, one) in layout.partitions.iter().enumerate() {
        assert!(one.size.0 > 0 && one.start.0 > 0 && one.end().0 <= layout.disk.sectors.0, "{layout:?}");
        for other in layout
            .partitions
            .iter()
            .take(i)
            .filter(|o| (o.role == Role::Logical) == (one.role == Role::Logical))
        {
            assert!(one.end() <= other.start || other.end() <= one.start, "{layout:?}");
        }
    }
}

/// Parses any sector as a master boot record.
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

/// Parses any sectors in the positions of tables: the first ones, the last ones, and some that a chain may
/// lead to. The result has few partitions with distinct numbers, and parsing always terminates.
pub(super) fn table(data: &[u8]) {
    let mut input = Input::new(data);
    let sector = input.one_of(&[SectorSize::B512, SectorSize::B4096]);
    let disk = DiskSize::of_bytes(u64::from(input.u16()) * 4096, sector);
    let last = disk.sectors.0.saturating_sub(1);
    let mut image = Image::new(disk);
    let places = [0, 1, last, 2, last.saturating_sub(32), 63, 64, 2048, 4096, 6144];
    for (i, bytes) in input.rest().chunks(SIZE).enumerate() {
        let at = places.get(i).copied().unwrap_or(i as u64);
        image.write(at * sector.bytes(), bytes);
    }
    for header in [1, last] {
        image.seal_gpt(header * sector.bytes());
    }
    let Ok(table) = Table::read(&mut image, disk) else { return };
    assert!(table.partitions.len() <= 1024);
    assert!(table.partitions.windows(2).all(|pair| pair[0].number < pair[1].number), "{table:?}");
    if let Ok(description) = table.describe() {
        let text = description.render(Format::Sfdisk).text;
        assert!(Description::parse(&text, "disk").is_ok(), "{text}");
    }
}

/// Parses any text as a choice of a disk.
pub(super) fn choice(text: &str) {
    let _ = text.parse::<DiskChoice>();
}

/// A disk of zeros, except for the written ranges.
struct Image {
    size: u64,
    at: u64,
    pages: BTreeMap<u64, Box<[u8; 512]>>,
}

impl Image {
    fn new(disk: DiskSize) -> Self {
        Self { size: disk.bytes(), at: 0, pages: BTreeMap::new() }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..self.size).zip(bytes) {
            let page = self.pages.entry(at / 512).or_insert_with(|| Box::new([0; 512]));
            page[usize::try_from(at % 512).expect("small")] = *byte;
        }
    }

    fn bytes(&mut self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.at = offset;
        let got = self.read(&mut bytes).expect("memory");
        bytes.truncate(got);
        bytes
    }

    /// Fills in the checksums of a GPT header, without which nothing after them would ever be tested.
    fn seal_gpt(&mut self, at: u64) {
        let mut header = self.bytes(at, 512);
        let number = |header: &[u8], at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        if header.len() < 512 || !header.starts_with(b"EFI PART") {
            return;
        }
        let entries = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| header[72 + i]));
        let length = u64::from(number(&header, 80)) * u64::from(number(&header, 84));
        let length = usize::try_from(length.min(256 << 10)).expect("small");
        let sector = if self.size.is_multiple_of(4096) && at.is_multiple_of(4096) { 4096 } else { 512 };
        let sum = crc32(&self.bytes(entries.saturating_mul(sector), length));
        header[88..92].copy_from_slice(&sum.to_le_bytes());
        let size = usize::try_from(number(&header, 12)).expect("it fits").min(512);
        header[16..20].fill(0);
        let sum = crc32(&header[..size]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        self.write(at, &header);
    }
}

impl Read for Image {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        for byte in &mut buffer[..length] {
            let page = self.pages.get(&(self.at / 512));
            *byte = page.map_or(0, |page| page[usize::try_from(self.at % 512).expect("small")]);
            self.at += 1;
        }
        Ok(length)
    }
}

impl Seek for Image {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The CRC of GPTs (ISO 3309), computed bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1)))
    })
}
