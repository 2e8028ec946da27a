//! Identities kept by other software: a second list, from which a site enables what it wants.

use std::fs;
use std::path::{Path, PathBuf};

use ka::notes::NoteKind;

use super::known::groups;
use super::list::List;
use crate::finish::error::Cause;
use crate::notes;
use ka_host::system::glob;

/// The maximum number of files named per group.
const MAX_NAMED: usize = 3;

/// Reports which files of the list are in the tree below `root`, and stay there.
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
    let paths: Vec<String> = found.iter().take(MAX_NAMED).map(|path| path.display().to_string()).collect();
    let more = if found.len() > MAX_NAMED { ", …" } else { "" };
    format!("{name} ({}{more})", paths.join(", "))
}

/// An empty directory or file is no identity.
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
    use super::super::known::enabled;
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
