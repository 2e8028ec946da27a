//! The previous contents of a disk: partitions that the kernel knows, and those in its table, which a kernel
//! without a parser for that table has never seen.

use super::claim::Claim;
use super::error::DiskError;
use ka::disk::table::Table;
use ka_host::sysfs;
use std::fs::File;

/// A byte range of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The old partitions, clipped to the disk.
pub(super) fn partitions(claim: &Claim, disk: &File) -> Result<Vec<Extent>, DiskError> {
    let seen = sysfs::partitions(&claim.name)
        .map_err(|e| DiskError::io(&claim.node, "ask the kernel for its partitions", e))?;
    let mut old: Vec<Extent> =
        seen.iter().map(|p| Extent { start: p.start, end: p.start.saturating_add(p.size) }).collect();
    let mut reader = disk;
    match Table::read(&mut reader, claim.size) {
        Ok(table) => {
            let sector = claim.size.sector;
            for finding in &table.findings {
                log::info!("{}: the old partition table: {finding}", claim.name);
            }
            for placed in &table.partitions {
                old.push(Extent { start: placed.start.bytes(sector), end: placed.end().bytes(sector) });
                let table = placed.ebr.map(|at| at.bytes(sector));
                old.extend(table.map(|start| Extent { start, end: start + sector.bytes() }));
            }
        }
        // A disk without a table, or with an unusable one, has no partitions to wipe.
        Err(e) => log::info!("{}: {e}", claim.name),
    }
    let size = claim.size.bytes();
    old.iter_mut().for_each(|extent| extent.end = extent.end.min(size));
    old.retain(|extent| extent.start < extent.end);
    old.sort();
    old.dedup();
    Ok(old)
}
