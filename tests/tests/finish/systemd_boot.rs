//! systemd-boot.

use ka::inventory::Firmware;
use ka::plan::Loader;
use ka_agent::finish::Machine;
use std::fs;

use super::copied::{Copied, NEW, UPDATE_INITRAMFS, plan};

/// What Debian's systemd-boot does after each initrd, where it does something: the kernel's command line is the one
/// that is configured, or else the running kernel's, and the machine's ID is on it if entries are named by that.
const KERNEL_INSTALL: &str = r#"
set -e
read -r token < /etc/kernel/entry-token
if [ -f /etc/kernel/cmdline ]; then line=$(cat /etc/kernel/cmdline); else line=$(cat /proc/cmdline); fi
[ "$token" != "$(cat /etc/machine-id)" ] || line="$line systemd.machine_id=$token"
cp "/boot/vmlinuz-$3" "/boot/efi/$token/$3/linux"
cp "/boot/initrd.img-$3" "/boot/efi/$token/$3/"
cat > "/boot/efi/loader/entries/$token-$3.conf" <<END
title      by kernel-install
version    $3
options    $line
linux      /$token/$3/linux
initrd     /$token/$3/initrd.img-$3
END
"#;

#[test]
fn systemd_boot_starts_what_was_built_here() {
    for (hook, title) in [("", "golden"), (KERNEL_INSTALL, "by kernel-install")] {
        let copied = Copied::new();
        copied.tool("update-initramfs", &format!("{UPDATE_INITRAMFS}{hook}"));
        let id = "0123456789abcdef0123456789abcdef";
        let on_esp = |file: &str| format!("boot/efi/{id}/6/{file}");
        let entry = format!("boot/efi/loader/entries/{id}-6.conf");
        let options = format!("root=/dev/sda1 quiet systemd.machine_id={id}");
        for (file, text) in [
            (
                entry.clone(),
                format!(
                    "title golden\nversion 6\nmachine-id {id}\noptions {options}\nlinux /{id}/6/linux\n\
                     initrd /{id}/6/initrd.img-6\n"
                ),
            ),
            (on_esp("linux"), "stale".to_owned()),
            (on_esp("initrd.img-6"), "kernel/ext4.ko\n".to_owned()),
            ("boot/efi/EFI/systemd/systemd-bootx64.efi".to_owned(), "MZ".to_owned()),
            ("boot/vmlinuz-6".to_owned(), "kernel".to_owned()),
        ] {
            let path = copied.root().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine {
            firmware: Firmware::Uefi,
            storage_modules: vec!["nvme".to_owned()],
            ..Machine::default()
        };

        // This machine has no firmware to tell; the fallback path is enough.
        let plan = plan(Loader::SystemdBoot);
        copied.finish_with(&plan, &machine, vec![copied.esp()]).unwrap();

        let text = copied.read(&entry);
        let line = text.lines().find_map(|line| line.strip_prefix("options")).unwrap();
        assert_eq!(line.trim(), format!("root=UUID={NEW} quiet"));
        assert!(text.contains(title) && !text.contains("machine"), "{text}");
        assert_eq!(copied.read(&on_esp("linux")), "kernel");
        assert_eq!(copied.read(&on_esp("initrd.img-6")), "kernel/ext4.ko\nkernel/nvme.ko\n");
        assert_eq!(copied.read("etc/kernel/entry-token"), format!("{id}\n"));
        assert_eq!(copied.read("etc/machine-id"), "");
    }
}
