//! What a node needs that starts by the firmware that this machine does not have (`--firmware auto`).

use std::path::Path;

use ka::disk::description::Entry;
use ka::inventory::Firmware;
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan};

use super::Planned;

/// Where a system that has never had an EFI system partition gets one.
const SYSTEM_PARTITION: &str = "/boot/efi";

/// Mounts an EFI system partition that this machine has no use for, and finds out whether the system below `root` has
/// what it takes.
pub(super) fn convert(planned: &mut Planned, root: &Path) {
    let other = match planned.plan.boot.golden_firmware {
        Firmware::Bios => Firmware::Uefi,
        Firmware::Uefi => Firmware::Bios,
    };
    if other == Firmware::Uefi {
        mount_system_partition(planned);
    }
    planned.other_firmware = ka_host::system::missing(root, other);
    if let Some(reason) = &planned.other_firmware {
        planned.notes.push(format!("only nodes with this machine's firmware are cloned: {reason}"));
    }
}

fn mount_system_partition(planned: &mut Planned) {
    let disks = &mut planned.plan.disks;
    let taken = |fs: &FileSystemPlan| fs.mount_point.as_deref() == Some(SYSTEM_PARTITION);
    if disks.iter().flat_map(|disk| &disk.file_systems).any(taken) {
        return;
    }
    let Some(fs) = disks.iter_mut().find_map(unused) else { return };
    fs.mount_point = Some(SYSTEM_PARTITION.to_owned());
    let number = fs.partition;
    planned
        .notes
        .push(format!("partition {number} is mounted at {SYSTEM_PARTITION} on nodes that start by UEFI"));
}

/// An EFI system partition that nothing is copied to.
fn unused(disk: &mut DiskPlan) -> Option<&mut FileSystemPlan> {
    let DiskPlan { desc, file_systems, .. } = disk;
    let is_esp = |number| desc.entry(number).is_some_and(|entry: &Entry| entry.kind.is_esp());
    file_systems
        .iter_mut()
        .find(|fs| fs.kind == FileSystemKind::Vfat && fs.mount_point.is_none() && is_esp(fs.partition))
}
