//! What is on the disks, as blkid(8) sees it.

use std::path::Path;

use ka::inventory::{Content, Disk};

use super::disks::{partitions, size};
use super::{Tree, told};
use crate::disk::blkid::{self, BlkidError, Contents};

/// Fills in table and contents of every disk. Without blkid they stay empty, which is logged.
pub(super) fn fill_in(disks: &mut [Disk], tree: &Tree) {
    for disk in disks {
        if let Err(e) = look(disk, tree) {
            log::info!("{e}: what is on the disks stays unknown");
            return;
        }
    }
}

/// Fails only if there is no blkid.
fn look(disk: &mut Disk, tree: &Tree) -> Result<(), BlkidError> {
    let folder = tree.sys.join("block").join(&disk.name);
    let whole = found_on(&disk.name)?;
    disk.table.clone_from(&whole.table);
    let mut contents = Vec::new();
    // A disk with a file system on the whole of it, or a member of an array.
    if whole.kind.is_some() {
        contents.push(content(&disk.name, disk.size, whole));
    }
    for partition in partitions(&folder) {
        let found = found_on(&partition)?;
        contents.push(content(&partition, size(&folder.join(&partition)).unwrap_or(0), found));
    }
    disk.contents = contents;
    Ok(())
}

/// A device that can't be read, or that carries signatures of two kinds, hides nothing of the others.
fn found_on(name: &str) -> Result<Contents, BlkidError> {
    match blkid::probe(&Path::new("/dev").join(name.replace('!', "/"))) {
        Err(e @ BlkidError::Start(_)) => Err(e),
        Err(e) => {
            log::warn!("{e}; what is on {name} stays unknown");
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
        label: found.label.map(|label| told(&label)).filter(|label| !label.is_empty()),
    }
}
