//! Installs the boot loader with the copied system's own tools.
//!
//! Each loader is one file. What a firmware starts is not on the disk yet when this returns: boot code is
//! returned, and the EFI system partition is held back (see `esp`).

mod boot_code;
mod extlinux;
mod fallback;
mod grub;
mod grub_bios;
mod grub_legacy;
mod grub_uefi;
mod lilo;
mod systemd_boot;

use std::path::Path;

use ka::arch::THIS;
use ka::inventory::Firmware;
use ka::notes::NoteKind;
use ka::plan::{BootOrder, BootPlan, Loader};

use crate::disk::{BootCode, MadeFileSystem};
use crate::finish::boot::efi;
use crate::finish::config::names::Names;
use crate::finish::error::Cause;
use crate::finish::esp;
use crate::notes;

/// What a loader's installer needs to know.
pub(in crate::finish) struct Setting<'a> {
    /// The copied system, which is the process's root.
    pub(in crate::finish) root: &'a Path,
    /// The disk that boots.
    pub(in crate::finish) disk: &'a Path,
    /// The firmware that starts this node.
    pub(in crate::finish) firmware: Firmware,
    /// Where the firmware looks first from now on.
    pub(in crate::finish) order: BootOrder,
    /// Whether its menu must have an entry for this system.
    pub(in crate::finish) require_nvram: bool,
    /// This node's file systems.
    pub(in crate::finish) names: &'a Names<'a>,
}

/// Installs the plan's boot loader. Returns the boot code for a BIOS, which is not on the disk.
pub(in crate::finish) fn install(boot: &BootPlan, setting: &Setting<'_>) -> Result<Option<BootCode>, Cause> {
    match (boot.loader, setting.firmware) {
        (Loader::Grub, Firmware::Bios) => grub_bios::install(setting).map(Some),
        (Loader::Grub, Firmware::Uefi) => grub_uefi::install(setting).map(|()| None),
        (Loader::GrubLegacy, _) => grub_legacy::install(setting).map(Some),
        (Loader::Lilo, _) => lilo::install(setting),
        (Loader::SystemdBoot, _) => systemd_boot::install(setting).map(|()| None),
        (Loader::Extlinux, _) => extlinux::install(setting).map(Some),
        (Loader::None, _) => Ok(None),
    }
}

/// The program that a firmware starts when it has lost its menu.
const FALLBACK: &str = THIS.efi.removable;

/// The EFI system partition and its mount point.
fn system_partition<'a>(setting: &Setting<'a>) -> Result<(&'a MadeFileSystem, &'a str), Cause> {
    let esp = esp::of(setting.names.made());
    esp.and_then(|esp| Some((esp, esp.plan.mount_point.as_deref()?))).ok_or(Cause::NoSystemPartition)
}

/// Adds the program `file` (`EFI/debian/grubx64.efi`) of the system partition to the firmware's menu. If the
/// loader is also on the fallback path, the node boots without an entry, unless one is required.
fn register(
    setting: &Setting<'_>,
    label: &str,
    esp: &MadeFileSystem,
    file: &str,
    has_fallback: bool,
) -> Result<(), Cause> {
    let variables = efi::Variables::at(&setting.root.join(efi::MOUNT_POINT));
    let path = format!("\\{}", file.replace('/', "\\"));
    let Err(error) = efi::register(&variables, label, esp, &path, setting.order) else { return Ok(()) };
    if setting.require_nvram || !has_fallback {
        return Err(Cause::Nvram { error: Box::new(error) });
    }
    let text = format!(
        "the firmware's menu has no entry for this node ({error}): it starts {FALLBACK} by itself, after what its menu \
         has; `--nvram require` makes this a failure"
    );
    notes::warn(NoteKind::FirmwareMenu, text);
    Ok(())
}
