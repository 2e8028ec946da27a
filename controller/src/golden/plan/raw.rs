//! Partitions that are copied as they are (`-D`).

use super::PlanError;
use crate::golden::scan::{GoldenDisk, GoldenPartition, Usage};
use ka::disk::kind::PartitionKind;
use ka_agent::disk::sysfs;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The device nodes of the partitions that `-D` names, each of which can be copied.
pub(super) fn wanted(names: &[String], disks: &[GoldenDisk]) -> Result<BTreeSet<PathBuf>, PlanError> {
    let mut nodes = BTreeSet::new();
    for name in names {
        let wrong = |reason: String| PlanError::Raw { partition: name.clone(), reason };
        let number = sysfs::block_number(&Path::new("/dev").join(name));
        let node =
            number.and_then(|number| sysfs::name_of(number).ok()).map(|name| Path::new("/dev").join(name));
        let node = node.ok_or_else(|| wrong("this machine has no such partition".to_owned()))?;
        let partition = disks.iter().flat_map(|disk| &disk.partitions).find(|p| p.node == node);
        let partition = partition.ok_or_else(|| {
            let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
            wrong(format!(
                "expected a partition of a disk that is copied (-p), which is {}",
                names.join(" or ")
            ))
        })?;
        check(partition, is_frozen).map_err(wrong)?;
        nodes.insert(node);
    }
    Ok(nodes)
}

/// Whether nobody writes to a partition while it is read.
pub(super) fn check(
    partition: &GoldenPartition,
    is_frozen: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), String> {
    if partition.kind.is_some_and(PartitionKind::is_extended) {
        return Err("it only holds the logical partitions: name those".to_owned());
    }
    match &partition.usage {
        Usage::Unused | Usage::Mounted { read_only: true, .. } => Ok(()),
        Usage::Mounted { at, .. } => match is_frozen(at) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "it is mounted at {at}, and what is written while it is read would make a broken copy: unmount it, or \
                 remount it read-only (mount -o remount,ro {at}), or freeze it (fsfreeze -f {at})",
                at = at.display()
            )),
            Err(e) => Err(format!("whether {} is frozen can't be told: {e}", at.display())),
        },
        Usage::Swap => Err("it is swapped to: copy it as `swap`, or end that with swapoff".to_owned()),
        Usage::Held { by } => Err(format!("it is part of {by}, which writes to it")),
        Usage::Exclusive => Err("an unknown program has it open exclusively".to_owned()),
    }
}

fn is_frozen(at: &Path) -> io::Result<bool> {
    Ok(ka_agent::sys::freeze::is_frozen(&File::open(at)?)?)
}
