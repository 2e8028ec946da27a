//! What GRUB 2 has in common on every firmware: its menu.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::error::Cause;
use super::super::esp;
use super::super::glob;
use super::super::names::Names;
use super::super::tool;
use super::Setting;

/// Where GRUB keeps its files.
pub(super) fn home(root: &Path, install: &str) -> PathBuf {
    root.join(if install == "grub2-install" { "boot/grub2" } else { "boot/grub" })
}

/// Has the menu written, and looks whether it starts this node.
pub(super) fn write_menu(setting: &Setting<'_>, menu: &Path) -> Result<(), Cause> {
    let configure = tool::need(&["grub-mkconfig", "grub2-mkconfig"])?;
    // The distribution's wrapper where there is one: a site may have put more into it.
    match tool::find(&["update-grub"]) {
        Some(wrapper) => tool::run(wrapper, &[])?,
        None => tool::run(configure, &["-o", &menu.to_string_lossy()])?,
    }
    check_menu(setting.root, menu, setting.names)
}

/// A map from the BIOS's disks to the golden node's devices misleads GRUB where they do not exist.
/// Without it, GRUB looks for itself.
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

/// The menu must start this node's root, and nothing of the golden node's. Systems with one file for each
/// entry (Boot Loader Specification) have `root=` there.
fn check_menu(root: &Path, menu: &Path, names: &Names<'_>) -> Result<(), Cause> {
    let mut texts = vec![read(menu)?];
    for pattern in ["boot/loader/entries/*.conf", "boot/grub*/grubenv"] {
        for entry in glob::files(root, pattern)? {
            texts.push(read(&entry)?);
        }
    }
    let by_device = read(&root.join("etc/default/grub"))
        .is_ok_and(|text| text.contains("\nGRUB_DISABLE_LINUX_UUID=true"));
    match menu_fault(&texts.join("\n"), by_device, names) {
        Some(wrong) => Err(Cause::NotBootable { path: menu.to_owned(), wrong }),
        None => Ok(()),
    }
}

fn menu_fault(text: &str, by_device: bool, names: &Names<'_>) -> Option<String> {
    if let Some(golden) = names.golden_in(text) {
        return Some(format!("still names the golden node's file system {golden}"));
    }
    if text.contains(esp::HELD) {
        return Some(format!("names the directory {}, which is gone when the node boots", esp::HELD));
    }
    let Some(root) = names.at("/") else {
        return Some("cannot name the root: no file system was made for /".to_owned());
    };
    let ways = [format!("root=UUID={}", root.uuid), format!("root=PARTUUID={}", root.partuuid)];
    let named = by_device || ways.iter().any(|way| text.contains(way.as_str()));
    (!named).then(|| format!("does not start the kernel with {}", ways[0]))
}

fn read(path: &Path) -> Result<String, Cause> {
    let bytes = fs::read(path).map_err(|e| Cause::file("read back", path, e))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::names::tests::{ROOT, made};
    use super::*;

    #[test]
    fn a_menu_must_start_this_nodes_root_and_no_other() {
        let made = made();
        let names = Names::new(&made);
        let golden = "00000001-0000-4000-8000-000000000000";
        let good = format!("linux /boot/vmlinuz root=UUID={ROOT} ro\n");
        assert_eq!(menu_fault(&good, false, &names), None);
        assert_eq!(menu_fault("linux /vmlinuz root=PARTUUID=cafe0000-01", false, &names), None);
        let fault = menu_fault(&format!("{good}search --fs-uuid {golden}"), false, &names).unwrap();
        assert!(fault.contains(golden), "{fault}");
        assert!(menu_fault("linux /vmlinuz root=/dev/sda1", false, &names).is_some());
        assert!(menu_fault(&good.replace("/boot/", "/KA-HELD/"), false, &names).unwrap().contains("KA-HELD"));
        assert_eq!(menu_fault("linux /vmlinuz root=/dev/sda1", true, &names), None);
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
