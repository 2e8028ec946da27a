//! Judges what a golden machine's name means at the place where it was found.

use std::path::Path;

use super::search::{Hit, Location};
use super::terms::{Kind, Term};
use crate::finish::config::fstab;
use crate::finish::config::names::{Named, Names};
use crate::finish::config::references::{is_systems, roots};

/// The verdict.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Harmless: a comment, or something else of the same spelling.
    Harmless,
    /// A person must look.
    Warn,
    /// The node would not boot: the reason.
    Fatal(String),
}

/// Command line parameters for which an initrd waits.
const AWAITED: [&str; 9] = [
    "root=",
    "real_root=",
    "rootflags=",
    "mount.usr=",
    "cryptdevice=",
    "rd.lvm.",
    "rd.md.",
    "rd.luks.",
    "rd_",
];

/// Files that boot loaders and their tools read, below any root.
const LOADERS: [&str; 8] =
    ["grub.cfg", "grubenv", "menu.lst", "grub.conf", "extlinux.conf", "syslinux.cfg", "lilo.conf", "cmdline"];

/// Judges one hit.
pub(super) fn verdict(hit: &Hit<'_>, term: &Term, names: &Names<'_>) -> Verdict {
    let in_text = matches!(hit.location, Location::Line(_));
    let binary = matches!(hit.location, Location::Byte(_));
    if binary && !term.kind.is_telling() {
        return Verdict::Harmless;
    }
    let line = String::from_utf8_lossy(hit.line);
    if in_text && is_comment(&line, hit.path) || !means(hit, term) {
        return Verdict::Harmless;
    }
    if in_text && term.kind.is_of_disks() && stops_boot(hit, &line, term, names) {
        return Verdict::Fatal(format!(
            "still names the golden node's {} {}, which this node does not have and its boot waits for: {}",
            term.kind.name(),
            term.text,
            line.trim()
        ));
    }
    Verdict::Warn
}

/// GRUB's environment block ends in a line of `#` without a newline.
fn is_comment(line: &str, path: &Path) -> bool {
    let line = line.trim_start();
    let is_unit_left_out = path.to_string_lossy().contains(".ka-no-such-disk");
    is_unit_left_out || line.starts_with(['#', ';']) || line.starts_with("//")
}

/// Whether the bytes are the name, and not something that only looks like it.
fn means(hit: &Hit<'_>, term: &Term) -> bool {
    let before = hit.at.checked_sub(1).and_then(|at| hit.line.get(at)).copied().unwrap_or(b' ');
    let behind = hit.line.get(hit.at + hit.length).copied().unwrap_or(b' ');
    let next = hit.line.get(hit.at + hit.length + 1).copied().unwrap_or(b' ');
    match term.kind {
        // The root subvolume, and the value for none.
        Kind::Subvolume => {
            let rest = hit.line.get(hit.at + hit.length..).unwrap_or_default();
            let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
            !digits.is_empty() && digits != b"5" && digits.iter().any(|digit| *digit != b'0')
        }
        // Part of another name or address: `golden-db`, `x.golden`, `110.0.0.1`, `10.0.0.1.5`.
        Kind::Host => !matches!(before, b'-' | b'.') && behind != b'-' && !in_table(hit),
        Kind::Address => {
            let more = matches!(behind, b'.' | b':') && next.is_ascii_hexdigit();
            let part = matches!(before, b'.' | b':') || more && term.text.contains(char::from(behind));
            !part && !in_table(hit)
        }
        Kind::Mac | Kind::FileSystem | Kind::Partition => {
            let begun = matches!(before, b'-' | b':') && is_hex_before(hit);
            let goes_on = behind == b'-' && next.is_ascii_hexdigit();
            !begun && !goes_on
        }
        // Followed by a partition number, it is a partition's.
        Kind::Table => before != b'-' && !(behind == b'-' && next.is_ascii_hexdigit()),
        Kind::Label | Kind::Device => true,
    }
}

/// Part of a longer UUID or hardware address.
fn is_hex_before(hit: &Hit<'_>) -> bool {
    let before = hit.at.checked_sub(1).and_then(|at| hit.line.get(..at)).unwrap_or_default();
    let last = before.rsplit(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
    last.len() > 1 && last.iter().all(u8::is_ascii_hexdigit)
}

/// In a cluster's hosts table the golden node is one of many, and stays.
fn in_table(hit: &Hit<'_>) -> bool {
    let line = String::from_utf8_lossy(hit.line);
    let address = line.split_whitespace().next().unwrap_or_default();
    hit.path == Path::new("etc/hosts") && !address.starts_with("127.") && address != "::1"
}

/// Whether a system with this line would fail to boot.
fn stops_boot(hit: &Hit<'_>, line: &str, term: &Term, names: &Names<'_>) -> bool {
    if hit.path == Path::new("etc/fstab") {
        // What was copied byte by byte has the golden identifiers.
        let device = line.split_whitespace().next().unwrap_or_default();
        let renumbered = matches!(names.resolve(device), Named::Made(fs) if !fs.plan.subvolumes.is_empty());
        return fstab::is_awaited(line.as_bytes()) && (term.kind != Kind::Subvolume || renumbered);
    }
    let file = hit.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_entry = hit.path.parent().is_some_and(|parent| parent.ends_with("loader/entries"));
    if !is_entry && !LOADERS.contains(&file) {
        return false;
    }
    let before = line.get(..hit.at).unwrap_or_default();
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '"' || c == '\'').next().unwrap_or_default();
    let word = word.strip_prefix("kernelopts=").unwrap_or(word);
    AWAITED.iter().any(|key| word.starts_with(key)) && roots(line).any(|root| is_systems(root, names))
}
