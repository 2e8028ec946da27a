//! Finds files of the copied system by patterns, so that lists of places are data.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::FileError;
use ka::glob::fits_exactly;

/// Everything below `root` that matches `pattern`, sorted. `*`, `?` and `[…]` match within one path
/// component. Missing paths are skipped. The last component is never followed if it is a link.
pub fn entries(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let mut found = vec![root.to_owned()];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        let mut deeper = Vec::new();
        for directory in found {
            if component.contains(['*', '?', '[']) {
                deeper.extend(listed(&directory, component)?);
            } else {
                let path = directory.join(component);
                if fs::symlink_metadata(&path).is_ok() {
                    deeper.push(path);
                }
            }
        }
        found = deeper;
    }
    Ok(found)
}

/// Like [`entries`], but only regular files and links to them.
pub fn files(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    Ok(entries(root, pattern)?.into_iter().filter(|path| path.is_file()).collect())
}

fn listed(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        Err(e) => return Err(FileError::new("list", directory)(e)),
    };
    let named = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| fits(pattern, name))
    };
    let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(named).collect();
    found.sort();
    Ok(found)
}

/// As in a shell, a pattern matches a name that begins with a dot only if it begins with a dot itself.
fn fits(pattern: &str, name: &str) -> bool {
    (pattern.starts_with('.') || !name.starts_with('.')) && fits_exactly(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fitting) in [
            ("duid", "duid", true),
            ("duid", "duid2", false),
            ("*.lease", "eth0.lease", true),
            ("*.lease", "eth0.lease6", false),
            ("*.lease", "a.lease.lease", true),
            ("dhclient*.leases", "dhclient.leases", true),
            ("dhclient*.leases", "dhcpd.leases", false),
            ("lease-*.xml", "lease-eth0-dhcp.xml", true),
            ("*lease*", "a-lease-b", true),
            ("*lease*", "seed", false),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
        ] {
            assert_eq!(fits(pattern, name), fitting, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_found_by_their_components() {
        let root = tempfile::tempdir().unwrap();
        for path in ["etc/a/x.conf", "etc/b/x.conf", "etc/b/y.conf", "etc/c"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", root.path().join("etc/a/z.conf")).unwrap();
        let names = |pattern: &str| -> Vec<String> {
            let found = entries(root.path(), pattern).unwrap();
            found.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("etc/*/x.conf"), ["etc/a/x.conf", "etc/b/x.conf"]);
        assert_eq!(names("/etc/b/*.conf"), ["etc/b/x.conf", "etc/b/y.conf"]);
        assert_eq!(names("etc/a/*"), ["etc/a/x.conf", "etc/a/z.conf"]);
        assert_eq!(files(root.path(), "etc/a/*").unwrap().len(), 1);
        assert!(names("usr/*/x").is_empty());
    }
}
