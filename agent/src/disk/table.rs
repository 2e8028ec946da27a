//! The order of writes on a claimed disk, and the kernel's view of it.
//!
//! The first write takes away what could boot, so that neither a failure nor a power cut leaves a disk
//! that starts half a system. Then everything goes by which old contents could be recognised, then the
//! new table is written, with no boot code and no active flag: those come when the node is finished.

use super::claim::{self, Claim};
use super::error::DiskError;
use super::sysfs::{self, KernelPartition};
use super::wait::retry;
use crate::sys::block;
use ka::disk::description::Role;
use ka::disk::layout::{Layout, Placed};
use ka::disk::mbr::{self, Mbr};
use ka::disk::table::Write;
use ka::disk::units::{InMb, MB};
use nix::errno::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// How long device nodes may take to appear and to be usable.
const NODE_DEADLINE: Duration = Duration::from_secs(20);

/// A stretch of the disk in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    start: u64,
    end: u64,
}

/// Erases the disk's old contents (of its `old` partitions too) as far as anybody could recognise them, and
/// writes the new table.
/// `disk` is open exclusively.
pub(super) fn write(
    claim: &Claim,
    disk: &File,
    layout: &Layout,
    writes: &[Write],
    old: &[Extent],
) -> Result<(), DiskError> {
    take_away_boot(claim, disk)?;
    wipe_signatures(claim, disk, layout, old)?;
    // The first sector is the last of them: before it there is no table.
    for write in writes {
        disk.write_all_at(&write.bytes, write.offset)
            .and_then(|()| disk.sync_all())
            .map_err(|e| DiskError::io(&claim.node, "write the partition table", e))?;
    }
    tell_kernel(claim, disk, layout)
}

/// Takes the table away again, so that nothing on the disk is taken for a system.
pub(super) fn clear(claim: &Claim) -> Result<(), DiskError> {
    let disk = claim.file();
    take_away_boot(claim, disk)?;
    for partition in kernel_partitions(claim)? {
        // One that is still busy: the kernel keeps it until the next boot, and the disk has it no more.
        if let Err(e) = forget(disk, &partition) {
            log::warn!("{e}");
        }
    }
    Ok(())
}

/// Zeros the disk's first MiB, with MBR and GPT, and then its last, with the GPT's other copy.
fn take_away_boot(claim: &Claim, disk: &File) -> Result<(), DiskError> {
    let size = claim.size.bytes();
    zero(claim, disk, Extent { start: 0, end: MB.min(size) })?;
    sync(claim, disk)?;
    zero(claim, disk, Extent { start: size.saturating_sub(MB), end: size })?;
    sync(claim, disk)
}

/// Zeros the first and the last MiB of every partition, old or new: all that file systems, swap, LVM
/// and RAID are recognised by lies there.
fn wipe_signatures(claim: &Claim, disk: &File, layout: &Layout, old: &[Extent]) -> Result<(), DiskError> {
    let sector = layout.disk.sector;
    let new =
        layout.partitions.iter().map(|p| Extent { start: p.start.bytes(sector), end: p.end().bytes(sector) });
    for extent in new.chain(old.iter().copied()) {
        let end = extent.end.min(claim.size.bytes());
        let head = Extent { start: extent.start, end: extent.start.saturating_add(MB).min(end) };
        let tail = Extent { start: end.saturating_sub(MB).max(extent.start), end };
        zero(claim, disk, head)?;
        zero(claim, disk, tail)?;
    }
    sync(claim, disk)
}

/// The partitions that the disk had, by its MBR and as the kernel sees them (with GPT and logicals).
pub(super) fn old_partitions(claim: &Claim, disk: &File) -> Result<Vec<Extent>, DiskError> {
    let mut sector = [0; mbr::SIZE];
    disk.read_exact_at(&mut sector, 0).map_err(|e| DiskError::io(&claim.node, "read the old table", e))?;
    let by_kernel = kernel_partitions(claim)?;
    let by_kernel = by_kernel.iter().map(|p| Extent { start: p.start, end: p.start.saturating_add(p.size) });
    // What is no MBR has no partitions of its own to wipe.
    let old = Mbr::decode(&sector).ok();
    let entries = old.iter().flat_map(|mbr| mbr.entries.iter().flatten());
    let by_table = entries.map(|e| {
        let start = e.start.bytes(claim.size.sector);
        Extent { start, end: start.saturating_add(e.size.bytes(claim.size.sector)) }
    });
    Ok(by_kernel.chain(by_table).collect())
}

fn zero(claim: &Claim, disk: &File, extent: Extent) -> Result<(), DiskError> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = extent.start;
    while at < extent.end {
        let length = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(ZEROS.len());
        disk.write_all_at(ZEROS.get(..length).unwrap_or_default(), at)
            .map_err(|e| DiskError::io(&claim.node, "erase old signatures", e))?;
        at += length as u64;
    }
    Ok(())
}

fn sync(claim: &Claim, disk: &File) -> Result<(), DiskError> {
    disk.sync_all().map_err(|e| DiskError::io(&claim.node, "erase old signatures", e))
}

/// Has the kernel see the new partitions: by reading the table itself, or told one by one where it
/// doesn't (loop devices; kernels without a parser for MBRs).
fn tell_kernel(claim: &Claim, disk: &File, layout: &Layout) -> Result<(), DiskError> {
    match block::reread_table(disk) {
        Ok(()) if kernel_partitions(claim).is_ok_and(|seen| agrees(&seen, layout)) => return Ok(()),
        Ok(()) => log::info!("{}: the kernel read no table; telling it the partitions", claim.name),
        Err(e) => log::info!("{}: the kernel reads no table ({e}); telling it the partitions", claim.name),
    }
    for partition in kernel_partitions(claim)? {
        forget(disk, &partition)?;
    }
    for (number, start, size) in from_layout(layout) {
        block::add_partition(disk, number, start, size)
            .map_err(|e| DiskError::io(&claim.node, "tell the kernel of a new partition", e))?;
    }
    Ok(())
}

fn forget(disk: &File, partition: &KernelPartition) -> Result<(), DiskError> {
    match block::delete_partition(disk, partition.number) {
        Ok(()) | Err(Errno::ENXIO) => Ok(()),
        Err(e) => Err(DiskError::io(partition.node(), "make the kernel forget it", e)),
    }
}

/// Waits until the kernel sees the layout's partitions, and each has its device node and can be used;
/// returns them.
pub(super) fn wait_for_partitions(claim: &Claim, layout: &Layout) -> Result<Vec<KernelPartition>, DiskError> {
    let look = || {
        let seen = kernel_partitions(claim)?;
        if !agrees(&seen, layout) {
            return Err(DiskError::KernelView {
                disk: claim.name.clone(),
                expected: list(&from_layout(layout)),
                found: list(&from_kernel(&seen)),
            });
        }
        match seen.iter().find(|p| !is_usable(p)) {
            Some(late) => Err(DiskError::NoNode { path: late.node(), seconds: NODE_DEADLINE.as_secs() }),
            None => Ok(seen),
        }
    };
    retry(NODE_DEADLINE, look, |e| matches!(e, DiskError::KernelView { .. } | DiskError::NoNode { .. }))
}

/// Whether the partition's node is there, and nobody has the disk exclusively any more: a process that
/// another thread started may have a copy of that open file until it runs its program.
fn is_usable(partition: &KernelPartition) -> bool {
    let number = sysfs::device_number(&partition.name).ok();
    let node = partition.node();
    number.is_some() && sysfs::block_number(&node) == number && claim::open_exclusive(&node, false).is_ok()
}

fn agrees(seen: &[KernelPartition], layout: &Layout) -> bool {
    from_kernel(seen) == from_layout(layout)
}

/// Partitions as number, start and size in bytes.
type Places = Vec<(u32, u64, u64)>;

fn from_kernel(seen: &[KernelPartition]) -> Places {
    seen.iter().map(|p| (p.number, p.start, p.size)).collect()
}

fn from_layout(layout: &Layout) -> Places {
    let sector = layout.disk.sector;
    let size = |p: &Placed| match p.role {
        // Of an extended partition the kernel shows as much as holds a boot loader.
        Role::Extended => p.size.bytes(sector).min(sector.bytes().max(1024)),
        Role::Primary | Role::Logical => p.size.bytes(sector),
    };
    layout.partitions.iter().map(|p| (p.number, p.start.bytes(sector), size(p))).collect()
}

fn list(places: &Places) -> String {
    let one =
        |(number, start, size): &(u32, u64, u64)| format!("{number}: {} at {}", InMb(*size), InMb(*start));
    if places.is_empty() { "none".to_owned() } else { places.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn kernel_partitions(claim: &Claim) -> Result<Vec<KernelPartition>, DiskError> {
    sysfs::partitions(&claim.name)
        .map_err(|e| DiskError::io(&claim.node, "ask the kernel for its partitions", e))
}
