//! Every name that this machine has for its disks, and for what is made of them: a clone's configuration may speak of
//! any, and the clone has none but those of what was copied.

use std::fs;
use std::path::{Path, PathBuf};

use ka::plan::GoldenMachine;
use ka_host::{blkid, sysfs};

/// A machine with thousands of disks has them in a storage network. A plan must stay a message.
const MAX_NAMES: usize = 4096;

/// What the clones' configuration may name of this machine, beside what is cloned.
#[must_use]
pub fn machine(root: &Path) -> GoldenMachine {
    let mut devices = links(Path::new("/dev"));
    let disks = sysfs::disks().unwrap_or_default();
    let mut tables = Vec::new();
    for disk in &disks {
        let node = Path::new("/dev").join(disk);
        devices.push(node.display().to_string());
        let partitions = sysfs::partitions(disk).unwrap_or_default();
        devices.extend(partitions.iter().map(|partition| partition.node().display().to_string()));
        // A disk without a medium has none.
        let first = partitions.first().map(|partition| blkid::probe(&partition.node()));
        tables.extend(first.and_then(|contents| table_of(&contents.ok()?.partuuid?)));
    }
    devices.sort();
    devices.dedup();
    if devices.len() > MAX_NAMES {
        log::warn!(
            "this machine has {} names of disks; the clones are searched for the first {MAX_NAMES}",
            devices.len()
        );
        devices.truncate(MAX_NAMES);
    }
    tables.dedup();
    GoldenMachine { hostname: hostname(root), devices, tables }
}

/// The identifier of an MBR, which its partitions' begin with: `0123abcd` of `0123abcd-01`. A GPT's partitions have
/// others.
fn table_of(partuuid: &str) -> Option<String> {
    partuuid
        .split_once('-')
        .filter(|(id, number)| id.len() == 8 && number.len() == 2)
        .map(|(id, _)| id.to_owned())
}

/// All links below `/dev/disk`, and the names that LVM, the device mapper and md give.
fn links(dev: &Path) -> Vec<String> {
    let list = |directory: &Path| -> Vec<PathBuf> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let is_device = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name != "control")
            && fs::metadata(path).is_ok_and(|m| !m.is_dir())
    };
    let mut found: Vec<PathBuf> = list(&dev.join("disk")).iter().flat_map(|by| list(by)).collect();
    found.extend(list(&dev.join("mapper")));
    found.extend(list(&dev.join("md")));
    found.extend(list(dev).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("md").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            || name.strip_prefix("dm-").is_some()
    }));
    // A volume group is a directory of links to /dev/dm-N.
    for directory in list(dev).into_iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        let to_mapper = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|to| {
                to.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("dm-"))
            })
        };
        if !directory.ends_with("mapper") && !directory.ends_with("disk") {
            found.extend(list(&directory).into_iter().filter(to_mapper));
        }
    }
    found.retain(is_device);
    found.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect()
}

/// The name that the files below `root` have for this machine, or what the kernel calls it.
fn hostname(root: &Path) -> Option<String> {
    let written = fs::read_to_string(root.join("etc/hostname")).unwrap_or_default();
    let written = written.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let kernel = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(written.map_or_else(kernel, str::to_owned)).filter(|name| ka::hostname::is_valid(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_name_of_a_device_is_found() {
        let dev = tempfile::tempdir().unwrap();
        for file in ["sda1", "dm-0", "md127", "mapper/control", "shm/x"] {
            let path = dev.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        for (link, to) in [
            ("disk/by-uuid/0001", "../../sda1"),
            ("disk/by-id/dm-name-vg-old", "../../dm-0"),
            ("mapper/vg-old", "../dm-0"),
            ("vg/old", "../dm-0"),
            ("md/store", "../md127"),
            ("disk/by-id/gone", "../../sdz"),
        ] {
            let path = dev.path().join(link);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(to, path).unwrap();
        }
        let mut found: Vec<_> = links(dev.path())
            .iter()
            .map(|path| Path::new(path).strip_prefix(dev.path()).unwrap().display().to_string())
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "disk/by-id/dm-name-vg-old",
                "disk/by-uuid/0001",
                "dm-0",
                "mapper/vg-old",
                "md/store",
                "md127",
                "vg/old"
            ]
        );
        assert_eq!(table_of("0123abcd-01").as_deref(), Some("0123abcd"));
        assert_eq!(table_of("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), None);
    }
}
