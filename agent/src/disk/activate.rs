//! The last writes: what the firmware starts.
//!
//! Before these writes nothing on the disks boots; after them the whole system does. Each is one write of one
//! sector, and the disk that the node boots from comes last.

use super::error::DiskError;
use super::medium::Medium;
use super::{BootCode, MadeFileSystem, MadeOn, Written};
use ka::disk::description::Role;
use ka::disk::kind::TableKind;
use ka::disk::layout::{Layout, Placed};
use ka::disk::mbr;
use ka::disk::table::Table;
use ka::plan::DiskPlan;
use ka::plan::report::partition_name;
use ka_host::sys::block;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The boot code from a plan, without the disk's signature that follows it.
pub(super) fn planned_code(plan: &DiskPlan) -> Option<BootCode> {
    plan.boot_code.as_ref().and_then(|bytes| bytes.first_chunk()).map(|code| BootCode(*code))
}

/// The disk with `/boot`, otherwise the one with `/`, otherwise the first.
pub(super) fn boot_disk<'a>(disks: &'a [Written], made: &[MadeFileSystem]) -> Option<&'a Written> {
    let boot = boot_volume(made);
    let has = |disk: &&Written| boot.is_some_and(|fs| disk.has(fs));
    disks.iter().find(has).or_else(|| disks.first())
}

/// Writes boot code and active flags.
pub(super) fn activate(
    disks: &[Written],
    made: &[MadeFileSystem],
    loader: Option<&BootCode>,
) -> Result<(), DiskError> {
    let boot = boot_disk(disks, made);
    let is_boot = |disk: &Written| boot.is_some_and(|boot| boot.claim.name == disk.claim.name);
    let volume = boot_volume(made);
    for disk in disks.iter().filter(|disk| !is_boot(disk)) {
        activate_one(disk, None, None)?;
    }
    match boot {
        Some(disk) => {
            let number = volume.filter(|fs| disk.has(fs)).and_then(|fs| fs.on.partition());
            activate_one(disk, number, loader)
        }
        None => Ok(()),
    }
}

/// The partition mounted at `/boot`, otherwise the one at `/`.
fn boot_volume(made: &[MadeFileSystem]) -> Option<&MadeFileSystem> {
    let at = |point: &str| made.iter().find(|fs| fs.mount_points().any(|own| own == point));
    at("/boot").or_else(|| at("/"))
}

fn activate_one(disk: &Written, boot: Option<u32>, loader: Option<&BootCode>) -> Result<(), DiskError> {
    let Written { claim, layout, boot_code, protective_active } = disk;
    let file = claim.file();
    // Drops the caches, so that the read comes from the medium.
    let forget = || {
        block::forget(file)
            .map_err(|e| DiskError::io(&claim.node, "let the kernel forget what it has read of it", e))
    };
    forget()?;
    check_unchanged(disk)?;
    let mut sector = [0; mbr::SIZE];
    file.read_exact_at(&mut sector, 0)
        .map_err(|e| DiskError::io(&claim.node, "read the partition table", e))?;
    let before = sector;
    if let Some(number) = active(layout, boot, *protective_active) {
        mbr::set_active(&mut sector, number)
            .map_err(|reason| DiskError::Activate { disk: claim.name.clone(), reason })?;
    }
    // Boot code supplied by the operator takes precedence over what the copied system installed.
    if let Some(BootCode(code)) = boot_code.as_ref().or(loader) {
        sector[..mbr::BOOT_CODE].copy_from_slice(code);
    }
    if sector == before {
        return Ok(());
    }
    write(file, &sector).map_err(|e| DiskError::io(&claim.node, "write the boot sector", e))?;
    forget()?;
    let mut kept = [0; mbr::SIZE];
    file.read_exact_at(&mut kept, 0)
        .map_err(|e| DiskError::io(&claim.node, "read the boot sector back", e))?;
    if kept == sector {
        Ok(())
    } else {
        let what = "the boot sector is another one".to_owned();
        Err(DiskError::NotKept { device: claim.node.clone(), what })
    }
}

/// Everything in the disk's write cache must be on the medium before this sector is.
pub(super) fn write(disk: &dyn Medium, sector: &[u8; mbr::SIZE]) -> std::io::Result<()> {
    disk.sync()?;
    disk.write_all_at(sector, 0)?;
    disk.sync()
}

/// The MBR partition that gets the active flag: the one that the description marks, otherwise the one to boot
/// from. A logical partition is replaced by the extended one: boot code does not care, and some BIOSes
/// require one.
///
/// With a GPT it is the single entry of the protective MBR, if any: UEFI firmware may refuse such a disk, and
/// some BIOSes refuse a disk without an active entry.
fn active(layout: &Layout, boot: Option<u32>, protective: bool) -> Option<u32> {
    if layout.table() == TableKind::Gpt {
        return protective.then_some(1);
    }
    let described = layout.partitions.iter().find(|placed| placed.bootable && placed.role != Role::Logical);
    let number = described.map(|placed| placed.number).or(boot)?;
    let placed = layout.partition(number)?;
    if placed.role != Role::Logical {
        return Some(number);
    }
    layout.partitions.iter().find(|placed| placed.role == Role::Extended).map(|placed| placed.number)
}

/// Checks that all parts of the table are still as written.
fn check_unchanged(disk: &Written) -> Result<(), DiskError> {
    let Written { claim, layout, .. } = disk;
    let mut reader = claim.file();
    let table = Table::read(&mut reader, claim.size)
        .map_err(|reason| DiskError::Table { disk: claim.name.clone(), reason })?;
    let places = |placed: &[Placed]| -> Vec<_> {
        placed.iter().map(|p| (p.number, p.kind, p.role, p.start, p.size, p.uuid)).collect()
    };
    if table.id != layout.id || places(&table.partitions) != places(&layout.partitions) {
        return Err(DiskError::TableChanged { disk: claim.name.clone() });
    }
    Ok(())
}

impl Written {
    /// Whether a file system is on this partition.
    fn has(&self, fs: &MadeFileSystem) -> bool {
        match &fs.on {
            MadeOn::Partition(number) => {
                Path::new("/dev").join(partition_name(&self.claim.name, *number)) == fs.device
            }
            MadeOn::LogicalVolume { disks, .. } => disks.contains(&self.claim.node),
        }
    }
}
