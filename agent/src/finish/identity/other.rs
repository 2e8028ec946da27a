//! Identities that other software keeps: a second list, of which a site enables what it wants.

use std::fs;
use std::path::{Path, PathBuf};

use ka::notes::NoteKind;

use super::super::error::Cause;
use super::list::{List, Rule, parse};
use crate::notes;
use ka_host::system::glob;

/// What ka knows of.
const KNOWN: &str = include_str!("other.list");

/// Enables the whole list.
const ALL: &str = "all";

/// Files of one group that are named.
const MOST_NAMED: usize = 3;

/// The groups of the list with their rules, in its order.
fn groups() -> Result<Vec<(&'static str, Vec<Rule>)>, Cause> {
    let mut groups: Vec<(&str, Vec<Rule>)> = Vec::new();
    for (number, line) in (1..).zip(KNOWN.lines()) {
        if let Some(name) = line.strip_prefix("group ") {
            groups.push((name.trim(), Vec::new()));
            continue;
        }
        let rule =
            parse(line).map_err(|wrong| Cause::List { file: "other.list".into(), line: number, wrong })?;
        if let Some((_, rules)) = groups.last_mut() {
            rules.extend(rule);
        }
    }
    Ok(groups)
}

/// The rules that `enable WHAT` adds: all, a group's, or a single one by its path.
pub(super) fn enabled(what: &str) -> Result<Vec<Rule>, String> {
    let groups = groups().map_err(|e| e.to_string())?;
    let found: Vec<Rule> = if what == ALL {
        groups.into_iter().flat_map(|(_, rules)| rules).collect()
    } else if what.starts_with('/') {
        let is_it = |rule: &Rule| rule.pattern == what.trim_matches('/');
        groups.into_iter().flat_map(|(_, rules)| rules).filter(is_it).collect()
    } else {
        groups.into_iter().filter(|(name, _)| *name == what).flat_map(|(_, rules)| rules).collect()
    };
    if found.is_empty() {
        let names: Vec<&str> =
            self::groups().map_err(|e| e.to_string())?.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "expected `enable` with all, a path of the list, or one of {}; found '{what}'",
            names.join(", ")
        ));
    }
    Ok(found)
}

/// Reports what of the list is in the tree below `root`, and stays there.
pub(super) fn report(root: &Path, list: &List) -> Result<(), Cause> {
    let mut told = Vec::new();
    for (name, rules) in groups()? {
        let mut found = Vec::new();
        for rule in &rules {
            for path in glob::entries(root, &rule.pattern)? {
                if holds_something(&path) && !list.keeps(root, &path)? {
                    let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
                    found.push(Path::new("/").join(path));
                }
            }
        }
        if !found.is_empty() {
            told.push(in_words(name, &found));
        }
    }
    if !told.is_empty() {
        let text = format!(
            "identities of other software are the golden node's: {}; `enable NAME` or `enable all` in \
             /etc/ka/identity.d takes them away, and `keep PATH` says that they are shared",
            told.join("; ")
        );
        notes::warn(NoteKind::Identity, text);
    }
    Ok(())
}

fn in_words(name: &str, found: &[PathBuf]) -> String {
    let paths: Vec<String> = found.iter().take(MOST_NAMED).map(|path| path.display().to_string()).collect();
    let more = if found.len() > MOST_NAMED { ", …" } else { "" };
    format!("{name} ({}{more})", paths.join(", "))
}

/// An empty directory, or an emptied file, is nobody's identity.
fn holds_something(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path).is_ok_and(|mut inner| inner.next().is_some()),
        Ok(metadata) if metadata.is_file() => metadata.len() > 0,
        Ok(metadata) => metadata.is_symlink(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_enabled_as_a_whole_by_group_and_by_line() {
        let groups = groups().unwrap();
        assert!(groups.len() >= 12 && groups.iter().all(|(_, rules)| !rules.is_empty()));
        let all = enabled("all").unwrap();
        assert!(all.len() > 50);
        let salt = enabled("salt").unwrap();
        assert!(salt.len() > 1 && salt.iter().all(|rule| rule.pattern.starts_with("etc/salt")));
        assert_eq!(enabled("/etc/krb5.keytab").unwrap().len(), 1);
        assert_eq!(enabled("/var/lib/cloud/instances/").unwrap().len(), 1);
        for bad in ["sault", "/etc/other", ""] {
            let error = enabled(bad).unwrap_err();
            assert!(error.contains("kerberos, directory") && error.contains(bad), "{error}");
        }
    }
}
