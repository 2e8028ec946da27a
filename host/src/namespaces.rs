//! Mounts in the mount namespaces of other processes: containers, services with a private view.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::mountinfo::{self, Mount};

/// What the mount namespace of a process shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// One of its processes: name and number.
    pub process: String,
    /// Its mounts.
    pub mounts: Vec<Mount>,
}

/// The mount namespaces besides this process's own, each once. A process that ends meanwhile, or may not be looked at,
/// is passed over: the exclusive open of a disk tells of what was missed.
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

/// A process as a person looks for it: its name and number.
pub fn process(folder: &Path, number: &str) -> String {
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
    let name: String = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { format!("process {number}") } else { format!("{name} (process {number})") }
}
