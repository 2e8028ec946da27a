//! Reasons why a system's initrds could not be built on a node, as far as its files show. They are found
//! before a node is erased.

use std::fs;
use std::path::Path;

use super::glob;
use super::kernel::Kernel;
use crate::atomic::FileError;

/// Where kernels are when `/boot` has no image, and what puts them there.
const ON_ESP: [&str; 3] = ["EFI/Linux/*.efi", "loader/entries/*.conf", "*/*/linux"];

/// Where a system partition may be mounted.
const TOPS: [&str; 3] = ["boot", "boot/efi", "efi"];

/// What a system lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// No kernel that ka can use: the reason and the remedy.
    NoKernel(String),
    /// A tool would build something other than what ka looks for: the problem and the remedy.
    Builder(String),
}

impl Unready {
    /// The reason, and the remedy.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::NoKernel(reason) | Self::Builder(reason) => reason,
        }
    }
}

/// What would make the system below `root` fail on a node after it has been erased.
///
/// # Errors
/// The system's files cannot be read.
pub fn unready(root: &Path) -> Result<Option<Unready>, FileError> {
    let boot = root.join("boot");
    let kernels = if boot.is_dir() { Kernel::installed(root)? } else { Vec::new() };
    if kernels.is_empty() {
        return Ok(Some(Unready::NoKernel(no_kernel(root)?)));
    }
    for kernel in &kernels {
        let preset = format!("etc/mkinitcpio.d/{}.preset", kernel.image);
        let text = fs::read(root.join(&preset)).unwrap_or_default();
        if is_unified_only(&String::from_utf8_lossy(&text)) {
            return Ok(Some(Unready::Builder(format!(
                "/{preset} makes a unified kernel image only (default_uki without default_image): add \
                 default_image=\"/boot/initramfs-{}.img\" to it, and run `mkinitcpio -P`",
                kernel.image
            ))));
        }
    }
    Ok(None)
}

/// Whether an mkinitcpio preset builds no separate initrd.
fn is_unified_only(preset: &str) -> bool {
    let sets = |key: &str| preset.lines().any(|line| line.trim_start().starts_with(key));
    sets("default_uki=") && !sets("default_image=")
}

fn no_kernel(root: &Path) -> Result<String, FileError> {
    let images = glob::files(root, "boot/vmlinuz-*")?;
    let versions = glob::entries(root, "lib/modules/*")?;
    let names = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let slackware = images.iter().filter_map(|path| names(path)).find(|image| {
        versions.iter().filter_map(|path| names(path)).any(|version| image.ends_with(&format!("-{version}")))
    });
    if let Some(image) = slackware {
        return Ok(format!(
            "/boot/{image} is called as Slackware does, and its tool for initrds is not known: copy it to \
             /boot/vmlinuz-VERSION, as its directory in /lib/modules is called, with an initrd for it; or use `-r none`"
        ));
    }
    for top in TOPS {
        for pattern in ON_ESP {
            if let Some(found) = glob::files(root, &format!("{top}/{pattern}"))?.first() {
                let found = found.strip_prefix(root).unwrap_or(found);
                return Ok(format!(
                    "this system's kernels are on the EFI system partition only (/{}), and none is in /boot as \
                     vmlinuz-VERSION: have them there as well (`layout=` of kernel-install), or use `-r none`",
                    found.display()
                ));
            }
        }
    }
    if !images.is_empty() {
        return Ok(
            "no kernel in /boot has its modules in /lib/modules: install its package again, or use `-r none`"
                .to_owned(),
        );
    }
    Ok("this system has no kernel in /boot: install one, or use `-r none` if its nodes get theirs elsewhere"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(files: &[(&str, &str)]) -> Option<Unready> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        unready(root.path()).unwrap()
    }

    fn arch(preset: &str) -> Option<Unready> {
        verdict(&[
            ("boot/vmlinuz-linux", ""),
            ("lib/modules/6-arch/pkgbase", "linux\n"),
            ("etc/mkinitcpio.d/linux.preset", preset),
        ])
    }

    #[test]
    fn what_would_fail_an_erased_node_is_known_before() {
        let debian = [("boot/vmlinuz-6.1+deb13", ""), ("lib/modules/6.1+deb13/modules.dep", "")];
        assert_eq!(verdict(&debian), None);
        let uki = "PRESETS=('default')\ndefault_uki=\"/efi/EFI/Linux/arch.efi\"\n";
        assert_eq!(arch("PRESETS=('default')\ndefault_image=\"/boot/initramfs-linux.img\"\n"), None);
        assert_eq!(arch(&format!("{uki}default_image=\"/boot/initramfs-linux.img\"\n")), None);
        for preset in [uki.to_owned(), format!("{uki}#default_image=\"/boot/initramfs-linux.img\"\n")] {
            let Some(Unready::Builder(reason)) = arch(&preset) else { panic!("{preset}") };
            assert!(reason.contains("linux.preset") && reason.contains("default_image="), "{reason}");
        }
        for (files, part) in [
            (vec![], "has no kernel in /boot"),
            (vec![("boot/grub/x", "")], "has no kernel in /boot"),
            (vec![("boot/vmlinuz-5", "")], "no kernel in /boot has its modules"),
            (
                vec![("boot/vmlinuz-huge-5.15.19", ""), ("lib/modules/5.15.19/modules.dep", "")],
                "vmlinuz-huge-5.15.19 is called as Slackware does",
            ),
            (vec![("boot/efi/EFI/Linux/a-6.efi", "")], "system partition only (/boot/efi/EFI/Linux/a-6.efi)"),
            (vec![("efi/0123456789abcdef0123456789abcdef/6.1/linux", "")], "system partition only"),
            (vec![("boot/loader/entries/x.conf", "linux /x/6/linux\n")], "system partition only"),
        ] {
            let Some(Unready::NoKernel(reason)) = verdict(&files) else { panic!("{files:?}") };
            assert!(reason.contains(part) && reason.contains("`-r none`"), "{reason}");
        }
    }
}
