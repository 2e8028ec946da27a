//! The short form of a description, from the original KA method.
//!
//! One partition per line, `[logical] TYPE SIZE`; `#` starts a comment. TYPE is `linux` (`type83`), `swap`
//! (`type82`), `extended` or `type<hex>`. SIZE is a number of MB (2^20 bytes), or `fill`, which takes the
//! remaining space. Several `fill` share it equally, and `fill*2` counts twice. Primary partitions are
//! numbered from 1 in line order, including the extended one; logical ones from 5. The table is an MBR.
//!
//! ```text
//! linux 512      # /boot
//! linux fill     # /
//! extended fill*2
//! logical swap 1024
//! logical linux fill
//! ```

use super::description::{Builder, Description, Entry, Header, MAX_WEIGHT, Rendered, Role, Size, check_type};
use super::kind::{PartitionKind, TableKind};
use super::problem::{DescError, Problem};
use super::units::{MB, SectorSize};
use std::fmt::Write;

/// The MBR type of a Linux file system.
pub const LINUX: u8 = 0x83;
/// The MBR type of Linux swap space.
pub const SWAP: u8 = 0x82;
/// The MBR type of an extended partition.
pub const EXTENDED: u8 = 0x05;

/// Parses a description in the short form; `file` is its name for messages.
///
/// # Errors
/// The first problem, with its place.
pub fn parse(text: &str, file: &str) -> Result<Description, DescError> {
    let fail = |line, column, problem| DescError { file: file.to_owned(), line, column, problem };
    let mut builder = Builder::new(Header::new(TableKind::Mbr));
    let mut last_line = 1;
    for (line, text) in (1..).zip(text.lines()) {
        last_line = line;
        let code = text.split('#').next().unwrap_or_default().trim_end();
        let words = words(code);
        let Some(first) = words.first() else { continue };
        let end = u32::try_from(code.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        let (role, kind, size) = parse_line(&words, end).map_err(|(c, p)| fail(line, c, p))?;
        let number = builder.next_number(role);
        let entry = Entry::new(number, PartitionKind::Mbr(kind), role, size, line);
        builder.push(entry).map_err(|p| fail(line, first.column, p))?;
    }
    builder.finish().map_err(|p| fail(last_line, 1, p))
}

/// A word and its column, from 1.
struct Word<'a> {
    text: &'a str,
    column: u32,
}

fn words(code: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let ends = code.char_indices().map(|(at, c)| (at, c.is_whitespace())).chain([(code.len(), true)]);
    for (column, (at, is_space)) in (1..).zip(ends) {
        match (start, is_space) {
            (None, false) => start = Some((at, column)),
            (Some((from, column)), true) => {
                words.push(Word { text: code.get(from..at).unwrap_or_default(), column });
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// Parses the words of one line; a problem comes with its column, which is `end` for a missing word.
fn parse_line(words: &[Word<'_>], end: u32) -> Result<(Role, u8, Size), (u32, Problem)> {
    let (logical, words) = match words {
        [first, rest @ ..] if first.text == "logical" => (true, rest),
        _ => (false, words),
    };
    let [kind, rest @ ..] = words else { return Err((end, Problem::NoType)) };
    let (extended, byte) = parse_kind(kind.text).map_err(|p| (kind.column, p))?;
    let role = match (logical, extended) {
        (true, true) => return Err((kind.column, Problem::LogicalExtended)),
        (true, false) => Role::Logical,
        (false, true) => Role::Extended,
        (false, false) => Role::Primary,
    };
    match rest {
        [] => Err((end, Problem::NoSize)),
        [size] => Ok((role, byte, parse_size(size.text).map_err(|p| (size.column, p))?)),
        [size, extra, ..] => Err(match parse_size(size.text) {
            Err(problem) => (size.column, problem),
            Ok(_) => (extra.column, Problem::Trailing(extra.text.to_owned())),
        }),
    }
}

/// Whether the word is `extended`, and its type number.
fn parse_kind(word: &str) -> Result<(bool, u8), Problem> {
    match word {
        "linux" => return Ok((false, LINUX)),
        "swap" => return Ok((false, SWAP)),
        "extended" => return Ok((true, EXTENDED)),
        _ => {}
    }
    let byte = word
        .strip_prefix("type")
        .filter(|hex| hex.len() <= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        .ok_or_else(|| Problem::Type(word.to_owned()))?;
    check_type(byte, word)?;
    if PartitionKind::Mbr(byte).is_extended() {
        let meaning = "an extended partition: write `extended`";
        return Err(Problem::ReservedType { found: word.to_owned(), meaning });
    }
    Ok((false, byte))
}

fn parse_size(word: &str) -> Result<Size, Problem> {
    if let Some(size) = parse_fill(word)? {
        return Ok(size);
    }
    word.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| word.parse().ok().filter(|&mb| mb > 0).map(Size::mb))
        .flatten()
        .ok_or_else(|| Problem::Size(word.to_owned()))
}

/// `fill`, or `fill*WEIGHT`; also used in scripts.
pub(super) fn parse_fill(word: &str) -> Result<Option<Size>, Problem> {
    let Some(rest) = word.strip_prefix("fill") else { return Ok(None) };
    if rest.is_empty() {
        return Ok(Some(Size::Fill { weight: 1 }));
    }
    let Some(weight) = rest.strip_prefix('*') else { return Ok(None) };
    weight
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| weight.parse().ok())
        .flatten()
        .filter(|weight| (1..=MAX_WEIGHT).contains(weight))
        .map(|weight| Some(Size::Fill { weight }))
        .ok_or_else(|| Problem::Weight(weight.to_owned()))
}

/// `fill` or `fill*WEIGHT`.
pub(super) fn render_fill(weight: u32) -> String {
    if weight == 1 { "fill".to_owned() } else { format!("fill*{weight}") }
}

/// The short form, and what it cannot express: of a GPT, only partitions of Linux, swap and some other types;
/// no starts, no active flag, whole MB only.
pub(super) fn render(description: &Description) -> Rendered {
    let mut rendered = Rendered { text: String::new(), missing: Vec::new() };
    let mut say = |text: String| rendered.missing.push(text);
    if description.table() == TableKind::Gpt {
        say("the table is a GPT, and this form describes an MBR".to_owned());
    }
    let mut next = 1;
    for entry in description.entries() {
        let number = entry.number;
        let expected = if entry.role == Role::Logical { number } else { next };
        if entry.role != Role::Logical {
            next += 1;
        }
        if number != expected {
            say(format!("partition {number} gets the number {expected}, since numbers follow the order"));
        }
        if let Some(lost) = lost(entry) {
            say(format!("partition {number} has {lost}"));
        }
        let (line, complete) = line(description, entry);
        if let Some(missing) = complete {
            say(format!("partition {number} {missing}"));
        }
        rendered.text += &line;
        rendered.text.push('\n');
    }
    rendered
}

/// The properties of an entry that the short form cannot express.
fn lost(entry: &Entry) -> Option<String> {
    let mut lost = Vec::new();
    if entry.role == Role::Extended && entry.kind != PartitionKind::Mbr(EXTENDED) {
        lost.push(format!("the type {}", entry.kind));
    }
    if !entry.name.is_empty() {
        lost.push(format!("the name {:?}", entry.name));
    }
    if entry.attributes != 0 {
        lost.push(format!("the attributes {:#x}", entry.attributes));
    }
    if entry.bootable {
        lost.push("the active flag".to_owned());
    }
    (!lost.is_empty()).then(|| lost.join(" and "))
}

/// The line of one partition.
#[must_use]
pub fn line_of(description: &Description, entry: &Entry) -> String {
    line(description, entry).0
}

/// A line, and how it differs from the partition.
fn line(description: &Description, entry: &Entry) -> (String, Option<String>) {
    let mut missing = None;
    let mut text = if entry.role == Role::Logical { "logical ".to_owned() } else { String::new() };
    match entry.kind.in_table(TableKind::Mbr) {
        _ if entry.role == Role::Extended => text += "extended",
        Some(PartitionKind::Mbr(LINUX)) => text += "linux",
        Some(PartitionKind::Mbr(SWAP)) => text += "swap",
        Some(kind) => text += &format!("type{kind}"),
        None => {
            missing = Some(format!("is {}, which has no type in an MBR", entry.kind));
            text += "linux";
        }
    }
    // Writing to a string cannot fail.
    let _ = match entry.size {
        Size::Fill { weight } => write!(text, " {}", render_fill(weight)),
        Size::Fixed(length) => {
            let mut bytes = description.bytes(length, SectorSize::B512);
            if entry.role == Role::Extended {
                bytes = bytes.max(description.extended_needs(SectorSize::B512));
            }
            if !bytes.is_multiple_of(MB) && missing.is_none() {
                missing = Some(format!("has {bytes} bytes, which is rounded up to whole MB"));
            }
            write!(text, " {}", bytes.div_ceil(MB))
        }
    };
    (text, missing)
}
