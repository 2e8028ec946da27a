//! What a node needs that starts by the firmware that this machine does not have (`--firmware auto`).

use std::path::Path;

use ka::inventory::Firmware;
use ka::plan::{Backing, FileSystemKind, FileSystemPlan, Storage, VolumeContent};

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
    let storage = &mut planned.plan.storage;
    if storage.file_systems().any(|fs| fs.mount_point.as_deref() == Some(SYSTEM_PARTITION)) {
        return;
    }
    let Some((number, fs)) = unused(storage) else { return };
    fs.mount_point = Some(SYSTEM_PARTITION.to_owned());
    planned
        .notes
        .push(format!("partition {number} is mounted at {SYSTEM_PARTITION} on nodes that start by UEFI"));
}

/// An EFI system partition that nothing is copied to.
fn unused(storage: &mut Storage) -> Option<(u32, &mut FileSystemPlan)> {
    let Storage { disks, volumes, .. } = storage;
    let is_esp = |disk: usize, number| {
        let entry = disks.get(disk).and_then(|plan| plan.desc.entry(number));
        entry.is_some_and(|entry| entry.kind.is_esp())
    };
    volumes.iter_mut().find_map(|volume| match (&volume.backing, &mut volume.content) {
        (&Backing::Partition { disk, number }, VolumeContent::FileSystem(fs))
            if fs.kind == FileSystemKind::Vfat && fs.mount_point.is_none() && is_esp(disk, number) =>
        {
            Some((number, &mut **fs))
        }
        _ => None,
    })
}
