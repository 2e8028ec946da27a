//! `root=` on kernel command lines: whether a boot loader entry starts this node's system.

use std::path::Path;

use super::words::{OUTER, pieces};
use crate::disk::MadeFileSystem;
use crate::finish::config::names::Names;

/// The parameters for the root; Gentoo's initrd has its own.
const KEYS: [&str; 2] = ["root=", "real_root="];

/// The roots in the command lines in `text`.
pub(in crate::finish) fn roots(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(pieces).map(|word| {
        let inner = OUTER.iter().find_map(|outer| word.strip_prefix(outer));
        inner.unwrap_or(word)
    });
    let values = words.filter_map(|word| KEYS.iter().find_map(|key| word.strip_prefix(key)));
    values.filter(|value| !value.is_empty())
}

/// Whether `root`, the value of a `root=`, refers to `fs` by a name that is independent of the order in which
/// the kernel finds the disks: UUID, PARTUUID or label.
pub(in crate::finish) fn is_named(root: &str, fs: &MadeFileSystem) -> bool {
    let value = |tag: &str, links: &str| root.strip_prefix(tag).or_else(|| root.strip_prefix(links));
    let uuid = value("UUID=", "/dev/disk/by-uuid/");
    let partuuid = value("PARTUUID=", "/dev/disk/by-partuuid/");
    let label = value("LABEL=", "/dev/disk/by-label/");
    if fs.on.keeps(root) {
        return true;
    }
    let is = |value: &str, name: &str| !name.is_empty() && value.eq_ignore_ascii_case(name);
    uuid.is_some_and(|uuid| is(uuid, &fs.uuid))
        || partuuid.is_some_and(|partuuid| is(partuuid, &fs.partuuid))
        || label.is_some_and(|label| fs.plan.label.as_deref() == Some(label))
}

/// Whether `root`, the value of a `root=`, refers to `fs` by any name that the kernel accepts.
pub(in crate::finish) fn is_here(root: &str, fs: &MadeFileSystem) -> bool {
    is_named(root, fs) || Path::new(root) == fs.device
}

/// Whether `root`, the value of a `root=`, is this system's. If that was copied byte by byte, it is unknown
/// which file system it is, and all of this node's count.
pub(in crate::finish) fn is_systems(root: &str, names: &Names<'_>) -> bool {
    match names.at("/") {
        Some(fs) => is_here(root, fs),
        None => names.made().iter().any(|fs| is_here(root, fs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, made, made_on_lvm};

    #[test]
    fn the_root_is_known_by_its_names() {
        let root = &made()[0];
        for (text, named) in [
            (format!("linux /vmlinuz root=UUID={} ro", ROOT.to_uppercase()), true),
            (format!("kernelopts=root=UUID={ROOT} ro\n####"), true),
            (format!("set kernelopts=\"root=UUID={ROOT} ro\""), true),
            ("options quiet root=PARTUUID=CAFE0000-01".to_owned(), true),
            ("root=LABEL=system".to_owned(), true),
            ("root=/dev/ram0 real_root=/dev/disk/by-label/system".to_owned(), true),
            ("root=LABEL=systems".to_owned(), false),
            ("root=LABEL=SYSTEM".to_owned(), false),
            ("root=PARTUUID=cafe0000-02".to_owned(), false),
            ("root=/dev/vda1".to_owned(), false),
            (format!("# root=UUID={ROOT}"), false),
            (format!("set root='hd0,gpt1'\nsearch --set=root {ROOT}"), false),
        ] {
            assert_eq!(roots(&text).any(|value| is_named(value, root)), named, "{text}");
        }
        assert!(is_here("/dev/vda1", root) && !is_here("/dev/sda1", root));
        let mut nameless = root.clone();
        (nameless.uuid, nameless.plan.label) = (String::new(), None);
        assert!(!is_named("UUID=", &nameless) && !is_named("LABEL=", &nameless));

        let on_lvm = made_on_lvm();
        for name in ["/dev/mapper/my--vg-root", "/dev/my-vg/root"] {
            assert!(is_named(name, &on_lvm[0]), "{name}");
        }
        assert!(!is_named("/dev/dm-0", &on_lvm[0]));

        let mut made = made();
        assert!(is_systems("LABEL=system", &Names::new(&made)));
        assert!(!is_systems("PARTUUID=cafe0000-02", &Names::new(&made)));
        made[0].plan.mount_point = None;
        assert!(is_systems("LABEL=system", &Names::new(&made)));
        assert!(!is_systems("LABEL=data", &Names::new(&made)));
    }
}
