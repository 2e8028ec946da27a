//! The contents of the disks, as blkid(8) sees them.

use std::fs::File;
use std::path::{Path, PathBuf};

use ka::disk::table::Table;
use ka::disk::units::{DiskSize, SectorSize};
use ka::inventory::{Content, Disk};
use ka::plan::report::partition_name;

use super::disks::{partitions, size};
use super::{Tree, printable};
use crate::blkid::{self, BlkidError, Contents};

/// Fills in the table and contents of every disk. If blkid is missing, they stay empty and this is logged.
pub(super) fn fill_in(disks: &mut [Disk], tree: &Tree) {
    for disk in disks {
        if let Err(e) = look(disk, tree) {
            log::info!("{e}: the contents of the disks are unknown");
            return;
        }
    }
}

/// Fails only if blkid is missing.
fn look(disk: &mut Disk, tree: &Tree) -> Result<(), BlkidError> {
    let folder = tree.sys.join("block").join(&disk.name);
    let node = node(&disk.name);
    let whole = found(&disk.name, blkid::probe(&node))?;
    disk.table.clone_from(&whole.table);
    let mut contents = Vec::new();
    // An unpartitioned disk: a file system on all of it, or a member of an array.
    if whole.kind.is_some() {
        contents.push(content(&disk.name, disk.size, whole));
    }
    let seen = partitions(&folder);
    for partition in &seen {
        let found = found(partition, blkid::probe(&self::node(partition)))?;
        contents.push(content(partition, size(&folder.join(partition)).unwrap_or(0), found));
    }
    if seen.is_empty() && disk.table.is_some() {
        for (name, start, size) in unseen(disk, &node) {
            let found = found(&name, blkid::probe_at(&node, start, size))?;
            contents.push(content(&name, size, found));
        }
    }
    disk.contents = contents;
    Ok(())
}

/// Name, start and size of the partitions in a table that the kernel did not read.
fn unseen(disk: &Disk, node: &Path) -> Vec<(String, u64, u64)> {
    let table = SectorSize::try_from(disk.sector_size).ok().and_then(|sector| {
        let size = DiskSize::of_bytes(disk.size, sector);
        Table::read(&mut File::open(node).ok()?, size).ok()
    });
    let Some(Table { disk: DiskSize { sector, .. }, partitions, .. }) = table else { return Vec::new() };
    let placed = partitions.iter();
    placed
        .map(|p| (partition_name(&disk.name, p.number), p.start.bytes(sector), p.size.bytes(sector)))
        .collect()
}

fn node(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

/// A device that cannot be read, or has conflicting signatures, does not hide the others.
fn found(name: &str, outcome: Result<Contents, BlkidError>) -> Result<Contents, BlkidError> {
    match outcome {
        Err(e @ BlkidError::Start(_)) => Err(e),
        Err(e) => {
            log::warn!("{e}; the contents of {name} are unknown");
            Ok(Contents::default())
        }
        outcome => outcome,
    }
}

fn content(device: &str, size: u64, found: Contents) -> Content {
    Content {
        device: device.to_owned(),
        size,
        kind: found.kind,
        label: found.label.map(|label| printable(&label)).filter(|label| !label.is_empty()),
    }
}
