//! The module aliases through which old systems, and a site's scripts, refer to this machine's own drivers.

use std::fs;
use std::path::Path;

use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};
use ka_host::hardware::CardModules;

/// The single file on an old system.
const ONE_FILE: &str = "etc/modprobe.conf";
/// The directory on every other system.
const DIRECTORY: &str = "etc/modprobe.d";

/// Drivers that are layered on top of the controller's driver.
const UPPER: [&str; 3] = ["scsi_mod", "sd_mod", "sr_mod"];

/// Writes `alias ethN` and `alias scsi_hostadapter` for this node, in place of the golden node's.
pub(in crate::finish) fn write(root: &Path, cards: &[CardModules], storage: &[String]) -> Result<(), Cause> {
    let aliases = aliases(cards, storage);
    let old_way = root.join(ONE_FILE);
    if old_way.is_file() {
        let old = fs::read_to_string(&old_way).map_err(|e| Cause::file("read", &old_way, e))?;
        let mut new: String = old.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
        if !new.is_empty() && !new.ends_with('\n') {
            new.push('\n');
        }
        new.push_str(&aliases);
        return if new == old { Ok(()) } else { replace(&old_way, new.as_bytes()) };
    }
    let directory = root.join(DIRECTORY);
    if aliases.is_empty() || !directory.is_dir() {
        return Ok(());
    }
    let path = directory.join("ka.conf");
    let text = format!("# ka: this machine's own drivers\n{aliases}");
    create(&path, text.as_bytes())
}

fn aliases(cards: &[CardModules], storage: &[String]) -> String {
    let mut lines = String::new();
    for (number, card) in cards.iter().enumerate() {
        if let Some(module) = card.modules.first() {
            lines.push_str(&format!("alias eth{number} {module}\n"));
        }
    }
    let controllers = storage.iter().filter(|module| !UPPER.contains(&module.as_str()));
    for (number, module) in controllers.enumerate() {
        let number = if number == 0 { String::new() } else { number.to_string() };
        lines.push_str(&format!("alias scsi_hostadapter{number} {module}\n"));
    }
    lines
}

/// Whether this module writes such a line, for any machine.
fn is_ours(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let numbered = |name: &str, stem: &str| {
        name.strip_prefix(stem).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    words.next() == Some("alias")
        && words.next().is_some_and(|name| {
            numbered(name, "scsi_hostadapter") || (name != "eth" && numbered(name, "eth"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(interface: &str, module: &str) -> CardModules {
        CardModules {
            interface: interface.to_owned(),
            modules: vec![module.to_owned(), "virtio_pci".to_owned()],
        }
    }

    #[test]
    fn this_machines_drivers_take_the_golden_ones_place() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(DIRECTORY)).unwrap();
        let cards = [card("eth1", "virtio_net"), card("eth0", "e1000")];
        let storage = ["sd_mod", "ahci", "nvme"].map(str::to_owned);
        let aliases = "alias eth0 virtio_net\nalias eth1 e1000\nalias scsi_hostadapter ahci\nalias scsi_hostadapter1 nvme\n";

        write(root.path(), &cards, &storage).unwrap();
        let text = fs::read_to_string(root.path().join("etc/modprobe.d/ka.conf")).unwrap();
        assert_eq!(text, format!("# ka: this machine's own drivers\n{aliases}"));

        let one = root.path().join(ONE_FILE);
        fs::write(&one, "alias eth0 tg3\nalias eth-x y\noptions x y=1\nalias scsi_hostadapter1 sata_nv")
            .unwrap();
        write(root.path(), &cards, &storage).unwrap();
        let expected = format!("alias eth-x y\noptions x y=1\n{aliases}");
        assert_eq!(fs::read_to_string(&one).unwrap(), expected);
        write(root.path(), &cards, &storage).unwrap();
        assert_eq!(fs::read_to_string(&one).unwrap(), expected);
    }
}
