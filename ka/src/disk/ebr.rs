//! Extended boot records: the chain of small tables for logical partitions.
//!
//! The extended partition begins with the first table, and each is a sector like an MBR. Its first entry is a
//! logical partition, counted from this sector; its second leads to the next table, counted from the start of
//! the extended partition. Reading works as in Linux: all entries except extended ones are taken, and the
//! first extended one is followed.

use super::description::{DiskId, Role};
use super::kind::PartitionKind;
use super::layout::{Layout, Placed};
use super::mbr::{self, DiskSignature, Entry, Mbr, MbrError};
use super::table::{Finding, Table, TableError, Write, offset, padded, read_at};
use super::units::{DiskSize, Lba, SectorCount};
use std::collections::BTreeSet;
use std::io::{Read, Seek};

/// The highest number of a logical partition.
const LAST: u32 = 4 + super::description::MAX_LOGICALS;

/// The type of the entry that leads to the next table.
const LINK: u8 = super::short_form::EXTENDED;

/// The tables for a layout's logical partitions; an extended partition without any gets an empty table.
///
/// # Errors
/// A partition is beyond the reach of 32 bits.
pub(super) fn encode(layout: &Layout) -> Result<Vec<Write>, MbrError> {
    let Some(extended) = layout.partitions.iter().find(|p| p.role == Role::Extended) else {
        return Ok(Vec::new());
    };
    let logicals: Vec<_> = layout.partitions.iter().filter(|p| p.role == Role::Logical).collect();
    let mut writes = Vec::new();
    let mut write = |at: Lba, entries: [Option<Entry>; 4]| -> Result<(), MbrError> {
        let table = Mbr { boot_code: [0; mbr::BOOT_CODE], signature: DiskSignature(0), entries };
        let bytes = table.encode_from([at, extended.start, at, at])?;
        let bytes = padded(bytes.to_vec(), layout.disk.sector);
        writes.push(Write { offset: at.bytes(layout.disk.sector), bytes });
        Ok(())
    };
    if logicals.is_empty() {
        write(extended.start, [None; 4])?;
    }
    for (i, logical) in logicals.iter().enumerate() {
        let at = table_of(logical, extended);
        let next = logicals.get(i + 1).map(|next| {
            let next_at = table_of(next, extended);
            Entry {
                active: false,
                kind: LINK,
                start: Lba(next_at.0.saturating_sub(extended.start.0)),
                size: SectorCount(next.end().0.saturating_sub(next_at.0)),
            }
        });
        let start = Lba(logical.start.0.saturating_sub(at.0));
        write(at, [Some(Entry { start, ..Entry::from(*logical) }), next, None, None])?;
    }
    Ok(writes)
}

fn table_of(logical: &Placed, extended: &Placed) -> Lba {
    logical.ebr.unwrap_or(extended.start)
}

/// The partitions of an MBR, including logical ones.
pub(super) fn read<R: Read + Seek>(reader: &mut R, disk: DiskSize, mbr: &Mbr) -> Result<Table, TableError> {
    let mut table = Table {
        disk,
        id: DiskId::Mbr(mbr.signature),
        length: super::description::GPT_LENGTH,
        partitions: Vec::new(),
        findings: Vec::new(),
    };
    for (number, entry) in (1..).zip(&mbr.entries) {
        let Some(entry) = entry else { continue };
        let role = if entry.is_extended() { Role::Extended } else { Role::Primary };
        if role == Role::Extended && table.partitions.iter().any(|p| p.role == role) {
            table.findings.push(Finding::SecondExtended(number));
        }
        table.partitions.push(placed(number, entry, role, None));
    }
    if let Some(extended) = table.partitions.iter().find(|p| p.role == Role::Extended).cloned() {
        follow(reader, &mut table, &extended)?;
    }
    if offset(Lba(1), disk).is_some()
        && read_at(reader, disk.sector.bytes(), 8)?.as_slice() == super::gpt::SIGNATURE
    {
        table.findings.push(Finding::StaleGpt);
    }
    Ok(table)
}

fn follow<R: Read + Seek>(reader: &mut R, table: &mut Table, extended: &Placed) -> Result<(), TableError> {
    let mut number = 5;
    let mut at = extended.start;
    let mut visited = BTreeSet::new();
    loop {
        if !visited.insert(at.0) {
            table.findings.push(Finding::EbrLoop { at, last: number - 1 });
            return Ok(());
        }
        let found = match offset(at, table.disk) {
            Some(offset) => Mbr::decode(&read_at(reader, offset, mbr::SIZE)?).map_err(|e| e.to_string()),
            None => Err("it is beyond the end of the disk".to_owned()),
        };
        let ebr = match found {
            Ok(ebr) => ebr,
            // It has no logical partitions yet.
            Err(_) if at == extended.start && offset(at, table.disk).is_some() => return Ok(()),
            Err(reason) => {
                table.findings.push(Finding::EbrBroken { at, reason });
                return Ok(());
            }
        };
        for (i, entry) in ebr.entries.iter().enumerate() {
            let Some(entry) = entry.filter(|e| !e.is_extended()) else { continue };
            let absolute = Entry { start: Lba(at.0 + entry.start.0), ..entry };
            let logical = placed(number, &absolute, Role::Logical, Some(at));
            let is_inside = logical.start >= extended.start && logical.end() <= extended.end();
            // The third and fourth entries are unused: any content is most probably garbage.
            if i >= 2 && !is_inside {
                continue;
            }
            if number > LAST {
                table.findings.push(Finding::TooManyLogicals(LAST - 4));
                return Ok(());
            }
            if !is_inside {
                table.findings.push(Finding::OutsideExtended(number));
            }
            table.partitions.push(logical);
            number += 1;
        }
        match ebr.entries.iter().flatten().find(|e| e.is_extended()) {
            Some(next) => at = Lba(extended.start.0 + next.start.0),
            None => return Ok(()),
        }
        // A chain of empty tables ends too.
        if visited.len() > 4 * super::description::MAX_LOGICALS as usize {
            table.findings.push(Finding::EbrBroken { at, reason: "the chain is too long".to_owned() });
            return Ok(());
        }
    }
}

fn placed(number: u32, entry: &Entry, role: Role, ebr: Option<Lba>) -> Placed {
    Placed {
        number,
        kind: PartitionKind::Mbr(entry.kind),
        role,
        start: entry.start,
        size: entry.size,
        ebr,
        name: String::new(),
        uuid: None,
        attributes: 0,
        bootable: entry.active,
    }
}
