//! GRUB, for BIOS and for UEFI.

use ka::inventory::Firmware;
use ka::plan::Loader;
use ka_agent::disk::BootCode;
use ka_agent::finish::Machine;
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::copied::{Copied, GOLDEN, GRUB_MKCONFIG, NEW, boot_image, plan};

#[test]
fn a_copied_system_boots_as_this_node() {
    let copied = Copied::new();
    let mtime = |file: &str| {
        let metadata = fs::metadata(copied.root().join(file)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    let unchanged = ["boot", "boot/grub", "boot/grub/normal.mod", "etc", "etc/initramfs-tools", "."];
    let before = unchanged.map(mtime);

    let BootCode(code) = copied.finish(&["nvme", "of_another_kernel"]).unwrap().unwrap();

    assert_eq!(copied.read("etc/fstab"), format!("UUID={NEW} / ext4 defaults 0 1\n"));
    assert_eq!(copied.read("etc/machine-id"), "");
    assert_eq!(copied.read("boot/initrd.img-6"), "kernel/ext4.ko\nkernel/nvme.ko\n");
    assert!(copied.read("boot/grub/grub.cfg").contains(&format!("root=UUID={NEW} ")));
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");
    assert_eq!(copied.disk.read(510, 6), b"\x55\xaacore");
    let mut filled_in = boot_image();
    filled_in[92..104].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xeb, 0x90, 0x90]);
    assert_eq!(code, filled_in[..440]);
    assert_eq!(unchanged.map(mtime), before);
}

#[test]
fn tools_that_succeed_and_did_nothing_are_failures() {
    for (tool, complaint) in [
        (
            "update-initramfs",
            "Rebuild the initrd: /boot/initrd.img-6 was not rebuilt, though update-initramfs",
        ),
        ("grub-install", "cannot read /boot/grub/i386-pc/boot.img"),
        ("grub-bios-setup", "has no boot signature in its first sector"),
        ("grub-mkconfig", "Install the boot loader: cannot read back /boot/grub/grub.cfg"),
    ] {
        let copied = Copied::new();
        copied.tool(tool, "#!/bin/sh\nexit 0\n");
        let error = copied.fail();
        assert!(error.contains(complaint), "{error}");
    }
    let copied = Copied::new();
    copied.tool("grub-mkconfig", &format!("#!/bin/sh\necho root=UUID={GOLDEN} > $2\n"));
    let error = copied.fail();
    assert!(error.contains(&format!("still names the golden node's file system {GOLDEN}")), "{error}");
}

#[test]
fn a_failing_tool_is_told_with_its_output() {
    let copied = Copied::new();
    copied.tool("grub-install", "#!/bin/sh\necho 'error: embedding is not possible' >&2\nexit 1\n");
    let error = copied.fail();
    let disk = copied.disk.node();
    assert_eq!(
        error,
        format!(
            "Install the boot loader: grub-install --target=i386-pc --no-bootsector {disk}: exit status: 1\n\
             error: embedding is not possible"
        )
    );
    drop(copied);
    let copied = Copied::new();
    fs::remove_file(copied.root().join("usr/sbin/grub-install")).unwrap();
    assert_eq!(
        copied.fail(),
        "Install the boot loader: the copied system has no grub-install or grub2-install"
    );
}

/// Puts its program where it is told to, for UEFI.
const GRUB_INSTALL_EFI: &str = r#"#!/bin/sh
set -e
[ "$1" = --target=x86_64-efi ] && [ "$2" = --efi-directory=/boot/efi ] && [ "$4" = --no-nvram ]
case $3 in
--bootloader-id=*) to=EFI/${3#--bootloader-id=}/grubx64.efi ;;
--removable) to=EFI/BOOT/BOOTX64.EFI ;;
esac
mkdir -p "/boot/efi/${to%/*}"
printf 'MZ core' > "/boot/efi/$to"
"#;

/// This machine has no firmware to tell, as one whose menu is full; the entry itself is tested beside its code.
#[test]
fn grub_for_uefi_is_put_where_the_firmware_looks() {
    let copied = Copied::new();
    let root = copied.root();
    copied.tool("grub-install", GRUB_INSTALL_EFI);
    copied.tool("update-grub", &GRUB_MKCONFIG.replace("$2", "/boot/grub/grub.cfg"));
    fs::create_dir_all(root.join("boot/efi/EFI/debian")).unwrap();
    fs::write(root.join("boot/efi/EFI/debian/grub.cfg"), format!("search.fs_uuid {GOLDEN} root\n")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    let machine = Machine { firmware: Firmware::Uefi, ..Machine::default() };
    let plan = plan(Loader::Grub);

    let error = copied.finish_with(&plan, &machine, vec![copied.esp()]).unwrap_err().to_string();
    assert!(error.contains("the copied system has no GRUB for UEFI"), "{error}");
    fs::create_dir_all(root.join("usr/lib/grub/x86_64-efi")).unwrap();
    fs::write(root.join("usr/lib/grub/x86_64-efi/kernel.img"), "").unwrap();

    copied.finish_with(&plan, &machine, vec![copied.esp()]).expect("the loader is at the fallback path");
    let mut required = plan.clone();
    required.boot.require_nvram = true;
    let error = copied.finish_with(&required, &machine, vec![copied.esp()]).unwrap_err().to_string();
    assert!(
        error.starts_with("Install the boot loader: the firmware's menu has no entry for this node")
            && error.contains("is a partition of no disk"),
        "{error}"
    );
    for program in ["debian/grubx64.efi", "BOOT/BOOTX64.EFI"] {
        assert_eq!(copied.read(&format!("boot/efi/EFI/{program}")), "MZ core");
    }
    assert_eq!(copied.read("boot/efi/EFI/debian/grub.cfg"), format!("search.fs_uuid {NEW} root\n"));
    let error = copied.finish_as(&plan, &machine).unwrap_err().to_string();
    assert!(error.contains("no FAT file system is mounted at /boot/efi"), "{error}");
}
