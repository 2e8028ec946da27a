//! The settings in effect, as TOML: the file's on top of the defaults.

use std::fs;
use std::path::Path;

use anyhow::Context;
use toml::{Table, Value};

use super::pxe::Pxe;
use super::{Directories, Net, Ports};

/// Every setting in effect. What a default cannot show (an interface, a range, a machine) is there if the
/// file has it.
///
/// # Errors
/// The file changed after it was loaded.
pub fn text(file: &Path) -> anyhow::Result<String> {
    let own = match fs::read_to_string(file) {
        Ok(text) => text.parse::<Table>().with_context(|| format!("cannot read {}", file.display()))?,
        Err(_) => Table::new(),
    };
    let mut all = defaults();
    overlay(&mut all, own);
    Ok(format!("# The defaults and {}\n\n{all}", file.display()))
}

fn defaults() -> Table {
    let text = |text: &dyn std::fmt::Display| Value::String(text.to_string());
    let Directories { lib, state, log, run, keys, bmc } = Directories::default();
    let directories =
        [("lib", lib), ("state", state), ("log", log), ("run", run), ("keys", keys), ("bmc", bmc)];
    let directories = directories.map(|(name, path)| (name.to_owned(), text(&path.display())));
    let Ports { control, data, http, booted } = Ports::default();
    let ports = [("control", control), ("data", data), ("http", http), ("booted", booted)];
    let ports = ports.map(|(name, port)| (name.to_owned(), Value::Integer(port.into())));
    let Net { per_address, .. } = Net::default();
    let net = [("per_address".to_owned(), Value::Integer(per_address.into()))];
    let Pxe { console, .. } = Pxe::default();
    let pxe = [
        ("console", console.as_str()),
        ("bios", "lpxelinux"),
        ("ipxe", "snponly"),
        ("local_pxelinux", "LOCALBOOT 0"),
        ("local_ipxe", "exit 1"),
    ];
    let pxe = pxe.map(|(name, value)| (name.to_owned(), text(&value)));
    let section = |name: &str, settings: Table| (name.to_owned(), Value::Table(settings));
    Table::from_iter([
        section("directories", Table::from_iter(directories)),
        section("ports", Table::from_iter(ports)),
        section("net", Table::from_iter(net)),
        section("pxe", Table::from_iter(pxe)),
    ])
}

fn overlay(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_shown_is_what_is_in_effect() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ka.toml");
        for own in [
            "",
            "ports.http = 8080\n[pxe]\ninterface = \"eth1\"\nbios = \"undionly\"\n[groups]\nlab = \"node[1-3]\"\n",
            "[[pxe.subnet]]\nrange = \"10.1.0.9,10.1.0.20\"\nnetmask = \"255.255.255.0\"\nrouter = \"10.1.0.1\"\n",
        ] {
            fs::write(&file, own).unwrap();
            let config = Config::load(&file).unwrap();
            let shown = text(&file).unwrap();
            fs::write(&file, &shown).unwrap();
            assert_eq!(Config::load(&file).unwrap(), config, "{shown}");
            assert!(shown.contains("control = 30765") && shown.contains("console=tty0"), "{shown}");
        }
    }
}
