//! Mount options that were right for the golden file system and are wrong for this node's: in fstab, in
//! units, and in `rootflags=` on kernel command lines.

use crate::disk::MadeFileSystem;
use crate::finish::config::names::{Named, Names};

/// Options that name a second device of a file system. The new file systems use one device each.
const DEVICES: [&str; 6] = ["logdev", "rtdev", "journal_path", "journal_dev", "jdev", "device"];

/// Options that repeat the geometry of the golden node's array. The new file system has its own in its
/// superblock, and XFS refuses a different one at mount.
const GEOMETRY: [&str; 2] = ["sunit", "swidth"];

/// Options that name units, or paths for which systemd has units.
const UNITS: [&str; 5] = [
    "x-systemd.requires",
    "x-systemd.after",
    "x-systemd.before",
    "x-systemd.wanted-by",
    "x-systemd.required-by",
];

/// The `options` for this node, where `fs` is mounted at `point`; `None` if they need no change.
pub(in crate::finish) fn rewrite(
    options: &str,
    fs: Option<&MadeFileSystem>,
    point: &str,
    names: &Names<'_>,
) -> Option<String> {
    let by_path = options.split(',').any(|option| option.starts_with("subvol="));
    let mut new = Vec::new();
    for option in options.split(',') {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let fresh = fs.filter(|fs| !is_raw(fs));
        let kept = match (key, fs) {
            ("subvolid", Some(fs)) if !is_raw(fs) && !matches!(value, "0" | "5") => {
                if by_path {
                    None
                } else {
                    Some(by_its_path(value, fs, point).unwrap_or(option.to_owned()))
                }
            }
            (key, _) if GEOMETRY.contains(&key) && fresh.is_some_and(is_xfs) => None,
            (key, Some(fs)) if DEVICES.contains(&key) && value.starts_with(['/', 'U', 'L', 'P']) => {
                device(key, value, fs, names)
            }
            (key, _) if UNITS.contains(&key) => unit(value, names).map(|unit| format!("{key}={unit}")),
            _ => Some(names.rename_uuids(option)),
        };
        match kept {
            Some(kept) => new.push(kept),
            None => log::info!("mount options of {point}: without {option}, which is the golden node's"),
        }
    }
    // The field in fstab must not be empty.
    let new = if new.is_empty() { "defaults".to_owned() } else { new.join(",") };
    (new != options).then_some(new)
}

/// Copied byte by byte with its superblock: it has kept its UUID, and nothing is unpacked into it.
fn is_raw(fs: &MadeFileSystem) -> bool {
    let golden = fs.plan.golden.as_ref().and_then(|golden| golden.uuid.as_deref());
    fs.mount_points().next().is_none() && golden == Some(&fs.uuid)
}

fn is_xfs(fs: &MadeFileSystem) -> bool {
    fs.plan.kind == ka::plan::FileSystemKind::Xfs
}

/// Subvolume IDs depend on the order of creation; paths stay.
fn by_its_path(id: &str, fs: &MadeFileSystem, point: &str) -> Option<String> {
    let number = id.parse().ok();
    let subvolumes = &fs.plan.subvolumes;
    let mounted = subvolumes.iter().find(|s| s.mount_point.as_deref() == Some(point));
    let numbered = subvolumes.iter().find(|s| s.golden_id.is_some() && s.golden_id == number);
    let found = numbered.or(mounted);
    if found.is_none() {
        warning!("mount options of {point}: subvolid={id} may be another subvolume on this node, or none");
    }
    Some(format!("subvol=/{}", found?.path))
}

fn device(key: &str, value: &str, fs: &MadeFileSystem, names: &Names<'_>) -> Option<String> {
    match names.resolve(value) {
        Named::Made(other) if is_raw(fs) => Some(format!("{key}={}", names.new_path(value, other))),
        Named::Made(_) | Named::Missing => None,
        Named::Kept if !is_raw(fs) => None,
        Named::Kept | Named::Other => Some(format!("{key}={value}")),
    }
}

/// `None` for a device that this node does not have.
fn unit(value: &str, names: &Names<'_>) -> Option<String> {
    if !value.starts_with("/dev/") {
        return match names.unit(value) {
            Named::Missing => None,
            _ => Some(names.rename_unit(value).unwrap_or_else(|| value.to_owned())),
        };
    }
    match names.resolve(value) {
        Named::Made(fs) => Some(names.new_path(value, fs)),
        Named::Missing => None,
        Named::Kept | Named::Other => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, fs, made, made_btrfs};
    use ka::plan::FileSystemKind;

    #[test]
    fn a_new_xfs_has_its_own_geometry_and_no_second_device() {
        let xfs = fs(4, "44444444-aaaa-4aaa-8aaa-444444444444", FileSystemKind::Xfs, Some("/data"), None);
        let mut all = made();
        all.push(xfs.clone());
        let names = Names::new(&all);
        for (old, new) in [
            ("noatime,sunit=128,swidth=512,largeio", Some("noatime,largeio")),
            ("sunit=128", Some("defaults")),
            ("logdev=/dev/nvme0n1p9,nofail", Some("nofail")),
            ("rtdev=/dev/sda2,x", Some("x")),
            ("logbsize=256k", None),
            ("defaults", None),
        ] {
            assert_eq!(rewrite(old, Some(&xfs), "/data", &names).as_deref(), new, "{old}");
        }
        // On ext4 this option is not a geometry.
        assert_eq!(rewrite("sunit=1", Some(&all[0]), "/", &names), None);
        assert_eq!(
            rewrite("journal_path=/dev/sdb3,noatime", Some(&all[0]), "/", &names).as_deref(),
            Some("noatime")
        );

        // Its superblock says that the log is on another device.
        let mut raw = fs(5, "x", FileSystemKind::Ext4, None, None);
        raw.uuid = raw.plan.golden.as_ref().unwrap().uuid.clone().unwrap();
        let log = fs(6, "", FileSystemKind::Ext4, None, None);
        let all = [raw.clone(), log];
        assert_eq!(
            rewrite("logdev=/dev/sda6,sunit=8", Some(&raw), "/data", &Names::new(&all)).as_deref(),
            Some("logdev=/dev/disk/by-partuuid/cafe0000-06,sunit=8")
        );
    }

    #[test]
    fn units_follow_in_options() {
        let made = made();
        let names = Names::new(&made);
        let golden = r"dev-disk-by\x2duuid-00000002\x2d0000\x2d4000\x2d8000\x2d000000000000.device";
        let own = format!(r"dev-disk-by\x2duuid-{}.device", SWAP.replace('-', r"\x2d"));
        for (old, new) in [
            (format!("x-systemd.requires={golden},ro"), Some(format!("x-systemd.requires={own},ro"))),
            (
                "x-systemd.requires=/dev/sda1".to_owned(),
                Some(format!("x-systemd.requires=/dev/disk/by-uuid/{ROOT}")),
            ),
            ("x-systemd.requires=/dev/sdz1,ro".to_owned(), Some("ro".to_owned())),
            ("x-systemd.after=dev-sdz1.device,ro".to_owned(), Some("ro".to_owned())),
            ("x-systemd.requires=network-online.target".to_owned(), None),
            ("x-systemd.requires=/srv".to_owned(), None),
        ] {
            assert_eq!(rewrite(&old, None, "/x", &names), new, "{old}");
        }
    }

    #[test]
    fn subvolumes_are_found_by_the_golden_number() {
        let made = made_btrfs();
        let names = Names::new(&made);
        for (old, new) in [
            ("subvolid=257", Some("subvol=/@home")),
            ("subvolid=257,subvol=/@home,ssd", Some("subvol=/@home,ssd")),
            ("subvolid=5", None),
            ("subvolid=999", None),
        ] {
            assert_eq!(rewrite(old, made.first(), "/mnt/x", &names).as_deref(), new, "{old}");
        }
    }
}
