//! The boot loader, by the copied system's own tools.
//!
//! Each loader is one file. What a firmware starts is not on the disk when this returns: boot code is handed
//! back, and the EFI system partition is held back (see `esp`).

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

use ka::inventory::Firmware;
use ka::notes::NoteKind;
use ka::plan::{BootOrder, BootPlan, Loader};

use super::efi;
use super::error::Cause;
use super::esp;
use super::names::Names;
use crate::disk::{BootCode, MadeFileSystem};
use crate::notes;

/// What a loader's installer must know.
pub(super) struct Setting<'a> {
    /// The copied system, which is the process's root.
    pub(super) root: &'a Path,
    /// The disk that boots.
    pub(super) disk: &'a Path,
    /// What starts this node.
    pub(super) firmware: Firmware,
    /// Where the firmware looks first from now on.
    pub(super) order: BootOrder,
    /// Its menu must have an entry for this system.
    pub(super) require_nvram: bool,
    /// This node's file systems.
    pub(super) names: &'a Names<'a>,
}

/// Installs the plan's boot loader. Gives the code that makes the disk boot from a BIOS, which is not on it.
pub(super) fn install(boot: &BootPlan, setting: &Setting<'_>) -> Result<Option<BootCode>, Cause> {
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

/// The program that a firmware starts which has forgotten its menu.
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";

/// The EFI system partition, and where it is mounted.
fn system_partition<'a>(setting: &Setting<'a>) -> Result<(&'a MadeFileSystem, &'a str), Cause> {
    let esp = esp::of(setting.names.made());
    esp.and_then(|esp| Some((esp, esp.plan.mount_point.as_deref()?))).ok_or(Cause::NoSystemPartition)
}

/// Enters the program `file` (`EFI/debian/grubx64.efi`) of the system partition in the firmware's menu. If the
/// loader is at the path that every firmware tries, too, the node boots without an entry, if nobody insists on one.
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
        return Err(Cause::Nvram { source: Box::new(error) });
    }
    let text = format!(
        "the firmware's menu has no entry for this node ({error}): it starts {FALLBACK} by itself, after what its menu \
         has; `--nvram require` makes this a failure"
    );
    notes::warn(NoteKind::FirmwareMenu, text);
    Ok(())
}
