//! The part of GRUB 2 that is the same on every firmware: its menu.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Setting;
use crate::finish::config::bls;
use crate::finish::config::names::Names;
use crate::finish::config::references::{is_named, roots};
use crate::finish::error::Cause;
use crate::finish::esp;
use crate::finish::tool;
use ka_host::system::glob;

/// The directories of GRUB's files.
pub(super) fn home(root: &Path, install: &str) -> PathBuf {
    root.join(if install == "grub2-install" { "boot/grub2" } else { "boot/grub" })
}

/// Has the menu generated, and checks that it starts this node.
pub(super) fn write_menu(setting: &Setting<'_>, menu: &Path) -> Result<(), Cause> {
    let configure = tool::need(&["grub-mkconfig", "grub2-mkconfig"])?;
    let golden = if menu.exists() { read(menu)? } else { String::new() };
    let noted = bls::Options::note(setting.root)?;
    // The distribution's wrapper, if there is one: a site may have extended it.
    match tool::find(&["update-grub"]) {
        Some(wrapper) => tool::run(wrapper, &[])?,
        None => tool::run(configure, &["-o", &menu.to_string_lossy()])?,
    }
    noted.restore()?;
    check_menu(setting.root, menu, &golden, setting.names)
}

/// A map from BIOS disks to the golden node's devices misleads GRUB where they do not exist. Without it, GRUB
/// searches by itself.
pub(super) fn forget_stale_map(path: &Path) -> Result<(), Cause> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("read", path, e)),
    };
    if mapped(&text).all(|device| Path::new(device).exists()) {
        return Ok(());
    }
    log::info!("{} names disks of the golden node: removed", path.display());
    fs::remove_file(path).map_err(|e| Cause::file("remove", path, e))
}

/// The devices in a device.map: `(hd0) /dev/sda`.
fn mapped(map: &str) -> impl Iterator<Item = &str> {
    map.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_whitespace().nth(1))
}

/// The menu must start this node's root, and nothing of the golden node. With Boot Loader Specification
/// entries, `root=` is in the entries' own files.
fn check_menu(root: &Path, menu: &Path, golden: &str, names: &Names<'_>) -> Result<(), Cause> {
    let mut texts = vec![read(menu)?];
    for pattern in ["boot/loader/entries/*.conf", "boot/grub*/grubenv"] {
        for entry in glob::files(root, pattern)? {
            texts.push(read(&entry)?);
        }
    }
    match menu_fault(&texts.join("\n"), golden, names) {
        Some(wrong) => Err(Cause::NotBootable { path: menu.to_owned(), wrong }),
        None => Ok(()),
    }
}

/// What is wrong with the menu `text`; `golden` are the golden node's names.
fn menu_fault(text: &str, golden: &str, names: &Names<'_>) -> Option<String> {
    if let Some(golden) = names.golden_in(text) {
        return Some(format!("still names the golden node's file system {golden}"));
    }
    if text.contains(esp::HELD) {
        return Some(format!("names the directory {}, which is gone when the node boots", esp::HELD));
    }
    let Some(root) = names.at("/") else {
        return Some("cannot name the root: no file system was made for /".to_owned());
    };
    // Without a link to the device, grub-mkconfig silently falls back to the device name. So a device name is
    // right only if the golden node used one (GRUB_DISABLE_LINUX_UUID, in any file that the menu's tools
    // read).
    let was_device =
        |value: &str| root.plan.golden.iter().any(|golden| golden.devices.iter().any(|d| d == value));
    let by_device = roots(golden).any(was_device);
    let is_here = |value: &str| is_named(value, root) || by_device && Path::new(value) == root.device;
    (!roots(text).any(is_here)).then(|| format!("does not start the kernel with root=UUID={}", root.uuid))
}

fn read(path: &Path) -> Result<String, Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read back", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, made};

    #[test]
    fn a_menu_must_start_this_nodes_root_and_no_other() {
        let made = made();
        let names = Names::new(&made);
        let golden = "00000001-0000-4000-8000-000000000000";
        let good = format!("linux /boot/vmlinuz root=UUID={ROOT} ro\n");
        let fault = |menu: &str| menu_fault(menu, "linux /vmlinuz root=UUID=x", &names);
        assert_eq!(fault(&good), None);
        for root in ["PARTUUID=cafe0000-01", "LABEL=system", "/dev/disk/by-label/system"] {
            assert_eq!(fault(&format!("linux /vmlinuz root={root} ro\n")), None, "{root}");
        }
        let found = fault(&format!("{good}search --fs-uuid {golden}")).unwrap();
        assert!(found.contains(golden), "{found}");
        for root in ["/dev/sda1", "/dev/vda1", "LABEL=data", "/dev/vda2"] {
            assert!(fault(&format!("linux /vmlinuz root={root}")).is_some(), "{root}");
        }
        assert!(fault(&good.replace("/boot/", "/KA-HELD/")).unwrap().contains("KA-HELD"));
    }

    #[test]
    fn a_root_by_its_device_is_right_where_the_golden_node_had_one() {
        let made = made();
        let names = Names::new(&made);
        let golden = "linux /vmlinuz root=/dev/sda1 ro\n";
        assert_eq!(menu_fault("linux /vmlinuz root=/dev/vda1", golden, &names), None);
        for device in ["/dev/sda1", "/dev/vda2"] {
            assert!(
                menu_fault(&format!("linux /vmlinuz root={device}"), golden, &names).is_some(),
                "{device}"
            );
        }
    }

    #[test]
    fn a_map_of_other_disks_goes() {
        let directory = tempfile::tempdir().unwrap();
        let map = directory.path().join("device.map");
        for (text, stays) in
            [("(hd0)\t/dev/null\n", true), ("# x\n(hd0) /dev/null\n(hd1) /dev/disk/by-id/ata-GOLD\n", false)]
        {
            fs::write(&map, text).unwrap();
            forget_stale_map(&map).unwrap();
            assert_eq!(map.exists(), stays, "{text}");
        }
    }
}
