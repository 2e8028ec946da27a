//! The node's own name, in all files that hold it.

use std::fs;
use std::io;
use std::path::Path;

use super::error::Cause;
use super::replace::{create, replace};

/// Files that hold nothing but the name; the first is the one that every system reads today.
const PLAIN: [&str; 3] = ["etc/hostname", "etc/HOSTNAME", "etc/mailname"];

/// Shell variables that hold it on other systems.
const ASSIGNED: [(&str, &str); 2] =
    [("etc/sysconfig/network", "HOSTNAME="), ("etc/conf.d/hostname", "hostname=")];

/// The name in the tree below `root`; empty if it has none.
pub(super) fn read(root: &Path) -> Result<String, Cause> {
    for path in PLAIN.map(|path| root.join(path)) {
        if let Some(text) = optional(&path)? {
            let name = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            return Ok(name.unwrap_or_default().to_owned());
        }
    }
    Ok(String::new())
}

/// Gives the tree below `root` the name `new`, in place of the golden node's.
pub(super) fn write(root: &Path, new: &str) -> Result<(), Cause> {
    if !ka::hostname::is_valid(new) {
        return Err(Cause::Hostname(new.to_owned()));
    }
    let old = read(root)?;
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
    change(&root.join("etc/hosts"), |text| hosts(text, &old, new))?;
    log::info!("this node is {new}");
    Ok(())
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

/// hosts(5) with the new name on the machine's own addresses. A line of another address stays: in a cluster's
/// table, the golden node is one of many.
fn hosts(text: &str, old: &str, new: &str) -> String {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let (old_short, new_short) = (short(old), short(new));
    // A machine without a name of its own: this one stays, for everybody.
    let nameless = old_short.is_empty() || old_short.eq_ignore_ascii_case("localhost");
    let mut domain = None;
    let mut rewritten = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let address = line.split_whitespace().next().unwrap_or_default();
        if nameless || !(address.starts_with("127.") || address == "::1") {
            rewritten.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find(|c: char| !c.is_whitespace()) {
            let (blank, tail) = rest.split_at(at);
            let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
            rewritten.push_str(blank);
            match word.strip_prefix(old_short.as_str()) {
                Some("") => rewritten.push_str(&new_short),
                Some(behind) if behind.starts_with('.') => {
                    domain = Some(behind.to_owned());
                    let full = if new.contains('.') { new.to_owned() } else { format!("{new}{behind}") };
                    rewritten.push_str(&full);
                }
                _ => rewritten.push_str(word),
            }
            rest = tail;
        }
        rewritten.push_str(rest);
    }
    let names_it = |line: &str| line.split_whitespace().skip(1).any(|word| word == new_short);
    if !rewritten.lines().filter(|line| !line.trim_start().starts_with('#')).any(names_it) {
        if !rewritten.is_empty() && !rewritten.ends_with('\n') {
            rewritten.push('\n');
        }
        let full = match domain {
            _ if new.contains('.') => format!("{new} "),
            Some(domain) => format!("{new}{domain} "),
            None => String::new(),
        };
        rewritten.push_str(&format!("127.0.1.1\t{full}{new_short}\n"));
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_table_has_the_new_name() {
        for (old_table, name, new_table) in [
            (
                "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.org\tgolden\n",
                "node7",
                "127.0.0.1\tlocalhost\n127.0.1.1\tnode7.example.org\tnode7\n",
            ),
            ("127.0.1.1 golden.a golden", "node7.b.c", "127.0.1.1 node7.b.c node7"),
            (
                "127.0.0.1 localhost golden\n::1 localhost golden\n",
                "node7",
                "127.0.0.1 localhost node7\n::1 localhost node7\n",
            ),
            // A cluster's own table.
            (
                "127.0.0.1 localhost\n10.0.0.1 golden\n10.0.0.7 node7\n",
                "node7",
                "127.0.0.1 localhost\n10.0.0.1 golden\n10.0.0.7 node7\n",
            ),
            ("127.0.0.1 localhost", "node7", "127.0.0.1 localhost\n127.0.1.1\tnode7\n"),
            ("127.0.0.1 localhost\n", "n7.x", "127.0.0.1 localhost\n127.0.1.1\tn7.x n7\n"),
            ("127.0.1.1 goldenrod\n", "node7", "127.0.1.1 goldenrod\n127.0.1.1\tnode7\n"),
        ] {
            assert_eq!(hosts(old_table, "golden", name), new_table);
        }
        for old in ["", "localhost", "localhost.localdomain"] {
            let table = "127.0.0.1 localhost.localdomain localhost\n";
            assert_eq!(hosts(table, old, "n"), format!("{table}127.0.1.1\tn\n"), "{old}");
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
        write(root.path(), "node7").unwrap();
        for (file, text) in [
            ("etc/hostname", "node7\n"),
            ("etc/mailname", "mail.example.org\n"),
            ("etc/HOSTNAME", "node7\n"),
            ("etc/hosts", "127.0.1.1 node7\n"),
            ("etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=\"node7\"\n"),
        ] {
            assert_eq!(fs::read_to_string(at(file)).unwrap(), text, "{file}");
        }
        assert!(matches!(write(root.path(), "a b"), Err(Cause::Hostname(_))));

        fs::remove_file(at("etc/hostname")).unwrap();
        std::os::unix::fs::symlink("../run/nowhere/hostname", at("etc/hostname")).unwrap();
        write(root.path(), "node8").unwrap();
        assert_eq!(fs::read_to_string(at("etc/hostname")).unwrap(), "node8\n", "in place of a dangling link");
    }
}
