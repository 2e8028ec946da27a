//! Where a disk is attached, described so that it stays the same across boots.
//!
//! The kernel's own device path contains numbers that it assigned in discovery order. They are removed. What
//! the hardware itself determines (PCI addresses, ports, targets, units) stays.

use std::fs;
use std::path::Path;

use super::{Tree, text};

/// Names after which the kernel writes a number of its own: `host3`, `usb2`, `virtio1`.
const NUMBERED: [&str; 10] =
    ["host", "usb", "virtio", "nvme", "mmc", "ata", "session", "fw", "xenbus", "nvme-subsys"];

/// The place of the disk with this name; empty if it is attached nowhere.
pub(super) fn of(tree: &Tree, name: &str) -> String {
    let Ok(folder) = fs::canonicalize(tree.sys.join("block").join(name)) else { return String::new() };
    let devices = tree.sys.join("devices");
    let devices = fs::canonicalize(&devices).unwrap_or(devices);
    let Ok(path) = folder.strip_prefix(&devices) else { return String::new() };
    if path.starts_with("virtual") {
        return String::new();
    }
    let mut parts = Vec::new();
    let mut at = devices.clone();
    for part in path.parent().unwrap_or(path) {
        at.push(part);
        let part = part.to_string_lossy();
        if part != "block" {
            parts.push(stable(&part, &at));
        }
    }
    let namespace = text(&folder.join("nsid"));
    if !namespace.is_empty() {
        parts.push(format!("namespace{namespace}"));
    }
    parts.join("/")
}

/// A path component without the kernel's own numbers.
fn stable(part: &str, at: &Path) -> String {
    let digits = part.trim_start_matches(|c: char| !c.is_ascii_digit());
    let kind = &part[..part.len() - digits.len()];
    if NUMBERED.contains(&kind) && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        // A controller numbers its own ports.
        let port = text(&at.join("ata_port").join(part).join("port_no"));
        return format!("{kind}{port}");
    }
    // `target0:1:2` and `0:1:2:3` begin with the host, `mmc0:0001` and `1-2.3:1.0` with the bus.
    let (mark, is_host) = match kind {
        "target" => (':', true),
        "mmc" => (':', true),
        "" if digits.split(':').count() == 4 && !digits.contains('.') => (':', true),
        "" => ('-', digits.contains('-')),
        _ => (':', false),
    };
    match digits.split_once(mark) {
        Some((number, rest)) if is_host && number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{kind}{mark}{rest}")
        }
        _ => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn place(device: &str, files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        let folder = sys.join("devices").join(device);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            let file = sys.join("devices").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::create_dir_all(sys.join("block")).unwrap();
        symlink(&folder, sys.join("block/x")).unwrap();
        of(&Tree { sys, proc: root.path().join("proc"), dev: root.path().join("dev") }, "x")
    }

    #[test]
    fn a_place_is_the_same_at_every_boot() {
        let pci = "pci0000:00/0000:00:1f.2";
        for (device, again, is) in [
            ("virtio1/block/vda".to_owned(), "virtio4/block/vdb".to_owned(), format!("{pci}/virtio")),
            (
                "host0/target0:1:2/0:1:2:3/block/sda".to_owned(),
                "host7/target7:1:2/7:1:2:3/block/sdc".to_owned(),
                format!("{pci}/host/target:1:2/:1:2:3"),
            ),
            (
                "usb2/2-1.4/2-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdd".to_owned(),
                "usb3/3-1.4/3-1.4:1.0/host1/target1:0:0/1:0:0:0/block/sda".to_owned(),
                format!("{pci}/usb/-1.4/-1.4:1.0/host/target:0:0/:0:0:0"),
            ),
            (
                "mmc_host/mmc0/mmc0:0001/block/mmcblk0".to_owned(),
                "mmc_host/mmc1/mmc1:0001/block/mmcblk1".to_owned(),
                format!("{pci}/mmc_host/mmc/mmc:0001"),
            ),
        ] {
            assert_eq!(place(&format!("{pci}/{device}"), &[]), is);
            assert_eq!(place(&format!("{pci}/{again}"), &[]), is);
        }
    }

    #[test]
    fn ports_units_and_namespaces_are_places() {
        let pci = "pci0000:00/0000:00:1f.2";
        let ata = |number: u8, port: &str| {
            let file = format!("{pci}/ata{number}/ata_port/ata{number}/port_no");
            place(
                &format!("{pci}/ata{number}/host{number}/target{number}:0:0/{number}:0:0:0/block/sda"),
                &[(&file, port)],
            )
        };
        assert_eq!(ata(1, "1\n"), ata(5, "1\n"));
        assert_ne!(ata(1, "1\n"), ata(1, "2\n"));
        let nvme = |namespace: &str| {
            let device = format!("{pci}/nvme/nvme0/nvme0n1");
            place(&device, &[(&format!("{device}/nsid"), namespace)])
        };
        assert_eq!(nvme("1\n"), format!("{pci}/nvme/nvme/namespace1"));
        assert_ne!(nvme("1\n"), nvme("2\n"));
        assert_eq!(place("virtual/block/loop0", &[]), "");
    }
}
