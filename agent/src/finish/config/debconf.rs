//! debconf's answers about where GRUB is installed.
//!
//! Debian asks once, and stores the golden disk's name. The next upgrade of GRUB would look for that disk on
//! every clone, and stop halfway with a question.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::finish::config::names::{Named, Names, disk_of};
use crate::finish::error::Cause;
use crate::finish::replace::replace;

/// debconf's database of answers.
const ANSWERS: &str = "var/cache/debconf/config.dat";

/// The node's disks: names in `/dev/disk/by-id`, by device node.
pub(in crate::finish) type DiskNames = BTreeMap<PathBuf, Vec<String>>;

/// Puts this node's disks into the answers below `root`. `disk` is the boot disk.
pub(in crate::finish) fn write(
    root: &Path,
    names: &Names<'_>,
    disk: &Path,
    disks: &DiskNames,
) -> Result<(), Cause> {
    let path = root.join(ANSWERS);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    let Ok(old) = String::from_utf8(bytes) else {
        warning!("{}: not UTF-8, left as it is", path.display());
        return Ok(());
    };
    let new = rewrite(&old, |device| own(device, names, disk, disks), &by_id(disk, None, disks));
    if new == old {
        return Ok(());
    }
    log::info!("{}: GRUB is installed on this node's disk now", path.display());
    replace(&path, new.as_bytes())
}

/// The text with `own` applied to the values of all questions about GRUB's devices; `boots` replaces an empty
/// value.
fn rewrite(text: &str, own: impl Fn(&str) -> Option<String>, boots: &str) -> String {
    let mut asked = false;
    let lines = text.split_inclusive('\n').map(|line| {
        if let Some(name) = line.strip_prefix("Name:") {
            asked = is_about_devices(name.trim());
        }
        let Some(value) =
            line.strip_prefix("Value:").map(str::trim).filter(|value| asked && !value.is_empty())
        else {
            return line.to_owned();
        };
        let mut devices: Vec<String> = Vec::new();
        for device in value.split(',').map(str::trim).filter_map(&own) {
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        if devices.is_empty() {
            devices.push(boots.to_owned());
        }
        let end = if line.ends_with('\n') { "\n" } else { "" };
        format!("Value: {}{end}", devices.join(", "))
    });
    lines.collect()
}

/// `grub-pc/install_devices`, `grub-efi/install_devices`, and the questions for changed disks.
fn is_about_devices(question: &str) -> bool {
    let answer =
        question.strip_prefix("grub-").and_then(|rest| rest.split_once('/')).map(|(_, answer)| answer);
    matches!(answer, Some("install_devices" | "install_devices_disks_changed"))
}

/// The node's device for a golden one, a partition or a disk. `None` for one that was not cloned.
fn own(device: &str, names: &Names<'_>, disk: &Path, disks: &DiskNames) -> Option<String> {
    if let Named::Made(fs) = names.resolve(device) {
        let whole = disk_of(&fs.device.to_string_lossy()).map(PathBuf::from);
        let whole = whole.filter(|whole| disks.contains_key(whole));
        return Some(match whole {
            Some(whole) => by_id(&whole, fs.on.partition(), disks),
            None => fs.device.display().to_string(),
        });
    }
    let fs = names.on_golden_disk(device)?;
    let whole = disk_of(&fs.device.to_string_lossy()).map(PathBuf::from);
    let whole = whole.filter(|whole| disks.contains_key(whole)).unwrap_or_else(|| disk.to_owned());
    Some(by_id(&whole, None, disks))
}

/// The persistent name of a disk, or of one of its partitions, whatever the kernel calls it.
fn by_id(disk: &Path, partition: Option<u32>, disks: &DiskNames) -> String {
    let names = disks.get(disk).map_or(&[][..], Vec::as_slice);
    // Debian's installer prefers names by which a person recognises the disk.
    let numbers = |name: &&String| name.starts_with("wwn-") || name.starts_with("nvme-eui.");
    let name = names.iter().find(|name| !numbers(name)).or(names.first());
    let part = partition.map(|number| format!("-part{number}")).unwrap_or_default();
    match (name, partition) {
        (Some(name), _) => format!("/dev/disk/by-id/{name}{part}"),
        (None, None) => disk.display().to_string(),
        (None, Some(number)) => {
            let disk = disk.display().to_string();
            let between = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
            format!("{disk}{between}{number}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::made;

    const ANSWERED: &str = "\
Name: grub-efi/install_devices
Template: grub-efi/install_devices
Value: /dev/disk/by-id/ata-GOLD-part1
Owners: grub-efi-amd64

Name: grub-pc/install_devices
Template: grub-pc/install_devices
Value: /dev/disk/by-id/ata-GOLD, /dev/disk/by-id/ata-OTHER
Owners: grub-pc
Flags: seen
Variables:
 CHOICES = /dev/disk/by-id/ata-GOLD

Name: grub-pc/install_devices_empty
Template: grub-pc/install_devices_empty
Value: false
Owners: grub-pc

Name: grub-pc/install_devices_disks_changed
Template: grub-pc/install_devices_disks_changed
Value: /dev/sdz
Owners: grub-pc

Name: other/install_devices
Value: /dev/disk/by-id/ata-GOLD
";

    #[test]
    fn grub_is_asked_for_on_this_nodes_disk() {
        let made = made();
        let names = Names::new(&made);
        let disk = Path::new("/dev/vda");
        for (by_id, whole, part) in [
            (
                vec!["wwn-0x5", "virtio-own-1"],
                "/dev/disk/by-id/virtio-own-1",
                "/dev/disk/by-id/virtio-own-1-part1",
            ),
            (vec![], "/dev/vda", "/dev/vda1"),
        ] {
            let by_id = by_id.into_iter().map(str::to_owned).collect();
            let disks = DiskNames::from([(disk.to_owned(), by_id)]);
            let root = tempfile::tempdir().unwrap();
            write(root.path(), &names, disk, &disks).unwrap();
            let path = root.path().join(ANSWERS);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, ANSWERED).unwrap();
            write(root.path(), &names, disk, &disks).unwrap();
            let expected = ANSWERED
                .replacen("/dev/disk/by-id/ata-GOLD-part1", part, 1)
                .replacen("/dev/disk/by-id/ata-GOLD, /dev/disk/by-id/ata-OTHER", whole, 1)
                .replacen("/dev/sdz", whole, 1);
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }
}
