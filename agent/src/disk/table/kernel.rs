//! The kernel's view of a new partition table.
//!
//! The kernel reads the table itself. Otherwise the partitions are added one by one: for loop devices, and
//! for kernels without a parser for this kind of table.

use crate::disk::claim::{self, Claim, Refusal};
use crate::disk::error::DiskError;
use crate::disk::wait::retry;
use ka::disk::description::Role;
use ka::disk::layout::{Layout, Placed};
use ka::disk::units::InMb;
use ka_host::sys::block;
use ka_host::sysfs::{self, KernelPartition};
use nix::errno::Errno;
use std::fs::File;
use std::time::Duration;

/// How long device nodes may take to appear and to become usable.
const NODE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a partition may stay open after its last permitted user.
const BUSY: Duration = Duration::from_secs(3);

/// The kernel's view of an extended partition: space for a boot loader, and no file system.
const EXTENDED: u64 = 1024;

/// Makes the kernel use the new partitions.
pub(super) fn tell(claim: &Claim, disk: &File, layout: &Layout) -> Result<(), DiskError> {
    match block::reread_table(disk) {
        Ok(()) if partitions(claim).is_ok_and(|seen| agrees(&seen, layout)) => return Ok(()),
        Ok(()) => log::info!("{}: the kernel read no such table; telling it the partitions", claim.name),
        Err(e) => log::info!("{}: the kernel reads no table ({e}); telling it the partitions", claim.name),
    }
    for partition in partitions(claim)? {
        forget(disk, &partition)?;
    }
    for place in extents(layout) {
        block::add_partition(disk, place.number, place.start, place.size)
            .map_err(|e| DiskError::io(&claim.node, "tell the kernel of a new partition", e))?;
    }
    Ok(())
}

/// Makes the kernel forget the disk's partitions, and returns them. The disk is not changed.
///
/// # Errors
/// A partition is open in a program. The kernel then knows all of them again.
pub(in crate::disk) fn release(claim: &Claim, disk: &File) -> Result<Vec<KernelPartition>, DiskError> {
    let mut released = Vec::new();
    for partition in partitions(claim)? {
        // Programs that probe every new disk, such as udev, finish within moments.
        let delete = || block::delete_partition(disk, partition.number);
        match retry(BUSY, delete, |e| *e == Errno::EBUSY) {
            Ok(()) | Err(Errno::ENXIO) => released.push(partition),
            Err(e) => {
                restore(claim, disk, &released);
                return Err(match e {
                    Errno::EBUSY => Refusal::Open {
                        device: partition.name,
                        program: "a program that cannot be seen from here".to_owned(),
                    }
                    .into(),
                    e => DiskError::io(partition.node(), "make the kernel forget it", e),
                });
            }
        }
    }
    Ok(released)
}

/// Adds partitions that the kernel had to forget back to the kernel.
pub(in crate::disk) fn restore(claim: &Claim, disk: &File, partitions: &[KernelPartition]) {
    for KernelPartition { number, start, size, name } in partitions {
        if let Err(e) = block::add_partition(disk, *number, *start, *size) {
            log::error!("{}: the kernel does not know {name} any more: {e}; `partprobe` helps", claim.name);
        }
    }
}

/// Removes all partitions from the kernel.
pub(super) fn forget_all(claim: &Claim, disk: &File) -> Result<(), DiskError> {
    for partition in partitions(claim)? {
        // A partition that is still busy: the kernel keeps it until the next boot, although it is no longer
        // on the disk.
        if let Err(e) = forget(disk, &partition) {
            log::warn!("{e}");
        }
    }
    Ok(())
}

fn forget(disk: &File, partition: &KernelPartition) -> Result<(), DiskError> {
    match block::delete_partition(disk, partition.number) {
        Ok(()) | Err(Errno::ENXIO) => Ok(()),
        Err(e) => Err(DiskError::io(partition.node(), "make the kernel forget it", e)),
    }
}

/// Waits until the kernel sees the layout's partitions and each has a usable device node; returns them.
pub(in crate::disk) fn wait_for_partitions(
    claim: &Claim,
    layout: &Layout,
) -> Result<Vec<KernelPartition>, DiskError> {
    let look = || {
        let seen = partitions(claim)?;
        if !agrees(&seen, layout) {
            return Err(DiskError::KernelView {
                disk: claim.name.clone(),
                expected: list(&extents(layout)),
                found: list(&of_kernel(&seen)),
            });
        }
        match seen.iter().find(|p| !is_usable(p)) {
            Some(late) => Err(DiskError::NoNode { path: late.node(), seconds: NODE_DEADLINE.as_secs() }),
            None => Ok(seen),
        }
    };
    retry(NODE_DEADLINE, look, |e| matches!(e, DiskError::KernelView { .. } | DiskError::NoNode { .. }))
}

/// Whether the partition's node exists and the disk is no longer open exclusively: a process forked by
/// another thread may hold a copy of that open file until it calls exec.
fn is_usable(partition: &KernelPartition) -> bool {
    let number = sysfs::device_number(&partition.name).ok();
    let node = partition.node();
    number.is_some() && sysfs::block_number(&node) == number && claim::open_exclusive(&node, false).is_ok()
}

/// A partition as the kernel has it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartitionExtent {
    number: u32,
    start: u64,
    size: u64,
}

/// The size shown for an extended partition differs between kernels.
fn agrees(seen: &[KernelPartition], layout: &Layout) -> bool {
    let expected = extents(layout);
    let is_extended = |number| layout.partition(number).is_some_and(|p| p.role == Role::Extended);
    seen.len() == expected.len()
        && of_kernel(seen).iter().zip(&expected).all(|(seen, expected)| {
            seen == expected
                || is_extended(seen.number) && (seen.number, seen.start) == (expected.number, expected.start)
        })
}

fn of_kernel(seen: &[KernelPartition]) -> Vec<PartitionExtent> {
    seen.iter().map(|p| PartitionExtent { number: p.number, start: p.start, size: p.size }).collect()
}

/// The partitions that the kernel should have, by number.
fn extents(layout: &Layout) -> Vec<PartitionExtent> {
    let sector = layout.disk.sector;
    let first_logical = layout.partitions.iter().filter(|p| p.role == Role::Logical).map(|p| p.start).min();
    let size = |placed: &Placed| match placed.role {
        Role::Primary | Role::Logical => placed.size.bytes(sector),
        // Partitions added to the kernel must not overlap.
        Role::Extended => {
            let before = first_logical.map(|first| first.0.saturating_sub(placed.start.0));
            let free = before.map_or(placed.size.bytes(sector), |sectors| sectors * sector.bytes());
            placed.size.bytes(sector).min(EXTENDED.max(sector.bytes())).min(free)
        }
    };
    let extent = |placed: &Placed| PartitionExtent {
        number: placed.number,
        start: placed.start.bytes(sector),
        size: size(placed),
    };
    layout.partitions.iter().map(extent).collect()
}

fn list(extents: &[PartitionExtent]) -> String {
    let one = |PartitionExtent { number, start, size }: &PartitionExtent| {
        format!("{number}: {} at {}", InMb(*size), InMb(*start))
    };
    if extents.is_empty() {
        "none".to_owned()
    } else {
        extents.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn partitions(claim: &Claim) -> Result<Vec<KernelPartition>, DiskError> {
    sysfs::partitions(&claim.name)
        .map_err(|e| DiskError::io(&claim.node, "ask the kernel for its partitions", e))
}
