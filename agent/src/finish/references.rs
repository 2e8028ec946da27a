//! The other files that name file systems: resume devices and kernel command lines.
//!
//! fstab is not the only place. An initrd that looks for the golden node's swap space waits for it at
//! every boot, and a `root=` in the boot loader's defaults would send the clone to a disk that it lacks.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::Cause;
use super::names::{Named, Names};
use super::replace::replace;

/// Files to look at, and directories of which to look at every file.
const PLACES: [&str; 10] = [
    "boot/grub/custom.cfg",
    "boot/grub2/custom.cfg",
    "boot/loader/entries",
    "etc/default/grub",
    "etc/default/grub.d",
    "etc/grub.d/40_custom",
    "etc/grub.d/41_custom",
    "etc/initramfs-tools/conf.d",
    "etc/initramfs-tools/initramfs.conf",
    "etc/kernel/cmdline",
];

/// Rewrites, in all of [`PLACES`] below `root` that are there, what names a golden file system.
pub(super) fn write(root: &Path, names: &Names<'_>) -> Result<(), Cause> {
    for path in files(root)? {
        let bytes = fs::read(&path).map_err(|e| Cause::file("read", &path, e))?;
        let Ok(old) = String::from_utf8(bytes) else {
            log::warn!("{}: not UTF-8, left as it is", path.display());
            continue;
        };
        let new = rewrite(&old, names);
        if new != old {
            log::info!("{}: names this node's file systems now", path.display());
            replace(&path, new.as_bytes())?;
        }
    }
    Ok(())
}

fn files(root: &Path) -> Result<Vec<PathBuf>, Cause> {
    let mut files = Vec::new();
    for place in PLACES.map(|place| root.join(place)) {
        if place.is_file() {
            files.push(place);
        } else if place.is_dir() {
            let entries = fs::read_dir(&place).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let entries = entries.map_err(|e| Cause::file("list", &place, e))?;
            files.extend(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()));
        }
    }
    Ok(files)
}

/// `text` with `root=`, `resume=` and `RESUME=` and all UUIDs for this node. Where the system would
/// resume from a disk that was not cloned, it is told not to: it would wait for it at each boot.
fn rewrite(text: &str, names: &Names<'_>) -> String {
    let mut new = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('#') {
            new.push_str(line);
        } else {
            new.push_str(&names.rename_uuids(&rewrite_words(line, names)));
        }
    }
    new
}

/// Words end where a shell or a kernel command line ends them.
fn rewrite_words(line: &str, names: &Names<'_>) -> String {
    let ends = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let mut new = String::with_capacity(line.len());
    let mut rest = line;
    // `RESUME="…"`: the quote ends the word, and so the value is a word of its own.
    let mut key = "";
    while let Some(c) = rest.chars().next() {
        let length = if ends(c) { c.len_utf8() } else { rest.find(ends).unwrap_or(rest.len()) };
        let (word, tail) = rest.split_at(length);
        rest = tail;
        if ends(c) {
            key = if c.is_whitespace() { "" } else { key };
            new.push_str(word);
        } else if word == "RESUME=" {
            key = "RESUME";
            new.push_str(word);
        } else {
            new.push_str(&rewrite_word(key, word, names));
            key = "";
        }
    }
    new
}

fn rewrite_word(key: &str, word: &str, names: &Names<'_>) -> String {
    let (shown, key, value) = match word.split_once('=') {
        Some((own, value)) if key.is_empty() => (true, own, value),
        _ => (false, key, word),
    };
    let with = |value: &str| if shown { format!("{key}={value}") } else { value.to_owned() };
    match (key, names.resolve(value)) {
        // A UUID is renamed with all others, and a PARTUUID stays one: a kernel without initrd knows
        // no other name.
        ("root" | "resume" | "RESUME", Named::Made(fs)) if value.starts_with('/') => {
            with(&format!("UUID={}", fs.uuid))
        }
        ("RESUME", Named::Missing) => with("none"),
        ("resume", Named::Missing) => "noresume".to_owned(),
        ("root", Named::Missing) => {
            log::warn!("root={value} names a disk that this node does not have");
            word.to_owned()
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::tests::{ROOT, SWAP, made};
    use super::*;

    #[test]
    fn command_lines_and_resume_devices_name_this_node() {
        let made = made();
        let names = Names::new(&made);
        for (old, new) in [
            ("RESUME=UUID=00000002-0000-4000-8000-000000000000\n", format!("RESUME=UUID={SWAP}\n")),
            ("RESUME=/dev/sda2", format!("RESUME=UUID={SWAP}")),
            ("RESUME=\"/dev/sda2\"\n", format!("RESUME=\"UUID={SWAP}\"\n")),
            ("RESUME=auto\n", "RESUME=auto\n".to_owned()),
            ("RESUME=none\n", "RESUME=none\n".to_owned()),
            ("RESUME=/dev/mapper/vg-swap\n", "RESUME=none\n".to_owned()),
            ("RESUME='/dev/sdb2'\n", "RESUME='none'\n".to_owned()),
            (
                "GRUB_CMDLINE_LINUX=\"root=/dev/sda1 resume=/dev/sda2 quiet\"\n",
                format!("GRUB_CMDLINE_LINUX=\"root=UUID={ROOT} resume=UUID={SWAP} quiet\"\n"),
            ),
            (
                "GRUB_CMDLINE_LINUX='resume=UUID=99999999-0000-4000-8000-000000000000'",
                "GRUB_CMDLINE_LINUX='noresume'".to_owned(),
            ),
            ("root=PARTUUID=deadbeef-01 ro", "root=PARTUUID=cafe0000-01 ro".to_owned()),
            (
                "search --fs-uuid --set=root 00000001-0000-4000-8000-000000000000",
                format!("search --fs-uuid --set=root {ROOT}"),
            ),
            ("# resume=/dev/sda2\n", "# resume=/dev/sda2\n".to_owned()),
            ("GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n", "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n".to_owned()),
            ("MODULES=most\nKEYMAP=n\n", "MODULES=most\nKEYMAP=n\n".to_owned()),
            ("set root='hd0,msdos1'\n", "set root='hd0,msdos1'\n".to_owned()),
        ] {
            assert_eq!(rewrite(old, &names), new, "{old}");
        }
    }

    #[test]
    fn only_files_that_change_are_written() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("etc/initramfs-tools/conf.d");
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(root.path().join("etc/default")).unwrap();
        fs::write(conf.join("resume"), "RESUME=/dev/sda2\n").unwrap();
        let untouched = root.path().join("etc/default/grub");
        fs::write(&untouched, "GRUB_TIMEOUT=5\n").unwrap();
        let before = fs::metadata(&untouched).unwrap().modified().unwrap();

        let made = made();
        write(root.path(), &Names::new(&made)).unwrap();

        assert_eq!(fs::read_to_string(conf.join("resume")).unwrap(), format!("RESUME=UUID={SWAP}\n"));
        assert_eq!(fs::metadata(&untouched).unwrap().modified().unwrap(), before);
    }
}
