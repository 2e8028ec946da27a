//! The drivers that this machine's disks hang on, for the initrd of the clone.

use std::fs;
use std::path::Path;

use super::{Tree, disks};

/// The loaded modules that drive the disks, from the disk to its bus (`sd_mod`, `ahci`, …), each once. What is
/// built into the kernel is left out, as no initrd can hold it.
#[must_use]
pub fn storage_modules() -> Vec<String> {
    modules(&Tree::of_this_machine())
}

fn modules(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for disk in disks::disks(tree) {
        for module in loaded_drivers(tree, &tree.sys.join("block").join(&disk.name)) {
            if !found.contains(&module) {
                found.push(module);
            }
        }
    }
    found
}

/// The loaded modules that drive the device behind `link`, from the device to its bus.
pub(super) fn loaded_drivers(tree: &Tree, link: &Path) -> Vec<String> {
    let (Ok(top), Ok(device)) = (tree.sys.join("devices").canonicalize(), link.canonicalize()) else {
        return Vec::new();
    };
    let folders = device.ancestors().take_while(|folder| folder.starts_with(&top));
    let modules = folders.filter_map(driver_module);
    // Only a module that was loaded has a state.
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
        let tree = Tree { sys: sys.clone(), proc: root.path().join("proc"), dev: root.path().join("dev") };
        assert_eq!(modules(&tree), ["sd_mod", "ahci", "virtio_blk", "virtio_pci"]);
    }
}
