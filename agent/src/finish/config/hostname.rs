//! The node's own name, in all files that hold it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::finish::config::hosts;
use crate::finish::error::Cause;
use crate::finish::replace::{create, replace};

/// Files that contain only the name; every current system reads the first one.
const PLAIN: [&str; 3] = ["etc/hostname", "etc/HOSTNAME", "etc/mailname"];

/// Shell variables that contain it on other systems.
const ASSIGNED: [(&str, &str); 2] =
    [("etc/sysconfig/network", "HOSTNAME="), ("etc/conf.d/hostname", "hostname=")];

/// The hostname in the tree below `root`; empty if there is none.
pub(in crate::finish) fn read(root: &Path) -> Result<String, Cause> {
    for path in PLAIN.map(|path| root.join(path)) {
        if let Some(text) = optional(&path)? {
            let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            return Ok(name.unwrap_or_default().to_owned());
        }
    }
    Ok(String::new())
}

/// Replaces the golden node's name in the tree below `root` with `name`; `address` is the node's own, if it
/// is stored on the node.
pub(in crate::finish) fn write(root: &Path, name: &str, address: Option<IpAddr>) -> Result<(), Cause> {
    if !ka::hostname::is_valid(name) {
        return Err(Cause::Hostname(name.to_owned()));
    }
    let old = read(root)?;
    let table = optional(&root.join("etc/hosts"))?.unwrap_or_default();
    let domain = hosts::domain(&table, &old);
    let new = &in_form_of(&old, name, domain.as_deref());
    for place in PLAIN {
        let path = root.join(place);
        let text = optional(&path)?;
        match text {
            Some(text) if place == PLAIN[0] || text.trim() == old => {
                replace(&path, format!("{new}\n").as_bytes())?;
            }
            None if place == PLAIN[0] => create(&path, format!("{new}\n").as_bytes())?,
            _ => {}
        }
    }
    for (place, key) in ASSIGNED {
        change(&root.join(place), |text| {
            let line = |line: &str| match line.strip_prefix(key) {
                Some(_) => format!("{key}\"{new}\"\n"),
                None => line.to_owned(),
            };
            text.split_inclusive('\n').map(line).collect()
        })?;
    }
    let names = hosts::Names { old: &old, new: name, domain: domain.as_deref(), address };
    change(&root.join("etc/hosts"), |text| hosts::rewrite(text, &names))?;
    log::info!("this node is {new}");
    Ok(())
}

/// Returns `new` with its domain if the golden node's name has one, and without it otherwise.
fn in_form_of(old: &str, new: &str, domain: Option<&str>) -> String {
    let is_full = old.contains('.');
    match domain {
        _ if hosts::is_nameless(old) => new.to_owned(),
        Some(domain) if is_full && !new.contains('.') => format!("{new}.{domain}"),
        _ if !is_full => hosts::short(new).to_owned(),
        _ => new.to_owned(),
    }
}

fn change(path: &Path, new: impl FnOnce(&str) -> String) -> Result<(), Cause> {
    let Some(text) = optional(path)? else { return Ok(()) };
    let new = new(&text);
    if new == text { Ok(()) } else { replace(path, new.as_bytes()) }
}

fn optional(path: &Path) -> Result<Option<String>, Cause> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Cause::file("read", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_keeps_its_form() {
        for (old, new, domain, expected) in [
            ("golden", "node7", Some("a.org"), "node7"),
            ("golden.a.org", "node7", Some("a.org"), "node7.a.org"),
            ("golden.a.org", "node7.b.org", Some("a.org"), "node7.b.org"),
            ("golden", "node7.b.org", None, "node7"),
            ("", "node7.b.org", None, "node7.b.org"),
            ("localhost", "node7.b.org", None, "node7.b.org"),
        ] {
            assert_eq!(in_form_of(old, new, domain), expected, "{old} {new}");
        }
    }

    #[test]
    fn every_file_with_the_name_follows() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("etc/sysconfig")).unwrap();
        for (file, text) in [
            ("etc/hostname", "golden\n"),
            ("etc/mailname", "mail.example.org\n"),
            ("etc/HOSTNAME", "golden"),
            ("etc/hosts", "127.0.1.1 golden\n"),
            ("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=golden\n"),
        ] {
            fs::write(at(file), text).unwrap();
        }
        assert_eq!(read(root.path()).unwrap(), "golden");
        write(root.path(), "node7", None).unwrap();
        for (file, text) in [
            ("etc/hostname", "node7\n"),
            ("etc/mailname", "mail.example.org\n"),
            ("etc/HOSTNAME", "node7\n"),
            ("etc/hosts", "127.0.1.1 node7\n"),
            ("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=\"node7\"\n"),
        ] {
            assert_eq!(fs::read_to_string(at(file)).unwrap(), text, "{file}");
        }
        assert!(matches!(write(root.path(), "a b", None), Err(Cause::Hostname(_))));

        fs::remove_file(at("etc/hostname")).unwrap();
        std::os::unix::fs::symlink("../run/nowhere/hostname", at("etc/hostname")).unwrap();
        write(root.path(), "node8", None).unwrap();
        assert_eq!(fs::read_to_string(at("etc/hostname")).unwrap(), "node8\n", "in place of a dangling link");
    }
}
