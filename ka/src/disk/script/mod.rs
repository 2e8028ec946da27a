//! sfdisk's scripts: the output of `sfdisk -d`, and what a person writes for `sfdisk`.
//!
//! Header lines (`label: gpt`) come first, then one line per partition, with named fields (`start=2048,
//! size=500M, type=uefi`) or without names (`2048,500M,U`). See sfdisk(8), "Input formats". Sizes may also be
//! `fill` or `fill*2`: a share of the remaining space, as in the short form; `+` or an empty size means
//! `fill` too. Changes to an existing table (`+` before a number) are refused.

mod header;
mod line;
mod render;
mod value;

use super::description::{Builder, Description, Entry, Header, Role, Size};
use super::kind::TableKind;
use super::problem::{DescError, Problem};
use super::units::SectorSize;
use header::Headers;
use line::{Fields, Places};
pub(super) use render::render;

/// A problem with its byte offset in the line.
type Located<T> = Result<T, (usize, Problem)>;

/// Whether a text is a script rather than the short form: decided by its first non-empty line.
pub(super) fn looks_like_one(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(line) = lines.next() else { return false };
    let word = line.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default();
    let is_short = matches!(word, "linux" | "swap" | "extended" | "logical")
        || word.strip_prefix("type").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    let code = line.split('#').next().unwrap_or_default();
    let is_number = word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | ',' | ';'));
    !is_short && (is_number || code.contains(['=', ':', ',', ';']))
}

/// Parses a script; `file` is its name for messages.
///
/// # Errors
/// The first problem, with its place.
pub fn parse(text: &str, file: &str) -> Result<Description, DescError> {
    let fail = |line, column, problem| DescError { file: file.to_owned(), line, column, problem };
    let mut headers = Headers::default();
    let mut known: Option<Header> = None;
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines: Vec<(u32, &str, Places)> = Vec::new();
    let mut last_line = 1;
    for (line, text) in (1..).zip(text.lines()) {
        last_line = line;
        if text.trim().is_empty() || text.trim_start().starts_with('#') {
            continue;
        }
        let place = |(at, problem)| fail(line, column(text, at), problem);
        if let Some((name, value)) = header::split(text) {
            if known.is_some() {
                return Err(place((0, Problem::LateHeader(name.to_owned()))));
            }
            headers.set(name, value, text, line).map_err(place)?;
            continue;
        }
        let header = match known.take() {
            Some(header) => header,
            None => headers.clone().finish().map_err(|(line, column, p)| fail(line, column, p))?,
        };
        if let Some(fields) = line::parse(text, header.table).map_err(place)? {
            lines.push((line, text, fields.places.clone()));
            entries.push(entry(fields, &header, &entries, line));
        }
        known = Some(header);
    }
    let header = match known {
        Some(header) => header,
        None => headers.finish().map_err(|(line, column, p)| fail(line, column, p))?,
    };
    // The device names may give the numbers in any order.
    entries.sort_by_key(|entry| (entry.role == Role::Logical, entry.number));
    let mut builder = Builder::new(header);
    for entry in entries {
        let line = entry.line;
        builder.push(entry).map_err(|problem| {
            let of = lines.iter().find(|(number, ..)| *number == line);
            fail(line, of.map_or(1, |(_, text, places)| column(text, places.of(&problem))), problem)
        })?;
    }
    builder.finish().map_err(|problem| fail(last_line, 1, problem))
}

/// The character, from 1, at a byte of a line.
fn column(text: &str, at: usize) -> u32 {
    let before = text.char_indices().take_while(|(byte, _)| *byte < at).count();
    u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
}

fn entry(fields: Fields, header: &Header, others: &[Entry], line: u32) -> Entry {
    let role = role(&fields, header, others);
    let next = || {
        let first = if role == Role::Logical { 5 } else { 1 };
        (first..).find(|n| others.iter().all(|other| other.number != *n)).unwrap_or_default()
    };
    Entry {
        number: fields.number.unwrap_or_else(next),
        kind: fields.kind,
        role,
        start: fields.start,
        size: fields.size,
        name: fields.name,
        uuid: fields.uuid,
        attributes: fields.attributes,
        bootable: fields.bootable,
        line,
    }
}

/// An MBR partition without a number is logical if it begins inside the extended one, or if no room outside
/// of it or no number is left.
fn role(fields: &Fields, header: &Header, others: &[Entry]) -> Role {
    if header.table == TableKind::Gpt {
        return Role::Primary;
    }
    if let Some(number) = fields.number
        && number > 4
    {
        return Role::Logical;
    }
    if fields.kind.is_extended() {
        return Role::Extended;
    }
    if fields.number.is_some() {
        return Role::Primary;
    }
    let Some(extended) = others.iter().find(|other| other.role == Role::Extended) else {
        return Role::Primary;
    };
    let sector = header.sector.unwrap_or(SectorSize::B512);
    let is_inside = fields.start.map(|start| {
        let (start, from) = (start.bytes(sector), extended.start.map_or(0, |s| s.bytes(sector)));
        let end = match extended.size {
            Size::Fixed(size) => from.saturating_add(size.bytes(sector)),
            Size::Fill { .. } => u64::MAX,
        };
        extended.start.is_some() && (from..end).contains(&start)
    });
    let primaries = others.iter().filter(|other| other.role != Role::Logical).count();
    match is_inside {
        Some(true) => Role::Logical,
        _ if primaries >= 4 => Role::Logical,
        None if extended.is_fill() => Role::Logical,
        Some(false) | None => Role::Primary,
    }
}
