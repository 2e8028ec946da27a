//! Mounts in other mount namespaces: containers, and services with a private view.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::mountinfo::{self, Mount};

/// The mounts of another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// One of its processes: name and number.
    pub process: String,
    /// Its mounts.
    pub mounts: Vec<Mount>,
}

/// The mount namespaces other than this process's own, each once. A process that has ended or may not be
/// inspected is skipped; the exclusive open of a disk detects what this misses.
pub fn others(proc: &Path) -> Vec<Namespace> {
    let Ok(own) = fs::read_link(proc.join("self/ns/mnt")) else { return Vec::new() };
    let mut seen = BTreeSet::from([own]);
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let Ok(namespace) = fs::read_link(entry.path().join("ns/mnt")) else { continue };
        if seen.contains(&namespace) {
            continue;
        }
        let Ok(mounts) = mountinfo::read_from(&entry.path().join("mountinfo")) else { continue };
        seen.insert(namespace);
        found.push(Namespace { process: process(&entry.path(), &number), mounts });
    }
    found
}

/// A process by name and number, as a person looks for it.
pub fn process(folder: &Path, number: &str) -> String {
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let name: String = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { format!("process {number}") } else { format!("{name} (process {number})") }
}
