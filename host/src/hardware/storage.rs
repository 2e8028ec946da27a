//! The drivers of this machine's disks, for the clone's initrd.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Tree, disks};

/// The loaded modules that drive the disks, in order from the disk to its bus (`sd_mod`, `ahci`, …), without
/// duplicates. Built-in drivers are left out, as no initrd can hold them.
#[must_use]
pub fn storage_modules() -> Vec<String> {
    modules(&Tree::of_this_machine())
}

fn modules(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for disk in disks::disks(tree) {
        let device = tree.sys.join("block").join(&disk.name);
        for way in std::iter::once(device.clone()).chain(controllers(&device)) {
            for module in loaded_drivers(tree, &way) {
                if !found.contains(&module) {
                    found.push(module);
                }
            }
        }
    }
    found
}

/// The controllers of an NVMe namespace with several paths. Such a namespace is below its subsystem, which
/// has a link to each controller and no driver.
fn controllers(namespace: &Path) -> Vec<PathBuf> {
    let Some(subsystem) = namespace.canonicalize().ok().and_then(|path| Some(path.parent()?.to_owned()))
    else {
        return Vec::new();
    };
    if !subsystem.parent().is_some_and(|above| above.ends_with("nvme-subsystem")) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(&subsystem) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_symlink()).collect()
}

/// The loaded modules that drive the device behind `link`, in order from the device to its bus.
pub(super) fn loaded_drivers(tree: &Tree, link: &Path) -> Vec<String> {
    let (Ok(top), Ok(device)) = (tree.sys.join("devices").canonicalize(), link.canonicalize()) else {
        return Vec::new();
    };
    let folders = device.ancestors().take_while(|folder| folder.starts_with(&top));
    let modules = folders.filter_map(driver_module);
    // Only a loaded module has a state.
    modules.filter(|module| tree.sys.join("module").join(module).join("initstate").exists()).collect()
}

fn driver_module(device: &Path) -> Option<String> {
    let target = fs::read_link(device.join("driver/module")).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn drivers_are_found_from_the_disk_to_the_bus() {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        let driven = |device: &str, bus: &str, driver: &str, module: &str, loaded: bool| {
            let device = sys.join("devices").join(device);
            let driver = sys.join("bus").join(bus).join("drivers").join(driver);
            let module = sys.join("module").join(module);
            for folder in [&device, &driver, &module] {
                fs::create_dir_all(folder).unwrap();
            }
            if loaded {
                fs::write(module.join("initstate"), "live\n").unwrap();
            }
            if !driver.join("module").exists() {
                symlink(&module, driver.join("module")).unwrap();
            }
            symlink(&driver, device.join("driver")).unwrap();
        };
        let disk = |name: &str, device: &str| {
            let folder = sys.join("devices").join(device).join("block").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("size"), "2048\n").unwrap();
            fs::create_dir_all(sys.join("block")).unwrap();
            symlink(&folder, sys.join("block").join(name)).unwrap();
        };
        let scsi = "pci0/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0";
        driven(scsi, "scsi", "sd", "sd_mod", true);
        driven("pci0/0000:00:1f.2", "pci", "ahci", "ahci", true);
        driven("pci0", "pci", "pcieport", "pcieport", false);
        disk("sda", scsi);
        driven("pci0/0000:00:05.0/virtio2", "virtio", "virtio_blk", "virtio_blk", true);
        driven("pci0/0000:00:05.0", "pci", "virtio-pci", "virtio_pci", true);
        disk("vda", "pci0/0000:00:05.0/virtio2");
        driven("pci0/0000:00:06.0/virtio3", "virtio", "virtio_blk", "virtio_blk", true);
        disk("vdb", "pci0/0000:00:06.0/virtio3");
        // Two controllers lead to it, so it is below neither.
        driven("pci0/0000:00:07.0", "pci", "nvme", "nvme", true);
        let subsystem = sys.join("devices/virtual/nvme-subsystem/nvme-subsys0");
        fs::create_dir_all(subsystem.join("nvme0n1")).unwrap();
        fs::write(subsystem.join("nvme0n1/size"), "2048\n").unwrap();
        symlink(subsystem.join("nvme0n1"), sys.join("block/nvme0n1")).unwrap();
        for name in ["nvme0", "nvme1"] {
            let controller = sys.join("devices/pci0/0000:00:07.0/nvme").join(name);
            fs::create_dir_all(&controller).unwrap();
            symlink(&controller, subsystem.join(name)).unwrap();
        }
        let tree = Tree { sys: sys.clone(), proc: root.path().join("proc"), dev: root.path().join("dev") };
        assert_eq!(modules(&tree), ["sd_mod", "ahci", "virtio_blk", "virtio_pci", "nvme"]);
    }
}
