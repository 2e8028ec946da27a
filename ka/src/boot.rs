//! Decides before anything is written whether a node would boot the result of a plan.

use crate::disk::kind::TableKind;
use crate::inventory::Firmware;
use crate::plan::{FileSystemKind, Loader, Plan};

/// The mount points of an EFI system partition, most likely first.
pub const ESP_POINTS: [&str; 3] = ["/boot/efi", "/efi", "/boot"];

/// Why a node with this firmware would not boot the result of the plan, if that is the case.
#[must_use]
pub fn refusal(plan: &Plan, firmware: Firmware) -> Option<String> {
    let boot = &plan.boot;
    let told = |firmware| match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    };
    let has_esp = plan.storage.file_systems().any(|fs| {
        fs.kind == FileSystemKind::Vfat
            && fs.mount_point.as_deref().is_some_and(|at| ESP_POINTS.contains(&at))
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
            ESP_POINTS.join(", ")
        )),
        _ => None,
    }
}

/// Whether GRUB's core has a place on the disk that a BIOS starts: behind an MBR, or in a partition of its
/// own.
fn holds_core(plan: &Plan) -> bool {
    let storage = &plan.storage;
    let volume = storage.at("/boot").or_else(|| storage.at("/"));
    let disks = volume.map(|volume| storage.disks_of(volume)).unwrap_or_default();
    disks.first().and_then(|index| storage.disks.get(*index)).is_none_or(|disk| {
        let desc = &disk.desc;
        desc.table() != TableKind::Gpt || desc.entries().iter().any(|entry| entry.kind.is_bios_boot())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::description::Description;
    use crate::plan::{BootPlan, DiskPlan, FileSystemPlan, FinalAction, FinishPlan, Storage};

    fn plan(loader: Loader, golden: Firmware, convert: bool, esp: bool) -> Plan {
        let disk = DiskPlan::new("sda".into(), Description::parse("linux fill\n", "desc").unwrap());
        let mount_point = Some("/boot/efi".to_owned());
        let fs = FileSystemPlan { mount_point, ..FileSystemPlan::new(FileSystemKind::Vfat) };
        Plan {
            run: "r".to_owned(),
            storage: Storage::of(disk, esp.then_some((1, fs))),
            boot: BootPlan { convert_firmware: convert, ..BootPlan::new(loader, golden) },
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        }
    }

    #[test]
    fn a_gpt_has_a_place_for_grubs_core() {
        let on = |desc: &str| {
            let mut plan = plan(Loader::Grub, Firmware::Bios, false, false);
            let disk = DiskPlan::new("sda".into(), Description::parse(desc, "desc").unwrap());
            let mount_point = Some("/".to_owned());
            let fs = FileSystemPlan { mount_point, ..FileSystemPlan::new(FileSystemKind::Ext4) };
            plan.storage = Storage::of(disk, [(1, fs)]);
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
