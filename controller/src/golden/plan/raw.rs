//! Partitions that are copied as they are (`-D`).

use super::PlanError;
use crate::golden::quiet::{self, Busy};
use crate::golden::scan::{GoldenDisk, GoldenVolume, Usage};
use ka::disk::kind::PartitionKind;
use ka_host::sysfs;
use std::collections::BTreeSet;
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
        check(partition, quiet::is_frozen).map_err(wrong)?;
        nodes.insert(node);
    }
    Ok(nodes)
}

/// Whether nobody writes to a partition while it is read.
pub(super) fn check(
    partition: &GoldenVolume,
    is_frozen: impl Fn(&Path) -> io::Result<bool>,
) -> Result<(), String> {
    if partition.kind.is_some_and(PartitionKind::is_extended) {
        return Err("it only holds the logical partitions: name those".to_owned());
    }
    let busy = match &partition.usage {
        Usage::Unused => return Ok(()),
        Usage::Mounted { at, read_only, .. } => {
            return quiet::check_mounted(at, *read_only, is_frozen).map_err(|busy| busy.to_string());
        }
        Usage::Swap => Busy::Swap,
        Usage::Held { by } => Busy::Held(by.clone()),
        Usage::Exclusive => Busy::Exclusive,
    };
    Err(busy.to_string())
}
