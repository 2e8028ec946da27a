//! The GUID partition table: a protective MBR, and two copies of header and entries, at the start and the end
//! of the disk (UEFI specification, chapter 5).
//!
//! The `gptman` crate knows the format and the checksums. It trusts a header's own size, so that is validated
//! here first.

use super::description::{DiskId, MAX_GPT_LENGTH, Role};
use super::guid::Guid;
use super::kind::{PROTECTIVE, PartitionKind};
use super::layout::{Layout, Placed, gpt_entries};
use super::mbr::{self, DiskSignature, Entry, Mbr};
use super::table::{EncodeError, Finding, Table, TableError, Write, offset, padded, read_at};
use super::units::{DiskSize, Lba, SectorCount};
use gptman::{GPTHeader, GPTPartitionEntry};
use std::io::{self, Cursor, Read, Seek, SeekFrom};

/// The signature of a header.
pub(super) const SIGNATURE: &[u8] = b"EFI PART";

/// The size of an entry; larger ones are allowed but not used in practice.
const ENTRY: u32 = 128;

/// The sectors of a GPT in write order: the backup first, and the MBR, without which there is no GPT, last.
pub(super) fn encode(layout: &Layout, id: Guid) -> Result<Vec<Write>, EncodeError> {
    let disk = layout.disk;
    let entries = gpt_entries(layout.length, disk.sector);
    let sectors = disk.sectors.0;
    if sectors < 2 * entries + 4 {
        return Err(EncodeError::TooFewSectors(sectors));
    }
    let mut header = GPTHeader {
        signature: *b"EFI PART",
        revision: [0, 0, 1, 0],
        header_size: 92,
        crc32_checksum: 0,
        reserved: [0; 4],
        primary_lba: 1,
        backup_lba: sectors - 1,
        first_usable_lba: 2 + entries,
        last_usable_lba: sectors - entries - 2,
        disk_guid: id.to_disk(),
        partition_entry_lba: 2,
        number_of_partition_entries: layout.length,
        size_of_partition_entry: ENTRY,
        partition_entry_array_crc32: 0,
    };
    let places: Vec<_> = (1..=layout.length).map(|number| entry(layout.partition(number))).collect();
    let primary = write(&mut header, disk, 1, &places)?;
    let mut header = GPTHeader {
        primary_lba: sectors - 1,
        backup_lba: 1,
        partition_entry_lba: sectors - 1 - entries,
        ..header
    };
    let backup = write(&mut header, disk, sectors - 1 - entries, &places)?;
    let protective = Write { offset: 0, bytes: protective(disk).encode()?.to_vec() };
    Ok(vec![backup, primary, protective])
}

/// The protective MBR: one partition for the whole disk, or as much of it as an MBR can express.
fn protective(disk: DiskSize) -> Mbr {
    let size = SectorCount((disk.sectors.0 - 1).min(u32::MAX.into()));
    let all = Entry { active: false, kind: PROTECTIVE, start: Lba(1), size };
    Mbr {
        boot_code: [0; mbr::BOOT_CODE],
        signature: DiskSignature(0),
        entries: [Some(all), None, None, None],
    }
}

fn entry(placed: Option<&Placed>) -> GPTPartitionEntry {
    let Some(placed) = placed else { return GPTPartitionEntry::empty() };
    let kind = if let PartitionKind::Gpt(guid) = placed.kind { guid } else { Guid::NIL };
    GPTPartitionEntry {
        partition_type_guid: kind.to_disk(),
        unique_partition_guid: placed.uuid.unwrap_or(Guid::NIL).to_disk(),
        starting_lba: placed.start.0,
        ending_lba: placed.end().0.saturating_sub(1),
        attribute_bits: placed.attributes,
        partition_name: placed.name.as_str().into(),
    }
}

/// One copy of header and entries, which are contiguous from sector `first`.
fn write(
    header: &mut GPTHeader,
    disk: DiskSize,
    first: u64,
    places: &[GPTPartitionEntry],
) -> Result<Write, EncodeError> {
    let base = Lba(first).bytes(disk.sector);
    let length = gpt_entries(header.number_of_partition_entries, disk.sector) + 1;
    let size = usize::try_from(length * disk.sector.bytes()).unwrap_or_default();
    let mut copy = Copy { base, bytes: Cursor::new(vec![0; size]) };
    header.write_into(&mut copy, disk.sector.bytes(), places)?;
    Ok(Write { offset: base, bytes: padded(copy.bytes.into_inner(), disk.sector) })
}

/// A region of the disk in memory, addressed by disk offsets.
struct Copy {
    base: u64,
    bytes: Cursor<Vec<u8>>,
}

impl io::Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Copy {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "outside this copy of the GPT");
        let SeekFrom::Start(at) = to else { return Err(outside()) };
        self.bytes.seek(SeekFrom::Start(at.checked_sub(self.base).ok_or_else(outside)?))?;
        Ok(at)
    }
}

/// A valid copy.
struct Valid {
    header: GPTHeader,
    places: Vec<GPTPartitionEntry>,
}

/// The GPT announced by the MBR: the primary copy if it is valid, else the backup.
pub(super) fn read<R: Read + Seek>(reader: &mut R, disk: DiskSize, mbr: &Mbr) -> Result<Table, TableError> {
    let last = Lba(disk.sectors.0.saturating_sub(1));
    let primary = read_copy(reader, disk, Lba(1))?;
    let backup_at = primary.as_ref().map_or(last, |p| Lba(p.header.backup_lba));
    let backup = read_copy(reader, disk, backup_at)?;
    let mut findings = Vec::new();
    let valid = match (primary, backup) {
        (Ok(primary), backup) => {
            if backup_at != last {
                let made = backup_at.0.saturating_add(1);
                findings.push(Finding::OtherSize { made, found: disk.sectors.0 });
            }
            match backup {
                Ok(backup) if !same(&primary, &backup) => findings.push(Finding::CopiesDiffer),
                Ok(_) => {}
                Err(reason) => findings.push(Finding::BackupDamaged(reason)),
            }
            primary
        }
        (Err(reason), Ok(backup)) => {
            findings.push(Finding::PrimaryDamaged(reason));
            backup
        }
        (Err(primary), Err(backup)) => return Err(TableError::Gpt { primary, backup }),
    };
    let others = mbr.entries.iter().flatten().filter(|e| e.kind != PROTECTIVE);
    let others: Vec<_> = others.map(|e| PartitionKind::Mbr(e.kind)).collect();
    if !others.is_empty() {
        findings.push(Finding::Hybrid(others));
    }
    if mbr.entries.iter().flatten().any(|e| e.kind == PROTECTIVE && e.active) {
        findings.push(Finding::ProtectiveActive);
    }
    let mut partitions = Vec::new();
    for (number, place) in (1..).zip(&valid.places) {
        if place.is_unused() {
            continue;
        }
        match place.ending_lba.checked_sub(place.starting_lba).and_then(|size| size.checked_add(1)) {
            Some(size) => partitions.push(placed(number, place, SectorCount(size))),
            None => findings.push(Finding::Backwards(number)),
        }
    }
    let id = DiskId::Gpt(Guid::from_disk(valid.header.disk_guid));
    let length = valid.header.number_of_partition_entries;
    Ok(Table { disk, id, length, partitions, findings })
}

fn placed(number: u32, place: &GPTPartitionEntry, size: SectorCount) -> Placed {
    Placed {
        number,
        kind: PartitionKind::Gpt(Guid::from_disk(place.partition_type_guid)),
        role: Role::Primary,
        start: Lba(place.starting_lba),
        size,
        ebr: None,
        name: place.partition_name.as_str().to_owned(),
        uuid: Some(Guid::from_disk(place.unique_partition_guid)),
        attributes: place.attribute_bits,
        bootable: false,
    }
}

fn same(one: &Valid, other: &Valid) -> bool {
    one.header.disk_guid == other.header.disk_guid && one.places == other.places
}

/// One copy, or why it is invalid.
fn read_copy<R: Read + Seek>(reader: &mut R, disk: DiskSize, at: Lba) -> io::Result<Result<Valid, String>> {
    let Some(from) = offset(at, disk) else { return Ok(Err("it is beyond the end of the disk".to_owned())) };
    let size = usize::try_from(disk.sector.bytes()).unwrap_or(mbr::SIZE);
    let sector = read_at(reader, from, size)?;
    let (entries_at, length) = match check_header(&sector, at) {
        Ok(entries) => entries,
        Err(reason) => return Ok(Err(reason)),
    };
    let length = usize::try_from(length * ENTRY).unwrap_or_default();
    let Some(from) = offset(entries_at, disk) else {
        return Ok(Err("its entries are beyond the end of the disk".to_owned()));
    };
    let mut entries = read_at(reader, from, length)?;
    if entries.len() < length {
        return Ok(Err("its entries end beyond the end of the disk".to_owned()));
    }
    // gptman reads as many bytes as an entry has in memory, which is more than on the disk.
    entries.resize(length + size_of::<GPTPartitionEntry>(), 0);
    Ok(decode(&sector, &entries).map_err(|e| e.to_string()))
}

fn decode(sector: &[u8], entries: &[u8]) -> gptman::Result<Valid> {
    let header = GPTHeader::read_from(&mut Cursor::new(sector))?;
    // The entries were read: they begin with these bytes.
    let here = GPTHeader { partition_entry_lba: 0, ..header.clone() };
    let places = here.read_partitions(&mut Cursor::new(entries), 0)?;
    Ok(Valid { header, places })
}

/// The position and number of a header's entries, if they are plausible, so that memory and arithmetic
/// suffice.
fn check_header(sector: &[u8], at: Lba) -> Result<(Lba, u32), String> {
    let u32_at = |at: usize| -> u32 {
        sector.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
    };
    let u64_at = |at: usize| -> u64 {
        sector.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
    };
    if sector.len() < 92 || !sector.starts_with(SIGNATURE) {
        return Err("it does not begin with EFI PART".to_owned());
    }
    let (own, entries_at, length, size) = (u64_at(24), u64_at(72), u32_at(80), u32_at(84));
    if own != at.0 {
        return Err(format!("it claims to be in sector {own}, but is in {}", at.0));
    }
    if size != ENTRY {
        return Err(format!("its entries have {size} bytes, expected {ENTRY}"));
    }
    if !(1..=MAX_GPT_LENGTH).contains(&length) {
        return Err(format!("it has {length} entries, expected 1 to {MAX_GPT_LENGTH}"));
    }
    Ok((Lba(entries_at), length))
}
