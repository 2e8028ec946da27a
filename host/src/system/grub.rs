//! The GRUB of a system.

use std::path::Path;

use ka::arch::{self, Grub};
use ka::inventory::Firmware;

/// The programs that install GRUB's boot code, by the distributions' names. Debian ships one next to GRUB's
/// modules.
#[must_use]
pub fn bios_setup(target: &Grub) -> [String; 3] {
    let beside = format!("/usr/lib/grub/{}/grub-bios-setup", target.target);
    ["grub-bios-setup".to_owned(), "grub2-bios-setup".to_owned(), beside]
}

/// What the system below `root` lacks to boot with GRUB on this firmware, and the Debian packages that
/// contain it.
#[must_use]
pub fn missing(root: &Path, firmware: Firmware) -> Option<String> {
    let has = |file: &String| root.join(file.trim_start_matches('/')).exists();
    let program = |names: &[&str]| {
        let places = ["usr/sbin", "sbin", "usr/bin"];
        names
            .iter()
            .flat_map(|name| places.map(|place| root.join(place).join(name)))
            .any(|path| path.exists())
    };
    let (target, installer, what) = match (firmware, arch::THIS.grub_bios) {
        (Firmware::Uefi, _) => (arch::THIS.grub_uefi, program(&["grub-install"]), "UEFI"),
        (Firmware::Bios, Some(target)) => {
            let setup = bios_setup(&target);
            let setup = program(&["grub-bios-setup", "grub2-bios-setup"]) || setup.iter().any(has);
            (target, setup && program(&["grub-install", "grub2-install"]), "BIOS")
        }
        (Firmware::Bios, None) => return Some(format!("no {} machine starts by BIOS", arch::THIS.name)),
    };
    let package = target.package;
    (!installer || !target.modules().iter().any(has)).then(|| {
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
