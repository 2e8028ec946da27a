//! What a system has of GRUB.

use std::path::Path;

use ka::inventory::Firmware;

/// Where GRUB's modules for UEFI are, by their kernel.
pub const UEFI_MODULES: [&str; 2] =
    ["usr/lib/grub/x86_64-efi/kernel.img", "usr/lib/grub2/x86_64-efi/kernel.img"];

/// Where GRUB's modules for BIOS are, by their boot image.
pub const BIOS_MODULES: [&str; 2] = ["usr/lib/grub/i386-pc/boot.img", "usr/lib/grub2/i386-pc/boot.img"];

/// The programs that write GRUB's boot code, by the names that distributions give them.
pub const BIOS_SETUP: [&str; 3] =
    ["grub-bios-setup", "grub2-bios-setup", "/usr/lib/grub/i386-pc/grub-bios-setup"];

/// What the system below `root` lacks to be started by this firmware with GRUB, and the Debian packages that have it.
#[must_use]
pub fn missing(root: &Path, firmware: Firmware) -> Option<String> {
    let has = |file: &&str| root.join(file.trim_start_matches('/')).exists();
    let program = |names: &[&str]| {
        let places = ["usr/sbin", "sbin", "usr/bin"];
        let names = names.iter().filter(|name| !name.starts_with('/'));
        names.flat_map(|name| places.map(|place| root.join(place).join(name))).any(|path| path.exists())
    };
    let (modules, installer, what, package) = match firmware {
        Firmware::Uefi => (&UEFI_MODULES, program(&["grub-install"]), "UEFI", "grub-efi-amd64-bin"),
        Firmware::Bios => {
            let setup = program(&BIOS_SETUP) || BIOS_SETUP.iter().any(&has);
            (&BIOS_MODULES, setup && program(&["grub-install", "grub2-install"]), "BIOS", "grub-pc-bin")
        }
    };
    (!installer || !modules.iter().any(has)).then(|| {
        format!(
            "this node starts by {what}, and the golden node has no GRUB for that: `apt-get install {package} \
             grub2-common` there, or what its distribution calls them"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
