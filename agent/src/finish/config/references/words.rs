//! Words of kernel command lines, in any file.

use ka::plan::FileSystemKind;

use super::volumes::{self, Fate};
use crate::finish::config::names::{Named, Names};
use crate::finish::config::options;

/// Assignments in other files whose value contains a word of a command line: `# kopt=root=/dev/sda1`.
pub(super) const OUTER: [&str; 3] = ["kopt=", "defoptions=", "kernelopts="];

/// The parameter that sets a machine's ID, whatever is in `/etc/machine-id` (kernel-command-line(7)).
const MACHINE_ID: &str = "systemd.machine_id";

/// `text` with `root=`, `resume=` and `RESUME=` and all UUIDs for this node. Resuming from a disk that was
/// not cloned is turned off, since the system would wait for that disk at each boot.
pub(super) fn rewrite(text: &str, names: &Names<'_>) -> String {
    each_line(text, |line| {
        if line.trim_start().starts_with('#') { None } else { Some(on_command_line(line, names)) }
    })
}

/// Like [`rewrite`], including comments: in GRUB legacy's menu they contain Debian's options (`#
/// kopt=root=…`).
pub(super) fn rewrite_all(text: &str, names: &Names<'_>) -> String {
    each_line(text, |line| Some(on_command_line(line, names)))
}

/// Like [`rewrite`], including device nodes wherever they are a word or a value.
pub(super) fn rewrite_devices(text: &str, names: &Names<'_>) -> String {
    let node = |word: &str| match names.resolve(word) {
        Named::Made(fs) if word.starts_with("/dev/") => Some(names.new_path(word, fs)),
        _ => None,
    };
    let device = |word: &str| {
        let (key, value) = word.split_once('=').map_or(("", word), |(key, value)| (key, value));
        let new = node(value)?;
        Some(if key.is_empty() && !word.starts_with('=') { new } else { format!("{key}={new}") })
    };
    let rewritten = rewrite(text, names);
    each_line(&rewritten, |line| {
        if line.trim_start().starts_with('#') {
            return None;
        }
        let words = pieces(line).map(|piece| device(piece).unwrap_or_else(|| piece.to_owned()));
        Some(words.collect())
    })
}

/// GRUB's environment block: lines in exactly 1024 bytes, padded with `#`.
pub(super) fn rewrite_grubenv(text: &str, names: &Names<'_>) -> String {
    let lines = text.trim_end_matches('#');
    let mut new =
        each_line(lines, |line| Some(on_command_line(line, names)).filter(|_| !line.starts_with('#')));
    if new == lines || new.len() > text.len() {
        if new != lines {
            warning!("GRUB's environment block has no room for this node's names, and stays as it is");
        }
        return text.to_owned();
    }
    new.push_str(&"#".repeat(text.len() - new.len()));
    new
}

fn each_line(text: &str, mut change: impl FnMut(&str) -> Option<String>) -> String {
    text.split_inclusive('\n').map(|line| change(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// One line that contains words of a kernel command line, for this node.
pub(in crate::finish) fn on_command_line(line: &str, names: &Names<'_>) -> String {
    names.rename_uuids(&rewrite_words(line, names))
}

/// Words end where a shell or the kernel's command line parser ends them.
fn ends(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// The words of a line, and each character between them.
pub(super) fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = if ends(first) { first.len_utf8() } else { rest.find(ends).unwrap_or(rest.len()) };
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        Some(piece)
    })
}

fn rewrite_words(line: &str, names: &Names<'_>) -> String {
    let mut new = String::with_capacity(line.len());
    // `RESUME="…"`: the quote ends the word, so the value is a word of its own.
    let mut key = "";
    for piece in pieces(line) {
        if piece.starts_with(ends) {
            key = if piece.starts_with(char::is_whitespace) { "" } else { key };
            new.push_str(piece);
        } else if piece == "RESUME=" {
            key = "RESUME";
            new.push_str(piece);
        } else {
            let word = rewrite_word(key, piece, names);
            if word.is_empty() && new.ends_with(' ') {
                new.pop();
            }
            new.push_str(&word);
            key = "";
        }
    }
    new
}

fn rewrite_word(key: &str, word: &str, names: &Names<'_>) -> String {
    for outer in OUTER {
        if key.is_empty()
            && let Some(inner) = word.strip_prefix(outer)
        {
            return format!("{outer}{}", rewrite_word("", inner, names));
        }
    }
    let (shown, key, value) = match word.split_once('=') {
        Some((own, value)) if key.is_empty() => (true, own, value),
        _ => (false, key, word),
    };
    let with = |value: &str| if shown { format!("{key}={value}") } else { value.to_owned() };
    match volumes::fate(key, value, names) {
        Fate::Unknown => {}
        Fate::Value(value) => return with(&value),
        Fate::Gone => {
            log::info!("without {word}, which this node does not have");
            return String::new();
        }
    }
    if matches!(key, "rootflags" | "real_rootflags") {
        return with(&options::rewrite(value, names.at("/"), "/", names).unwrap_or_else(|| value.to_owned()));
    }
    match (key, names.resolve(value)) {
        (MACHINE_ID, _) if is_id(value) => String::new(),
        // A swap file is elsewhere on the clone's disk, so resuming from the old position is impossible.
        ("RESUME", Named::Made(fs)) if fs.plan.kind != FileSystemKind::Swap => with("none"),
        ("resume", Named::Made(fs)) if fs.plan.kind != FileSystemKind::Swap => "noresume".to_owned(),
        // A UUID is replaced together with all others, and a PARTUUID stays one: a kernel without initrd
        // knows no other name.
        ("root" | "real_root" | "resume" | "RESUME", Named::Made(fs)) if value.starts_with(['/', 'I']) => {
            with(&format!("UUID={}", fs.uuid))
        }
        ("root" | "real_root" | "resume" | "RESUME", Named::Made(fs)) if value.starts_with("PARTLABEL") => {
            with(&format!("PARTUUID={}", fs.partuuid))
        }
        ("RESUME", Named::Missing) => with("none"),
        ("resume", Named::Missing) => "noresume".to_owned(),
        ("root", Named::Missing) => {
            warning!("root={value} names a disk that this node does not have");
            word.to_owned()
        }
        _ => word.to_owned(),
    }
}

/// The machine ID, if `text` has a command line that sets it.
pub(in crate::finish) fn machine_id(text: &str) -> Option<&str> {
    let values = text.split(MACHINE_ID).skip(1).filter_map(|after| after.strip_prefix('='));
    let words = values.map(|value| value.split(|c: char| !c.is_ascii_hexdigit() && c != '-').next());
    words.flatten().find(|value| is_id(value))
}

/// With or without the dashes of a UUID. `firmware` does not count: it gives each machine its own.
fn is_id(value: &str) -> bool {
    value.bytes().filter(u8::is_ascii_hexdigit).count() == 32
        && value.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finish::config::names::tests::{ROOT, SWAP, made, made_btrfs};

    #[test]
    fn nothing_fixes_the_machines_id() {
        let made = made();
        let names = Names::new(&made);
        let id = "0123456789abcdef0123456789abcdef";
        let golden = format!("systemd.machine_id={id}");
        for (old, new) in [
            (format!("root=LABEL=a {golden} quiet\n"), "root=LABEL=a quiet\n"),
            (format!("{golden} quiet"), " quiet"),
            (format!("X=\"ro {golden}\""), "X=\"ro\""),
            (format!("kernelopts={golden} ro"), "kernelopts= ro"),
            ("ro systemd.machine_id=01234567-89ab-cdef-0123-456789ABCDEF".to_owned(), "ro"),
        ] {
            assert!(machine_id(&old).is_some(), "{old}");
            assert_eq!(rewrite(&old, &names), new, "{old}");
            assert_eq!(machine_id(new), None);
        }
        assert_eq!(machine_id(&format!("MZ\0ro {golden}\0\0a")), Some(id));
        for kept in ["ro systemd.machine_id=firmware", "systemd.machine_id= ro", "systemd.machine_id"] {
            assert_eq!(rewrite(kept, &names), kept);
            assert_eq!(machine_id(kept), None);
        }
    }

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
    fn the_roots_subvolume_is_named_by_its_path() {
        let made = made_btrfs();
        let names = Names::new(&made);
        for (old, new) in [
            ("ro rootflags=subvolid=256 quiet", "ro rootflags=subvol=/@ quiet"),
            (
                "kernelopts=rootflags=compress=zstd,subvolid=257 ro",
                "kernelopts=rootflags=compress=zstd,subvol=/@home ro",
            ),
            ("rootflags=subvol=@ ro", "rootflags=subvol=@ ro"),
            ("X=\"rootflags=subvol=${rootsubvol} ${X}\"", "X=\"rootflags=subvol=${rootsubvol} ${X}\""),
        ] {
            assert_eq!(rewrite(old, &names), new);
        }
    }

    #[test]
    fn a_resume_from_a_file_is_given_up() {
        let made = made();
        assert_eq!(
            rewrite("root=/dev/sda1 resume=/dev/sda1 quiet", &Names::new(&made)),
            format!("root=UUID={ROOT} noresume quiet")
        );
    }

    #[test]
    fn device_nodes_follow_as_words_and_values() {
        let made = made();
        let names = Names::new(&made);
        for (old, new) in [
            ("add_device+=\" /dev/sda2 \"\n", format!("add_device+=\" /dev/disk/by-uuid/{SWAP} \"\n")),
            ("What=/dev/sda2\n", format!("What=/dev/disk/by-uuid/{SWAP}\n")),
            ("resume device = /dev/sda2\n", format!("resume device = /dev/disk/by-uuid/{SWAP}\n")),
            ("kernel_cmdline=\"root=/dev/sda1\"\n", format!("kernel_cmdline=\"root=UUID={ROOT}\"\n")),
            ("# What=/dev/sda2\n", "# What=/dev/sda2\n".to_owned()),
            ("What=/dev/sdb2\n", "What=/dev/sdb2\n".to_owned()),
        ] {
            assert_eq!(rewrite_devices(old, &names), new, "{old}");
        }
    }

    #[test]
    fn grubs_environment_keeps_its_size() {
        let made = made();
        let names = Names::new(&made);
        let block = |lines: &str| {
            let text = format!("# GRUB Environment Block\n{lines}");
            let padding = "#".repeat(1024 - text.len());
            text + &padding
        };
        assert_eq!(
            rewrite_grubenv(&block("saved_entry=0\nkernelopts=root=/dev/sda1 ro resume=/dev/sda2\n"), &names),
            block(&format!("saved_entry=0\nkernelopts=root=UUID={ROOT} ro resume=UUID={SWAP}\n"))
        );
        let untouched = block("saved_entry=0\n");
        assert_eq!(rewrite_grubenv(&untouched, &names), untouched);
        let full = block(&format!("kernelopts=root=/dev/sda1 {}\n", "x".repeat(960)));
        assert_eq!(rewrite_grubenv(&full, &names), full);
    }
}
