//! The exact places given in a description.

use super::super::description::{Description, Entry, Length, Role, Size};
use super::super::units::SectorSize;
use super::{Extent, LayoutError, Space};

/// An entry with its place.
struct At<'a> {
    entry: &'a Entry,
    start: u64,
    size: u64,
}

impl At<'_> {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// The places in the description, in line order; `None` if it gives none, has shares, or needs more than this
/// disk has. A missing start is the next free MB.
pub(super) fn places(description: &Description, space: &Space) -> Result<Option<Vec<Extent>>, LayoutError> {
    let Some(all) = named(description, space) else { return Ok(None) };
    if all.iter().any(|at| at.start < space.first || at.end() > space.end) {
        return Ok(None);
    }
    let extended = all.iter().find(|at| at.entry.role == Role::Extended);
    let mut places = Vec::new();
    for at in &all {
        let is_logical = at.entry.role == Role::Logical;
        let mut others = all.iter().filter(|o| (o.entry.role == Role::Logical) == is_logical);
        let other = others.find(|o| o.start < at.start && at.start < o.end() || is_before(o, at));
        if let Some(other) = other {
            let Entry { number, line, .. } = *at.entry;
            return Err(LayoutError::Overlap { number, line, other: other.entry.number });
        }
        let ebr = match (is_logical, extended) {
            (true, Some(extended)) => Some(ebr(at, &all, extended, space)?),
            _ => None,
        };
        places.push(Extent { start: at.start, size: at.size, ebr });
    }
    Ok(Some(places))
}

/// If two begin at the same place, one is reported.
fn is_before(other: &At<'_>, at: &At<'_>) -> bool {
    other.start == at.start && other.entry.number < at.entry.number
}

/// Starts and sizes in this disk's sectors, if all are known and divide evenly.
fn named<'a>(description: &'a Description, space: &Space) -> Option<Vec<At<'a>>> {
    let entries = description.entries();
    if entries.iter().all(|e| e.start.is_none()) || entries.iter().any(Entry::is_fill) {
        return None;
    }
    let sectors = |length: Length| in_sectors(description, length, space.disk.sector);
    let per_mb = space.disk.sector.per_mb();
    let mut all: Vec<At<'_>> = Vec::new();
    for entry in entries {
        let Size::Fixed(length) = entry.size else { return None };
        let size = sectors(length)?;
        let is_logical = entry.role == Role::Logical;
        let free = || {
            let before = all.iter().filter(|o| (o.entry.role == Role::Logical) == is_logical);
            let extended = all.iter().find(|o| o.entry.role == Role::Extended).filter(|_| is_logical);
            let last = before.map(At::end).chain(extended.map(|e| e.start)).max().unwrap_or(space.first);
            (last.div_ceil(per_mb) + u64::from(is_logical)).checked_mul(per_mb)
        };
        let start = match entry.start {
            Some(start) => sectors(start)?,
            None => free()?,
        };
        all.push(At { entry, start, size });
    }
    Some(all)
}

/// A length in sectors of the disk, if it divides evenly.
fn in_sectors(description: &Description, length: Length, sector: SectorSize) -> Option<u64> {
    match length {
        Length::Sectors(sectors) if description.header().sector.is_none_or(|own| own == sector) => {
            Some(sectors)
        }
        _ => {
            let bytes = description.bytes(length, sector);
            bytes.is_multiple_of(sector.bytes()).then_some(bytes / sector.bytes())
        }
    }
}

/// The place of a logical partition's table: the first one's at the start of the extended partition,
/// another's one MB before its partition, or as far before it as there is room.
fn ebr(at: &At<'_>, all: &[At<'_>], extended: &At<'_>, space: &Space) -> Result<u64, LayoutError> {
    let outside = || LayoutError::Outside { number: at.entry.number, line: at.entry.line };
    if at.start <= extended.start || at.end() > extended.end() {
        return Err(outside());
    }
    if at.entry.number == 5 {
        return Ok(extended.start);
    }
    let logicals = all.iter().filter(|o| o.entry.role == Role::Logical);
    let before = logicals.map(At::end).filter(|end| *end <= at.start).max();
    // The first table takes the first sector of the extended partition.
    let free = before.unwrap_or(extended.start + 1);
    if free >= at.start {
        return Err(outside());
    }
    Ok(at.start.saturating_sub(space.disk.sector.per_mb()).max(free))
}
