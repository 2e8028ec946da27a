//! The order of writes on a claimed disk.
//!
//! The first write removes what could boot, so that neither a failure nor a power cut leaves a disk that
//! starts half a system. Then everything by which old contents could be recognised is erased, and the new
//! table is written without boot code and active flag: those are written when the node is finished.

mod kernel;
#[cfg(test)]
mod tests;

use super::claim::Claim;
use super::error::DiskError;
use super::medium::Medium;
use super::old::Extent;
use ka::disk::layout::Layout;
use ka::disk::table::Write;
use ka::disk::units::MB;
pub(super) use kernel::{release, restore, wait_for_partitions};
use std::fs::File;
use std::io;

/// Signatures of all file systems, swap, LVM and RAID are in the first MiB of a partition (most of them in
/// the first sectors), in the last two (Linux RAID, firmware RAID and ZFS; Promise's is up to 1.5 MiB before
/// the end), or in a copy at one of these offsets: the LUKS2 header, VMFS and UDF, the btrfs superblock, and
/// the label of Ceph's BlueStore. These are the places that libblkid's probes, wipefs(8) and ceph-volume(8)
/// read.
const COPIES: [u64; 9] = [MB, 2 * MB, 4 * MB, 64 * MB, 256 << 30, 1 << 30, 10 << 30, 100 << 30, 1000 << 30];

/// The number of bytes at the end that may hold a RAID signature.
const TAIL: u64 = 2 * MB;

/// The number of bytes zeroed at such an offset.
const COPY: u64 = 4096;

/// Erases all recognisable old contents of the disk and of its `old` partitions, writes the new table, and
/// updates the kernel. `disk` is open exclusively.
pub(super) fn write(
    claim: &Claim,
    disk: &File,
    layout: &Layout,
    writes: &[Write],
    old: &[Extent],
) -> Result<(), DiskError> {
    let failed = |doing| move |e| DiskError::io(&claim.node, doing, e);
    let size = claim.size.bytes();
    take_away_boot(disk, size).map_err(failed("take away what could boot"))?;
    wipe_signatures(disk, layout, old).map_err(failed("erase old signatures"))?;
    write_table(disk, writes).map_err(failed("write the partition table"))?;
    kernel::tell(claim, disk, layout)
}

/// Removes the table again, so that nothing on the disk is taken for a system.
pub(super) fn clear(claim: &Claim) -> Result<(), DiskError> {
    let disk = claim.file();
    take_away_boot(disk, claim.size.bytes())
        .map_err(|e| DiskError::io(&claim.node, "clear the partition table", e))?;
    kernel::forget_all(claim, disk)
}

/// Zeros the first sector, then the rest of the disk's first MiB with the primary GPT, and then its last MiB
/// with the backup GPT. Until the last of them is gone, the old system is intact.
fn take_away_boot(disk: &dyn Medium, size: u64) -> io::Result<()> {
    let head = MB.min(size);
    for (start, end) in [(0, COPY.min(head)), (COPY.min(head), head), (size.saturating_sub(MB), size)] {
        zero(disk, Extent { start, end })?;
        disk.sync()?;
    }
    Ok(())
}

/// Zeros the signatures in every partition, old or new.
fn wipe_signatures(disk: &dyn Medium, layout: &Layout, old: &[Extent]) -> io::Result<()> {
    let sector = layout.disk.sector;
    let new =
        layout.partitions.iter().map(|p| Extent { start: p.start.bytes(sector), end: p.end().bytes(sector) });
    // A disk may have been one file system, or one OSD, without a partition table.
    let whole = Extent { start: 0, end: layout.disk.bytes() };
    for Extent { start, end } in old.iter().copied().chain(new).chain([whole]) {
        let within = |from: u64, length: u64| Extent { start: from.min(end), end: (from + length).min(end) };
        zero(disk, within(start, MB))?;
        for copy in COPIES {
            zero(disk, within(start.saturating_add(copy), COPY))?;
        }
        zero(disk, Extent { start: end.saturating_sub(TAIL).max(start), end })?;
    }
    disk.sync()
}

/// The first sector is the table's last write: before it there is no table.
fn write_table(disk: &dyn Medium, writes: &[Write]) -> io::Result<()> {
    for write in writes {
        disk.write_all_at(&write.bytes, write.offset)?;
        disk.sync()?;
    }
    Ok(())
}

fn zero(disk: &dyn Medium, extent: Extent) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 1 << 16];
    let mut at = extent.start;
    while at < extent.end {
        let length = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(ZEROS.len());
        disk.write_all_at(ZEROS.get(..length).unwrap_or_default(), at)?;
        at += length as u64;
    }
    Ok(())
}
