//! LVM's own files, which name the golden node's physical volumes or cache what LVM knew of them.
//!
//! With these files in its initrd, a clone finds no volume group: `system.devices` lists the only devices
//! that LVM examines, by serial number, and a filter in `lvm.conf` may name the golden disk.

use std::fs;
use std::path::Path;

use crate::disk::MadeFileSystem;
use crate::finish::config::names::{Names, disk_of};
use crate::finish::error::Cause;
use crate::finish::replace::replace;
use ka_host::system::glob;

/// Data that is valid only for the golden node's devices. Without this file, LVM examines all devices and
/// writes it again.
const KEPT_OF_DEVICES: [&str; 6] = [
    "etc/lvm/archive/*.vg",
    "etc/lvm/backup/*",
    "etc/lvm/cache/.cache",
    "etc/lvm/devices/backup/*",
    "etc/lvm/devices/*.devices",
    "etc/lvm/devices/devices_file_init",
];

/// The settings that contain filters.
const SETTINGS: [&str; 2] = ["etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"];

/// Rewrites and removes LVM's files below `root`, if this node has volume groups.
pub(in crate::finish) fn write(root: &Path, names: &Names<'_>) -> Result<(), Cause> {
    let members: Vec<&MadeFileSystem> = names.of_kind("LVM2_member").collect();
    if members.is_empty() {
        return Ok(());
    }
    for pattern in KEPT_OF_DEVICES {
        for path in glob::files(root, pattern)? {
            fs::remove_file(&path).map_err(|e| Cause::file("remove", &path, e))?;
            log::info!("{}: removed, it is about the golden node's disks", path.display());
        }
    }
    for file in SETTINGS {
        let path = root.join(file);
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Cause::file("read", &path, e)),
        };
        let new = rewrite(&old, &members);
        if new != old {
            log::info!("{}: its filters name this node's disks now", path.display());
            replace(&path, new.as_bytes())?;
        }
    }
    Ok(())
}

/// The settings with this node's devices in their filters.
fn rewrite(text: &str, members: &[&MadeFileSystem]) -> String {
    let mut is_filter = false;
    let lines = text.split_inclusive('\n').map(|line| {
        let word = line.trim_start();
        if word.starts_with('#') {
            return line.to_owned();
        }
        // A list may continue over several lines.
        is_filter = is_filter || (word.contains("filter") && word.contains('='));
        let new = if is_filter { with_own_devices(line, members) } else { line.to_owned() };
        is_filter = is_filter && !line.contains(']');
        new
    });
    lines.collect()
}

fn with_own_devices(line: &str, members: &[&MadeFileSystem]) -> String {
    let mut line = line.to_owned();
    for member in members {
        let own = member.device.to_string_lossy();
        let golden = member.plan.golden.iter().flat_map(|golden| &golden.devices);
        for device in golden {
            line = line.replace(device.as_str(), &own);
            // The name may mean the disk including its partitions.
            if let (Some(golden), Some(own)) = (disk_of(device), disk_of(&own)) {
                line = line.replace(golden, own);
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::fs;
    use ka::plan::FileSystemKind;

    fn member() -> MadeFileSystem {
        let mut member = fs(3, "", FileSystemKind::Ext4, None, None);
        let golden = member.plan.golden.as_mut().unwrap();
        (golden.uuid, golden.kind) = (None, Some("LVM2_member".to_owned()));
        member
    }

    #[test]
    fn filters_name_this_nodes_disks() {
        let member = member();
        for (old, new) in [
            (
                "global_filter = [ \"a|^/dev/sda3$|\", \"r|.*|\" ]\n",
                "global_filter = [ \"a|^/dev/vda3$|\", \"r|.*|\" ]\n",
            ),
            (
                "\tfilter = [\"a|/dev/sda|\",\n\t\"a|/dev/disk/by-id/ata-GOLD-part3|\"]\n",
                "\tfilter = [\"a|/dev/vda|\",\n\t\"a|/dev/vda3|\"]\n",
            ),
            ("# filter = [ \"a|/dev/sda3|\" ]\n", "# filter = [ \"a|/dev/sda3|\" ]\n"),
            ("preferred_names = [ \"/dev/sda3\" ]\n", "preferred_names = [ \"/dev/sda3\" ]\n"),
        ] {
            assert_eq!(rewrite(old, &[&member]), new);
        }
    }

    #[test]
    fn what_lvm_knew_of_the_golden_disks_goes() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "IDTYPE=sys_serial IDNAME=GOLD\n").unwrap();
            path
        };
        let paths =
            ["etc/lvm/devices/system.devices", "etc/lvm/backup/vg0", "etc/lvm/archive/vg0_00001.vg"].map(put);
        let profile = put("etc/lvm/profile/default.profile");
        let none: Vec<MadeFileSystem> = Vec::new();
        write(root.path(), &Names::new(&none)).unwrap();
        assert!(paths.iter().all(|path| path.exists()), "a node without volume groups");
        let made = vec![member()];
        write(root.path(), &Names::new(&made)).unwrap();
        assert!(paths.iter().all(|path| !path.exists()) && profile.exists());
    }
}
