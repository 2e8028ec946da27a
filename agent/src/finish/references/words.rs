//! Words of kernel command lines, wherever they are written down.

use ka::plan::FileSystemKind;

use super::super::names::{Named, Names};

/// `text` with `root=`, `resume=` and `RESUME=` and all UUIDs for this node. Where the system would
/// resume from a disk that was not cloned, it is told not to: it would wait for it at each boot.
pub(super) fn rewrite(text: &str, names: &Names<'_>) -> String {
    each_line(text, |line| {
        if line.trim_start().starts_with('#') { None } else { Some(on_command_line(line, names)) }
    })
}

/// Like [`rewrite`], comments as well: in GRUB legacy's menu they are Debian's options (`# kopt=root=…`).
pub(super) fn rewrite_all(text: &str, names: &Names<'_>) -> String {
    each_line(text, |line| Some(on_command_line(line, names)))
}

/// Like [`rewrite`], and device nodes wherever they stand as a word or a value.
pub(super) fn rewrite_devices(text: &str, names: &Names<'_>) -> String {
    let node = |word: &str| match names.resolve(word) {
        Named::Made(fs) if word.starts_with("/dev/") => Some(format!("/dev/disk/by-uuid/{}", fs.uuid)),
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

/// GRUB's environment block: lines in exactly 1024 bytes, the rest of them `#`.
pub(super) fn rewrite_grubenv(text: &str, names: &Names<'_>) -> String {
    let lines = text.trim_end_matches('#');
    let mut new =
        each_line(lines, |line| Some(on_command_line(line, names)).filter(|_| !line.starts_with('#')));
    if new == lines || new.len() > text.len() {
        if new != lines {
            log::warn!("GRUB's environment block has no room for this node's names, and stays as it is");
        }
        return text.to_owned();
    }
    new.push_str(&"#".repeat(text.len() - new.len()));
    new
}

fn each_line(text: &str, mut change: impl FnMut(&str) -> Option<String>) -> String {
    text.split_inclusive('\n').map(|line| change(line).unwrap_or_else(|| line.to_owned())).collect()
}

/// One line with words of a kernel command line in it, for this node.
pub(in super::super) fn on_command_line(line: &str, names: &Names<'_>) -> String {
    names.rename_uuids(&rewrite_words(line, names))
}

/// Words end where a shell or a kernel command line ends them.
fn ends(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

/// The words of a line, and each character between them.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
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
    // `RESUME="…"`: the quote ends the word, and so the value is a word of its own.
    let mut key = "";
    for piece in pieces(line) {
        if piece.starts_with(ends) {
            key = if piece.starts_with(char::is_whitespace) { "" } else { key };
            new.push_str(piece);
        } else if piece == "RESUME=" {
            key = "RESUME";
            new.push_str(piece);
        } else {
            new.push_str(&rewrite_word(key, piece, names));
            key = "";
        }
    }
    new
}

fn rewrite_word(key: &str, word: &str, names: &Names<'_>) -> String {
    // `# kopt=root=/dev/sda1`: a word in a word.
    for outer in ["kopt=", "defoptions=", "kernelopts="] {
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
    match (key, names.resolve(value)) {
        // A swap file lies elsewhere on the clone, so nothing can be resumed from where it was.
        ("RESUME", Named::Made(fs)) if fs.plan.kind != FileSystemKind::Swap => with("none"),
        ("resume", Named::Made(fs)) if fs.plan.kind != FileSystemKind::Swap => "noresume".to_owned(),
        // A UUID is renamed with all others, and a PARTUUID stays one: a kernel without initrd knows
        // no other name.
        ("root" | "real_root" | "resume" | "RESUME", Named::Made(fs)) if value.starts_with(['/', 'I']) => {
            with(&format!("UUID={}", fs.uuid))
        }
        ("root" | "real_root" | "resume" | "RESUME", Named::Made(fs)) if value.starts_with("PARTLABEL") => {
            with(&format!("PARTUUID={}", fs.partuuid))
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
    use super::super::super::names::tests::{ROOT, SWAP, made};
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
