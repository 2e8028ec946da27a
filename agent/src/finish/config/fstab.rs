//! `/etc/fstab` with this node's file systems in place of the golden node's.

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::disk::MadeFileSystem;
use crate::finish::config::names::{Named, Names};
use crate::finish::config::options;
use crate::finish::error::Cause;
use crate::finish::replace::replace;

/// Rewrites `/etc/fstab` below `root`, if there is one.
pub(in crate::finish) fn write(root: &Path, names: &Names<'_>) -> Result<(), Cause> {
    let path = root.join("etc/fstab");
    let old = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    let new = rewrite(&old, names);
    if new == old { Ok(()) } else { replace(&path, &new) }
}

/// Adds an entry for the EFI system partition to the system below `root`, if the golden node did not mount
/// it. Without the entry, a later update of the boot loader would write into a directory that the firmware
/// does not read.
pub(in crate::finish) fn add_system_partition(root: &Path, esp: &MadeFileSystem) -> Result<(), Cause> {
    let path = root.join("etc/fstab");
    let Some(point) = esp.plan.mount_point.as_deref() else { return Ok(()) };
    let mut text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    let mounts_it = |line: &[u8]| {
        let fields = fields(line);
        let field = |index: usize| line.get(fields.get(index)?.clone());
        field(1) == Some(point.as_bytes()) && field(0).is_some_and(|device| !device.starts_with(b"#"))
    };
    if text.split(|b| *b == b'\n').any(mounts_it) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(format!("UUID={} {point} vfat umask=0077 0 1\n", esp.uuid).as_bytes());
    log::info!("fstab: the EFI system partition is mounted at {point}");
    replace(&path, &text)
}

/// The swap files in the fstab below `root`, as paths in that system.
pub(in crate::finish) fn swap_files(root: &Path) -> Result<Vec<String>, Cause> {
    let path = root.join("etc/fstab");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Cause::file("read", &path, e)),
    };
    let file = |line: &[u8]| {
        let fields = fields(line);
        let field = |index: usize| line.get(fields.get(index)?.clone());
        let file = unescape(field(0)?);
        let is_file = file.starts_with('/') && !file.starts_with("/dev/") && field(2)? == b"swap";
        is_file.then(|| file.into_owned())
    };
    Ok(text.split(|b| *b == b'\n').filter_map(file).collect())
}

/// Whether the boot waits for the device in a line, and fails if it does not appear.
pub(in crate::finish) fn is_awaited(line: &[u8]) -> bool {
    let fields = fields(line);
    let text =
        |index: usize| fields.get(index).map(|range| unescape(line.get(range.clone()).unwrap_or_default()));
    let options = text(3).unwrap_or_default();
    let is_swap = text(2).is_some_and(|kind| kind == "swap");
    fields.len() > 1 && !is_swap && !options.split(',').any(|option| SPARED.contains(&option))
}

/// Options with which the system boots without the device.
const SPARED: [&str; 5] = ["noauto", "nofail", "_netdev", "bind", "rbind"];

/// Replaces the names in the entries of `text` by the new UUIDs; everything else stays byte for byte.
///
/// An entry for a disk that was not cloned becomes a comment, because systemd waits 90 s for it and then
/// stops the boot. With `noauto` or `nofail` the machine boots without the device, so such an entry stays, as
/// do bind mounts and network file systems.
fn rewrite(text: &[u8], names: &Names<'_>) -> Vec<u8> {
    let mut new = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|b| *b == b'\n') {
        match verdict(line, names) {
            Verdict::Keep => new.extend_from_slice(line),
            Verdict::Rename { from, name, options } => {
                let mut done = 0;
                for (range, text) in [Some((from, name)), options].into_iter().flatten() {
                    new.extend_from_slice(line.get(done..range.start).unwrap_or_default());
                    new.extend_from_slice(text.as_bytes());
                    done = range.end;
                }
                new.extend_from_slice(line.get(done..).unwrap_or_default());
            }
            Verdict::LeaveOut => {
                warning!(
                    "fstab: left out, this node has no such disk: {}",
                    String::from_utf8_lossy(line).trim()
                );
                new.extend_from_slice(b"# ka: no such disk on this node: ");
                new.extend_from_slice(line);
            }
        }
    }
    new
}

enum Verdict {
    Keep,
    /// Replaces the name, and mount options that would be wrong.
    Rename {
        from: Range<usize>,
        name: String,
        options: Option<(Range<usize>, String)>,
    },
    LeaveOut,
}

fn verdict(line: &[u8], names: &Names<'_>) -> Verdict {
    let fields = fields(line);
    let (Some(device), Some(point)) = (fields.first(), fields.get(1)) else {
        return Verdict::Keep;
    };
    let text = |range: &Range<usize>| unescape(line.get(range.clone()).unwrap_or_default());
    if text(device).starts_with('#') {
        return Verdict::Keep;
    }
    let options_for = |fs: Option<&MadeFileSystem>| {
        let fs = fs.or_else(|| names.labelled(&text(device)));
        let range = fields.get(3)?;
        let new = options::rewrite(&text(range), fs, &text(point), names)?;
        Some((range.clone(), escape(&new)))
    };
    let named = match names.resolve(&text(device)) {
        // The golden node used a name that the plan does not have (`/dev/root`, a mapper's name), but the
        // file system mounted there is the cloned one.
        Named::Missing => names.at(&text(point)).map_or(Named::Missing, Named::Made),
        named => named,
    };
    match named {
        Named::Made(fs) => {
            let options = options_for(Some(fs));
            // A partition that was copied byte by byte need not have a UUID.
            let name = match fs.uuid.as_str() {
                "" => format!("PARTUUID={}", fs.partuuid),
                uuid => format!("UUID={uuid}"),
            };
            Verdict::Rename { from: device.clone(), name, options }
        }
        Named::Kept | Named::Other => match options_for(None) {
            // The field of the device is unchanged.
            Some(options) => Verdict::Rename {
                from: device.start..device.start,
                name: String::new(),
                options: Some(options),
            },
            None => Verdict::Keep,
        },
        Named::Missing => {
            let options = fields.get(3).map(text).unwrap_or_default();
            if options.split(',').any(|option| SPARED.contains(&option)) {
                Verdict::Keep
            } else {
                Verdict::LeaveOut
            }
        }
    }
}

/// The ranges of the fields in `line`.
fn fields(line: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, byte) in line.iter().enumerate() {
        match (byte.is_ascii_whitespace(), start) {
            (true, Some(from)) => {
                found.push(from..at);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    found.extend(start.map(|from| from..line.len()));
    found
}

/// Resolves the octal escapes of fstab(5) in a field (`\040` is a space).
fn unescape(field: &[u8]) -> Cow<'_, str> {
    if !field.contains(&b'\\') {
        return String::from_utf8_lossy(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

/// Escapes a field for fstab(5).
fn escape(field: &str) -> String {
    // A backslash that is not followed by a digit stands for itself, as in a unit's name.
    field.replace("\\0", "\\1340").replace(' ', "\\040").replace('\t', "\\011")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{BTRFS, ROOT, SWAP, made, made_btrfs};

    fn rewritten(line: &str) -> String {
        let made = made();
        String::from_utf8(rewrite(line.as_bytes(), &Names::new(&made))).unwrap()
    }

    #[test]
    fn cloned_file_systems_are_named_by_their_new_uuid() {
        for (old, new) in [
            (
                "UUID=00000001-0000-4000-8000-000000000000\t/ ext4  errors=remount-ro 0 1\n",
                "\t/ ext4  errors=remount-ro 0 1\n",
            ),
            ("/dev/sda1 / ext4 defaults 0 1", " / ext4 defaults 0 1"),
            ("PARTUUID=deadbeef-01 / ext4 defaults 0 1", " / ext4 defaults 0 1"),
            ("/dev/disk/by-id/ata-GOLD-part1   /   ext4", "   /   ext4"),
            ("/dev/root / auto defaults 1 1\n", " / auto defaults 1 1\n"),
        ] {
            assert_eq!(rewritten(old), format!("UUID={ROOT}{new}"), "{old}");
        }
        assert_eq!(rewritten("  /dev/sda2 none swap sw 0 0\n"), format!("  UUID={SWAP} none swap sw 0 0\n"));
    }

    #[test]
    fn what_no_disk_of_the_clone_stands_behind_stays() {
        for line in [
            "# UUID=00000001-0000-4000-8000-000000000000 / ext4\n",
            "#/dev/sda1 / ext4\n",
            "\n",
            "   \n",
            "proc /proc proc defaults 0 0",
            "tmpfs /tmp tmpfs size=1g 0 0",
            "server:/home /home nfs defaults 0 0",
            "//server/share /mnt cifs guest 0 0",
            "/swapfile none swap sw 0 0",
            "/srv/x /y none bind 0 0",
            "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0",
            "/dev/fd0 /floppy auto defaults 0 0",
            "/dev/sdb1 /usb vfat user,noauto 0 0",
            "UUID=ABCD-1234 /backup ext4 defaults,nofail 0 2",
            "/dev/nbd0 /net ext4 defaults 0 0",
            "LABEL=system / ext4 defaults 0 1",
            "one-field",
        ] {
            assert_eq!(rewritten(line), line);
        }
    }

    #[test]
    fn disks_that_were_not_cloned_become_comments() {
        for line in [
            "/dev/sdb1 /data ext4 defaults 0 2\n",
            "UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1\n",
            "LABEL=data\\040two /data ext4 defaults 0 2\n",
            "/dev/mapper/vg-home /home ext4 defaults 0 2",
        ] {
            assert_eq!(rewritten(line), format!("# ka: no such disk on this node: {line}"));
        }
    }

    #[test]
    fn subvolumes_are_named_by_their_paths() {
        let made = made_btrfs();
        let names = Names::new(&made);
        for (old, new) in [
            (
                "UUID=00000003-0000-4000-8000-000000000000 / btrfs noatime,subvol=@ 0 0\n",
                " / btrfs noatime,subvol=@ 0 0\n",
            ),
            ("/dev/sda3 /home btrfs subvolid=257,subvol=/@home 0 0\n", " /home btrfs subvol=/@home 0 0\n"),
            (
                "/dev/sda3 /home btrfs compress=zstd,subvolid=257\n",
                " /home btrfs compress=zstd,subvol=/@home\n",
            ),
            ("/dev/sda3 /mnt/top btrfs subvolid=5 0 0\n", " /mnt/top btrfs subvolid=5 0 0\n"),
            ("/dev/sda3 /mnt/x btrfs subvolid=260 0 0\n", " /mnt/x btrfs subvolid=260 0 0\n"),
            // A name that only the mount point identifies.
            ("/dev/root /home btrfs subvol=@home 0 0\n", " /home btrfs subvol=@home 0 0\n"),
        ] {
            let found = String::from_utf8(rewrite(old.as_bytes(), &names)).unwrap();
            assert_eq!(found, format!("UUID={BTRFS}{new}"), "{old}");
        }
    }

    #[test]
    fn mappings_that_are_made_at_boot_stay() {
        let made = made();
        let names = Names::new(&made).with_mappings(vec!["swap0".to_owned()]);
        for (line, stays) in
            [("/dev/mapper/swap0 none swap sw 0 0\n", true), ("/dev/mapper/swap1 none swap sw 0 0\n", false)]
        {
            assert_eq!(rewrite(line.as_bytes(), &names) == line.as_bytes(), stays, "{line}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_survive() {
        let made = made();
        let names = Names::new(&made);
        let line = b"tmpfs /caf\xe9 tmpfs\n/dev/sda1 /caf\xe9 ext4\n";
        let expected =
            [b"tmpfs /caf\xe9 tmpfs\nUUID=".as_slice(), ROOT.as_bytes(), b" /caf\xe9 ext4\n"].concat();
        assert_eq!(rewrite(line, &names), expected);
    }

    #[test]
    fn escapes_are_read_as_fstab_says() {
        for (field, plain) in
            [("a\\040b", "a b"), ("a\\134b", "a\\b"), ("a\\", "a\\"), ("\\0", "\\0"), ("x\\999", "x\\999")]
        {
            assert_eq!(unescape(field.as_bytes()), plain);
        }
    }

    #[test]
    fn a_new_system_partition_has_its_entry_once() {
        use crate::disk::MadeOn;
        use ka::plan::{FileSystemKind, FileSystemPlan};
        let root = tempfile::tempdir().unwrap();
        let esp = MadeFileSystem {
            plan: FileSystemPlan {
                mount_point: Some("/boot/efi".to_owned()),
                ..FileSystemPlan::new(FileSystemKind::Vfat)
            },
            device: "/dev/sda4".into(),
            on: MadeOn::Partition(4),
            uuid: "ABCD-1234".to_owned(),
            partuuid: "x-04".to_owned(),
        };
        add_system_partition(root.path(), &esp).unwrap();
        let fstab = root.path().join("etc/fstab");
        assert!(!fstab.exists(), "a system without one is left without");
        fs::create_dir(root.path().join("etc")).unwrap();
        let own = "UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1\n";
        for (old, new) in [
            ("UUID=1 / ext4", format!("UUID=1 / ext4\n{own}")),
            ("# UUID=2 /boot/efi vfat\n", format!("# UUID=2 /boot/efi vfat\n{own}")),
            ("UUID=2 /boot/efi vfat\n", "UUID=2 /boot/efi vfat\n".to_owned()),
        ] {
            fs::write(&fstab, old).unwrap();
            add_system_partition(root.path(), &esp).unwrap();
            add_system_partition(root.path(), &esp).unwrap();
            assert_eq!(fs::read_to_string(&fstab).unwrap(), new);
        }
    }
}
