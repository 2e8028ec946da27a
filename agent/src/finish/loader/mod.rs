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

use ka::disk::kind::TableKind;
use ka::inventory::Firmware;
use ka::notes::NoteKind;
use ka::plan::{BootOrder, BootPlan, DiskPlan, FileSystemKind, Loader, Plan};

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

/// Why a node with this firmware would not boot what the plan makes, if it would not.
pub(super) fn refusal(plan: &Plan, firmware: Firmware) -> Option<String> {
    let boot = &plan.boot;
    let told = |firmware| match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    let file_systems = || plan.disks.iter().flat_map(|disk| &disk.file_systems);
    let has_esp = file_systems().any(|fs| {
        fs.kind == FileSystemKind::Vfat
            && fs.mount_point.as_deref().is_some_and(|at| esp::POINTS.contains(&at))
    });
    match (boot.loader, firmware) {
        (Loader::None, _) => None,
        (Loader::GrubLegacy | Loader::Lilo | Loader::Extlinux, Firmware::Uefi) => {
            Some(format!("this node starts by UEFI, and {} by a BIOS only", boot.loader))
        }
        (Loader::SystemdBoot, Firmware::Bios) => {
            Some("this node starts by BIOS, and systemd-boot by UEFI only".to_owned())
        }
        _ if firmware != boot.golden_firmware && !boot.convert_firmware => Some(format!(
            "this node starts by {}, and the golden node by {}; where the golden node has the boot loader's \
             packages for both, `--firmware auto` converts the clone",
            told(firmware),
            told(boot.golden_firmware)
        )),
        (Loader::Grub, Firmware::Bios) if !holds_core(plan) => Some(
            "this node starts by BIOS, and GRUB has no place on the plan's GPT: the description needs a BIOS boot \
             partition"
                .to_owned(),
        ),
        (_, Firmware::Uefi) if !has_esp => Some(format!(
            "this node starts by UEFI, and the plan has no EFI system partition: vfat at {}",
            esp::POINTS.join(", ")
        )),
        _ => None,
    }
}

/// Whether GRUB's core finds a place on the disk that a BIOS starts: behind an MBR, or in a partition of its own.
fn holds_core(plan: &Plan) -> bool {
    let is_at = |disk: &&DiskPlan, point: &str| {
        disk.file_systems.iter().any(|fs| {
            fs.mount_point.as_deref() == Some(point)
                || fs.subvolumes.iter().any(|subvolume| subvolume.mount_point.as_deref() == Some(point))
        })
    };
    let disks = || plan.disks.iter();
    let boots = disks().find(|disk| is_at(disk, "/boot")).or_else(|| disks().find(|disk| is_at(disk, "/")));
    boots.is_none_or(|disk| {
        let desc = &disk.desc;
        desc.table() != TableKind::Gpt || desc.entries().iter().any(|entry| entry.kind.is_bios_boot())
    })
}

/// What the system below `root` lacks to be started by this firmware with GRUB, and the Debian packages that have it.
pub(super) fn missing(root: &Path, firmware: Firmware) -> Option<String> {
    let has = |file: &&str| root.join(file.trim_start_matches('/')).exists();
    let program = |names: &[&str]| {
        let places = ["usr/sbin", "sbin", "usr/bin"];
        let names = names.iter().filter(|name| !name.starts_with('/'));
        names.flat_map(|name| places.map(|place| root.join(place).join(name))).any(|path| path.exists())
    };
    let (modules, installer, what, package) = match firmware {
        Firmware::Uefi => (&grub_uefi::MODULES, program(&["grub-install"]), "UEFI", "grub-efi-amd64-bin"),
        Firmware::Bios => {
            let setup = program(&grub_bios::SETUP) || grub_bios::SETUP.iter().any(&has);
            (&grub_bios::MODULES, setup && program(&["grub-install", "grub2-install"]), "BIOS", "grub-pc-bin")
        }
    };
    (!installer || !modules.iter().any(has)).then(|| {
        format!(
            "this node starts by {what}, and the golden node has no GRUB for that: `apt-get install {package} \
             grub2-common` there, or what its distribution calls them"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use ka::disk::description::Description;
    use ka::plan::{After, DiskPlan, FileSystemPlan, FinishPlan};

    fn plan(loader: Loader, golden: Firmware, convert: bool, esp: bool) -> Plan {
        let mut disk = DiskPlan::new("sda".into(), Description::parse("linux fill\n", "desc").unwrap());
        if esp {
            let mount_point = Some("/boot/efi".to_owned());
            disk.file_systems
                .push(FileSystemPlan { mount_point, ..FileSystemPlan::new(1, FileSystemKind::Vfat) });
        }
        Plan {
            run: "r".to_owned(),
            disks: vec![disk],
            boot: BootPlan { convert_firmware: convert, ..BootPlan::new(loader, golden) },
            finish: FinishPlan::default(),
            after: After::Reboot,
        }
    }

    #[test]
    fn what_a_system_lacks_is_named_with_its_package() {
        let root = tempfile::tempdir().unwrap();
        let put = |file: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        put("usr/sbin/grub-install");
        put("usr/lib/grub/i386-pc/boot.img");
        let lacks = |firmware| missing(root.path(), firmware);
        assert!(lacks(Firmware::Uefi).unwrap().contains("grub-efi-amd64-bin"));
        assert!(lacks(Firmware::Bios).unwrap().contains("grub-pc-bin"), "grub-bios-setup is not there");
        put("usr/lib/grub/i386-pc/grub-bios-setup");
        put("usr/lib/grub/x86_64-efi/kernel.img");
        assert_eq!((lacks(Firmware::Uefi), lacks(Firmware::Bios)), (None, None));
    }

    #[test]
    fn a_gpt_has_a_place_for_grubs_core() {
        let on = |desc: &str| {
            let mut plan = plan(Loader::Grub, Firmware::Bios, false, false);
            plan.disks[0].desc = Description::parse(desc, "desc").unwrap();
            let mount_point = Some("/".to_owned());
            plan.disks[0]
                .file_systems
                .push(FileSystemPlan { mount_point, ..FileSystemPlan::new(1, FileSystemKind::Ext4) });
            refusal(&plan, Firmware::Bios)
        };
        assert_eq!(on("linux fill\n"), None);
        assert!(on("label: gpt\ntype=L\n").unwrap().contains("BIOS boot partition"));
    }

    #[test]
    fn a_node_that_would_not_boot_is_refused() {
        use Firmware::{Bios, Uefi};
        for (loader, golden, convert, esp, node, part) in [
            (Loader::Grub, Bios, false, false, Bios, None),
            (Loader::Grub, Uefi, false, true, Uefi, None),
            (Loader::Grub, Bios, false, true, Uefi, Some("--firmware auto")),
            (Loader::Grub, Uefi, false, true, Bios, Some("--firmware auto")),
            (Loader::Grub, Bios, true, true, Uefi, None),
            (Loader::Grub, Bios, true, false, Uefi, Some("no EFI system partition")),
            (Loader::Grub, Uefi, true, true, Bios, None),
            (Loader::SystemdBoot, Uefi, true, true, Bios, Some("by UEFI only")),
            (Loader::Lilo, Bios, true, true, Uefi, Some("lilo by a BIOS only")),
            (Loader::None, Bios, false, false, Uefi, None),
        ] {
            let reason = refusal(&plan(loader, golden, convert, esp), node);
            match part {
                None => assert_eq!(reason, None, "{loader}"),
                Some(part) => {
                    assert!(reason.as_ref().is_some_and(|r| r.contains(part)), "{loader} {reason:?}")
                }
            }
        }
    }
}
