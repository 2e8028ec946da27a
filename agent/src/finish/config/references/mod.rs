//! The other files that name file systems: kernel command lines, resume devices, and tables other than fstab.
//!
//! fstab is not the only such file. An initrd that looks for the golden node's swap space waits for it at
//! every boot, and a `root=` in the boot loader's defaults would send the clone to a disk that it does not
//! have. The places are a list, so that another distribution's file takes one more line.

mod entries;
mod roots;
mod tables;
mod units;
mod volumes;
mod words;

use std::fs;
use std::path::Path;

use crate::finish::config::names::Names;
use crate::finish::error::Cause;
use crate::finish::replace::replace;
pub(in crate::finish) use entries::command_line;
use ka_host::system::glob;
pub(in crate::finish) use roots::{is_here, is_named, is_systems, roots};
pub(in crate::finish) use tables::mappings;
pub(in crate::finish) use words::{machine_id, on_command_line};

/// A file's text for this node.
type Rewrite = fn(&str, &Names<'_>) -> String;

/// File patterns, and how these files contain names.
const PLACES: &[(&str, Rewrite)] = &[
    ("boot/EFI/*/grub.cfg", words::rewrite),
    ("boot/efi/EFI/*/grub.cfg", words::rewrite),
    ("boot/efi/loader/entries/*.conf", entries::rewrite),
    ("boot/extlinux/*.cfg", words::rewrite),
    ("boot/extlinux/*.conf", words::rewrite),
    ("boot/grub/custom.cfg", words::rewrite),
    ("boot/grub/grub.conf", words::rewrite_all),
    ("boot/grub/grubenv", words::rewrite_grubenv),
    ("boot/grub/menu.lst", words::rewrite_all),
    ("boot/grub2/custom.cfg", words::rewrite),
    ("boot/grub2/grubenv", words::rewrite_grubenv),
    ("boot/loader/entries/*.conf", entries::rewrite),
    ("boot/syslinux/*.cfg", words::rewrite),
    ("efi/EFI/*/grub.cfg", words::rewrite),
    ("efi/loader/entries/*.conf", entries::rewrite),
    ("etc/cmdline.d/*", words::rewrite),
    ("etc/crypttab", tables::rewrite_crypttab),
    ("etc/default/extlinux", words::rewrite),
    ("etc/default/grub", words::rewrite),
    ("etc/default/grub.d/*", words::rewrite),
    ("etc/default/u-boot", words::rewrite),
    ("etc/dracut.conf", words::rewrite_devices),
    ("etc/dracut.conf.d/*", words::rewrite_devices),
    ("etc/grub.d/*", words::rewrite),
    ("etc/initramfs-tools/conf.d/*", words::rewrite),
    ("etc/initramfs-tools/initramfs.conf", words::rewrite),
    ("etc/kernel/cmdline", words::rewrite),
    ("etc/mdadm.conf", tables::rewrite_mdadm),
    ("etc/mdadm/mdadm.conf", tables::rewrite_mdadm),
    ("etc/mkinitcpio.conf", words::rewrite),
    ("etc/mkinitcpio.conf.d/*", words::rewrite),
    ("etc/mkinitcpio.d/*", words::rewrite),
    ("etc/suspend.conf", words::rewrite_devices),
    ("etc/sysconfig/bootloader", words::rewrite),
    ("etc/sysconfig/grub", words::rewrite),
    ("etc/sysconfig/kernel", words::rewrite),
    ("etc/uswsusp.conf", words::rewrite_devices),
    ("usr/lib/kernel/cmdline", words::rewrite),
];

/// Rewrites names of golden file systems in all existing [`PLACES`] below `root`. Also removes the golden
/// node's ID from the same places: on a command line it would become every clone's.
pub(in crate::finish) fn write(root: &Path, names: &Names<'_>) -> Result<(), Cause> {
    for (pattern, rewrite) in PLACES {
        for path in glob::files(root, pattern)? {
            let bytes = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
            let Ok(old) = String::from_utf8(bytes) else {
                warning!("{}: not UTF-8, left as it is", path.display());
                continue;
            };
            let new = rewrite(&old, names);
            if new != old {
                log::info!("{}: names this node now", path.display());
                replace(&path, new.as_bytes())?;
            }
        }
    }
    units::write(root, names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, made};

    #[test]
    fn only_files_that_change_are_written() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("etc/initramfs-tools/conf.d");
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(root.path().join("etc/default")).unwrap();
        fs::write(conf.join("resume"), "RESUME=/dev/sda2\n").unwrap();
        let untouched = root.path().join("etc/default/grub");
        fs::write(&untouched, "GRUB_TIMEOUT=5\n").unwrap();
        let before = fs::metadata(&untouched).unwrap().modified().unwrap();

        let made = made();
        write(root.path(), &Names::new(&made)).unwrap();

        assert_eq!(fs::read_to_string(conf.join("resume")).unwrap(), format!("RESUME=UUID={SWAP}\n"));
        assert_eq!(fs::metadata(&untouched).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn every_place_follows() {
        let golden = "00000001-0000-4000-8000-000000000000";
        let root = tempfile::tempdir().unwrap();
        let made = made();
        let places = [
            ("boot/loader/entries/abc-6.1.conf", format!("options root=UUID={golden} ro\n")),
            ("boot/efi/loader/entries/abc.conf", format!("options root=UUID={golden}\n")),
            ("boot/efi/EFI/fedora/grub.cfg", format!("search --fs-uuid --set=dev {golden}\n")),
            ("boot/EFI/fedora/grub.cfg", format!("search --fs-uuid --set=dev {golden}\n")),
            ("etc/grub.d/45_site", format!("#!/bin/sh\ncat <<END\nsearch --fs-uuid {golden}\nEND\n")),
            ("boot/extlinux/extlinux.conf", format!("append root=UUID={golden} ro\n")),
            ("boot/syslinux/syslinux.cfg", "APPEND root=/dev/sda1 ro\n".to_owned()),
            (
                "boot/grub/menu.lst",
                "# kopt=root=/dev/sda1 ro\nkernel /vmlinuz root=/dev/sda1 ro\n".to_owned(),
            ),
            ("etc/kernel/cmdline", "root=/dev/disk/by-id/ata-GOLD-part1 quiet\n".to_owned()),
            ("usr/lib/kernel/cmdline", format!("root=UUID={golden}\n")),
            ("etc/default/extlinux", "EXTLINUX_ROOT=\"root=/dev/sda1\"\n".to_owned()),
            ("etc/dracut.conf.d/x.conf", format!("add_device+=\" /dev/disk/by-uuid/{golden} \"\n")),
            ("etc/systemd/system/srv.mount", "[Mount]\nWhat=/dev/sda1\nWhere=/srv\n".to_owned()),
        ];
        for (path, text) in &places {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        write(root.path(), &Names::new(&made)).unwrap();
        for (path, _) in &places {
            let text = fs::read_to_string(root.path().join(path)).unwrap();
            assert!(text.contains(ROOT), "{path}: {text}");
            assert!(
                !text.contains("sda") && !text.contains(golden) && !text.contains("GOLD"),
                "{path}: {text}"
            );
        }
    }
}
