//! The drivers of this machine's network cards, for the clone's module lists.

use super::storage::loaded_drivers;
use super::{Tree, names};

/// A network card with the loaded modules that drive it, in order from the card to its bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardModules {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Such as `virtio_net`, `virtio_pci`, without built-in drivers.
    pub modules: Vec<String>,
}

/// The machine's cards: `in_use` first, the others by name.
#[must_use]
pub fn card_modules(in_use: &str) -> Vec<CardModules> {
    of(&Tree::of_this_machine(), in_use)
}

fn of(tree: &Tree, in_use: &str) -> Vec<CardModules> {
    let class = tree.sys.join("class/net");
    let is_card = |name: &String| class.join(name).join("device").exists();
    let mut cards: Vec<CardModules> = names(&class)
        .into_iter()
        .filter(is_card)
        .map(|interface| CardModules {
            modules: loaded_drivers(tree, &class.join(&interface).join("device")),
            interface,
        })
        .collect();
    cards.sort_by_key(|card| card.interface != in_use);
    cards
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn cards_are_told_with_their_drivers() {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        for (device, interface, driver) in
            [("pci0/0000:00:03.0/virtio0", "eth1", "virtio_net"), ("pci0/0000:00:04.0", "eth0", "e1000")]
        {
            let device = sys.join("devices").join(device);
            let (driver, module) = (sys.join("bus/drivers").join(driver), sys.join("module").join(driver));
            for folder in [&device, &driver, &module, &sys.join("class/net").join(interface)] {
                fs::create_dir_all(folder).unwrap();
            }
            fs::write(module.join("initstate"), "live\n").unwrap();
            symlink(&module, driver.join("module")).unwrap();
            symlink(&driver, device.join("driver")).unwrap();
            symlink(&device, sys.join("class/net").join(interface).join("device")).unwrap();
        }
        fs::create_dir_all(sys.join("class/net/lo")).unwrap();
        let tree = Tree { sys, ..Tree::of_this_machine() };
        let found: Vec<_> = of(&tree, "eth1").into_iter().map(|c| (c.interface, c.modules)).collect();
        assert_eq!(
            found,
            [
                ("eth1".to_owned(), vec!["virtio_net".to_owned()]),
                ("eth0".to_owned(), vec!["e1000".to_owned()])
            ]
        );
    }
}
