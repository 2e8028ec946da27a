//! Words on kernel command lines that make the initrd wait for volumes: LVM, arrays, LUKS.
//!
//! Volumes are not cloned, except those on a partition that is copied byte by byte. An initrd that is given
//! any other waits for it, and ends in its emergency shell.

use crate::finish::config::names::{Named, Names};

/// A kind of volume by blkid's name for its member devices, and the words that name such a volume.
const WORDS: [(&str, &[&str]); 3] = [
    ("LVM2_member", &["rd.lvm.lv", "rd.lvm.vg", "rd_LVM_LV", "rd_LVM_VG"]),
    ("linux_raid_member", &["rd.md.uuid", "rd_MD_UUID", "md_uuid"]),
    (
        "crypto_LUKS",
        &[
            "rd.luks.uuid",
            "rd.luks.name",
            "rd.luks.options",
            "rd.luks.data",
            "rd.luks.crypttab",
            "rd.luks.partuuid",
            "rd_LUKS_UUID",
            "luks.uuid",
            "luks.name",
            "luks.options",
            "luks.data",
        ],
    ),
];

/// Words whose value starts with a device: mkinitcpio's and Debian's.
const DEVICES: [&str; 3] = ["cryptdevice", "cryptkey", "mount.usr"];

/// systemd's words that mount something: `WHAT:WHERE:TYPE:OPTIONS`.
const MOUNTS: [&str; 4] =
    ["systemd.mount-extra", "rd.systemd.mount-extra", "systemd.swap-extra", "rd.systemd.swap-extra"];

/// The treatment of a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not such a word.
    Unknown,
    /// Its value is replaced.
    Value(String),
    /// It is removed: this node has no such volume.
    Gone,
}

/// The treatment of `key=value`.
pub(super) fn fate(key: &str, value: &str, names: &Names<'_>) -> Fate {
    let here = match WORDS.iter().find(|(_, keys)| keys.contains(&key)) {
        // `UUID=name`, `luks-UUID`; several options may appear without a UUID.
        Some(("crypto_LUKS", _)) => {
            let uuid = value.split('=').next().unwrap_or_default();
            let uuid = uuid.strip_prefix("luks-").unwrap_or(uuid);
            if !looks_like_uuid(uuid) {
                return Fate::Unknown;
            }
            names.has_raw("crypto_LUKS", Some(uuid))
        }
        Some((kind @ "linux_raid_member", _)) => names.has_raw(kind, Some(value)),
        // The contents of a volume group are unknown; it is only known whether this node can have one.
        Some((kind, _)) => names.has_raw(kind, None),
        None if DEVICES.contains(&key) || MOUNTS.contains(&key) => return device(key, value, names),
        None => return Fate::Unknown,
    };
    if here { Fate::Unknown } else { Fate::Gone }
}

fn looks_like_uuid(text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn device(key: &str, value: &str, names: &Names<'_>) -> Fate {
    let (what, rest) = match value.split_once(':') {
        Some((what, rest)) if key != "mount.usr" => (what, format!(":{rest}")),
        _ => (value, String::new()),
    };
    match names.resolve(what) {
        // A UUID stays a UUID, and is replaced together with all others.
        Named::Made(fs) if what.starts_with(['/', 'I']) || what.starts_with("PARTLABEL") => {
            Fate::Value(format!("{}{rest}", names.new_path(what, fs)))
        }
        Named::Missing if key == "mount.usr" && names.at("/usr").is_some() => {
            let uuid = names.at("/usr").map(|fs| fs.uuid.clone()).unwrap_or_default();
            Fate::Value(format!("UUID={uuid}"))
        }
        Named::Missing if rest.contains("nofail") || rest.contains("noauto") => Fate::Unknown,
        Named::Missing => Fate::Gone,
        Named::Made(_) | Named::Kept | Named::Other => Fate::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::rewrite;
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, fs, made};
    use ka::plan::FileSystemKind;

    #[test]
    fn volumes_that_are_not_here_are_not_waited_for() {
        let made = made();
        let names = Names::new(&made);
        let luks = "12345678-0000-4000-8000-00000000abcd";
        for (old, new) in [
            (
                "GRUB_CMDLINE_LINUX=\"rd.lvm.lv=old/swap rhgb rd.md.uuid=1:2:3:4 quiet\"\n".to_owned(),
                "GRUB_CMDLINE_LINUX=\" rhgb quiet\"\n".to_owned(),
            ),
            (format!("ro rd.luks.uuid=luks-{luks} rd.luks.name={luks}=root q"), "ro q".to_owned()),
            (
                "ro rd.lvm=0 rd.md=0 rd.luks=0 rd.auto".to_owned(),
                "ro rd.lvm=0 rd.md=0 rd.luks=0 rd.auto".to_owned(),
            ),
            ("cryptdevice=/dev/sdz2:root ro".to_owned(), " ro".to_owned()),
            (
                "ro cryptdevice=/dev/sda2:x:y".to_owned(),
                format!("ro cryptdevice=/dev/disk/by-uuid/{SWAP}:x:y"),
            ),
            ("ro mount.usr=/dev/sda1".to_owned(), format!("ro mount.usr=/dev/disk/by-uuid/{ROOT}")),
            ("ro mount.usr=UUID=99999999-0000-4000-8000-000000000000 x".to_owned(), "ro x".to_owned()),
            (
                "systemd.mount-extra=PARTUUID=deadbeef-01:/srv:ext4 ro".to_owned(),
                "systemd.mount-extra=PARTUUID=cafe0000-01:/srv:ext4 ro".to_owned(),
            ),
            ("ro systemd.swap-extra=/dev/sdz1".to_owned(), "ro".to_owned()),
            (
                "ro systemd.mount-extra=/dev/sdz1:/srv:ext4:nofail".to_owned(),
                "ro systemd.mount-extra=/dev/sdz1:/srv:ext4:nofail".to_owned(),
            ),
            ("kernelopts=rd.lvm.lv=old/root ro".to_owned(), "kernelopts= ro".to_owned()),
        ] {
            assert_eq!(rewrite(&old, &names), new, "{old}");
        }
    }

    #[test]
    fn volumes_on_raw_copies_stay() {
        let with = |kind: &str, uuid: &str| {
            let mut raw = fs(3, uuid, FileSystemKind::Ext4, None, None);
            let golden = raw.plan.golden.as_mut().unwrap();
            (golden.uuid, golden.kind) = (Some(uuid.to_owned()), Some(kind.to_owned()));
            vec![raw]
        };
        let luks = "12345678-0000-4000-8000-00000000abcd";
        for (kind, uuid, line) in [
            ("LVM2_member", "x", "rd.lvm.lv=vg/root ro"),
            ("crypto_LUKS", luks, "rd.luks.uuid=luks-12345678-0000-4000-8000-00000000abcd ro"),
            ("crypto_LUKS", luks, "rd.luks.uuid=12345678 ro"),
            (
                "linux_raid_member",
                "0a0b0c0d-1111-2222-3333-444455556666",
                "rd.md.uuid=0a0b0c0d:11112222:33334444:55556666 ro",
            ),
        ] {
            let made = with(kind, uuid);
            assert_eq!(rewrite(line, &Names::new(&made)), line);
            let made = with("ext4", uuid);
            assert_eq!(rewrite(line, &Names::new(&made)), " ro", "{line}");
        }
    }
}
