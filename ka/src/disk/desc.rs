//! The description of a disk, as an administrator writes it.
//!
//! One partition a line, `[logical] TYPE SIZE`; `#` starts a comment. TYPE is `linux` (`type83`),
//! `swap` (`type82`), `extended` or `type<hex>`; SIZE is a number of MB, of 2^20 bytes each, or
//! `fill`, which takes what is left. Primaries number from 1 in the order of their lines, and the
//! extended partition is one of them; logicals number from 5.
//!
//! ```text
//! linux 512      # /boot
//! linux fill     # /
//! swap 1024
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

/// A checked description: at least one partition, at most four primaries of which at most one is
/// extended, logicals only with an extended one, and one `fill` among the primaries and one among
/// the logicals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Desc(Vec<Entry>);

/// One partition of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The partition's number: 1 to 4, or from 5 for a logical one.
    pub number: u32,
    /// What it is for.
    pub kind: Kind,
    /// How large it is.
    pub size: Size,
    /// The line of the description, from 1, for messages.
    pub line: u32,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A partition of the type with this number in the MBR's list: 0x83 is Linux, 0x82 swap.
    Data(u8),
    /// The partition that holds the logical ones.
    Extended,
}

/// How large a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// So many MB of 2^20 bytes.
    Mb(u32),
    /// All that the others leave.
    Fill,
}

/// The MBR's type number of a Linux file system.
pub const LINUX: u8 = 0x83;
/// The MBR's type number of Linux swap space.
pub const SWAP: u8 = 0x82;

/// What is wrong with a description, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct DescError {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// What was expected there, and what was found.
    pub problem: Problem,
}

/// What a description can have wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No partition at all.
    #[error("expected at least one partition, such as `linux fill`, found none")]
    Empty,
    /// Not a partition type.
    #[error("expected `linux`, `swap`, `extended`, `type<hex>` (such as `type83`) or `logical`, found `{0}`")]
    Type(String),
    /// `logical` without a type behind it.
    #[error("expected a type after `logical`, found the end of the line")]
    NoType,
    /// A type number that stands for something else.
    #[error("expected a partition type from 1 to ff, found `{found}`, which is {meaning}")]
    ReservedType {
        /// The word that was found.
        found: String,
        /// What the number means in an MBR.
        meaning: &'static str,
    },
    /// A line that ends behind the type.
    #[error("expected a size in MB or `fill`, found the end of the line")]
    NoSize,
    /// Not a size.
    #[error("expected a size in MB (a number from 1 to 4294967295) or `fill`, found `{0}`")]
    Size(String),
    /// More words than a partition has.
    #[error("expected the end of the line or a `#` comment, found `{0}`")]
    Trailing(String),
    /// More primaries than an MBR has places.
    #[error("expected at most 4 primary partitions (the extended one counts), found a fifth")]
    TooManyPrimaries,
    /// More logical partitions than the kernel takes.
    #[error("expected at most 60 logical partitions, found one more")]
    TooManyLogicals,
    /// A second extended partition.
    #[error("expected at most one extended partition, found a second; the first is in line {0}")]
    SecondExtended(u32),
    /// `logical extended`.
    #[error("expected `linux`, `swap` or `type<hex>` after `logical`, found `extended`")]
    LogicalExtended,
    /// A logical partition, but nothing to hold it.
    #[error("expected an `extended` partition in a line before the first `logical` one")]
    NoExtended,
    /// A second `fill` that would have to share with the first.
    #[error("expected one `fill` only, found a second; the first is in line {0}")]
    SecondFill(u32),
    /// Numbers that don't follow from the order.
    #[error("expected partition number {expected}, found {found}")]
    Number {
        /// What the order of the entries gives.
        expected: u32,
        /// What the entry says.
        found: u32,
    },
}

impl Desc {
    /// Reads a description; `file` is its name for messages.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str, file: &str) -> Result<Self, DescError> {
        let fail = |line, column, problem| DescError { file: file.to_owned(), line, column, problem };
        let mut builder = Builder::default();
        let mut last_line = 1;
        for (line, text) in (1..).zip(text.lines()) {
            last_line = line;
            let code = text.split('#').next().unwrap_or_default().trim_end();
            let words = words(code);
            let Some(first) = words.first() else { continue };
            let end = u32::try_from(code.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
            let (logical, kind, size) = parse_line(&words, end).map_err(|(c, p)| fail(line, c, p))?;
            builder.push(logical, kind, size, line).map_err(|p| fail(line, first.column, p))?;
        }
        builder.finish().map_err(|p| fail(last_line, 1, p))
    }

    /// The partitions in the order of their lines.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The partition with this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        self.0.iter().find(|e| e.number == number)
    }
}

/// A description that came from somewhere else than a file is checked by the same rules.
impl TryFrom<Vec<Entry>> for Desc {
    type Error = Problem;

    fn try_from(entries: Vec<Entry>) -> Result<Self, Problem> {
        let mut builder = Builder::default();
        for entry in entries {
            if entry.size == Size::Mb(0) {
                return Err(Problem::Size("0".to_owned()));
            }
            if let Kind::Data(byte) = entry.kind {
                usable_type(byte, &format!("type{byte:x}"))?;
            }
            let number = builder.push(entry.number > 4, entry.kind, entry.size, entry.line)?;
            if number != entry.number {
                return Err(Problem::Number { expected: number, found: entry.number });
            }
        }
        builder.finish()
    }
}

impl From<Desc> for Vec<Entry> {
    fn from(desc: Desc) -> Self {
        desc.0
    }
}

/// Collects entries, numbers them, and keeps the rules that concern several of them.
#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    primaries: u32,
    logicals: u32,
    extended: Option<u32>,
    primary_fill: Option<u32>,
    logical_fill: Option<u32>,
}

impl Builder {
    fn push(&mut self, logical: bool, kind: Kind, size: Size, line: u32) -> Result<u32, Problem> {
        let (count, limit, base, fill, too_many) = if logical {
            if self.extended.is_none() {
                return Err(Problem::NoExtended);
            }
            (&mut self.logicals, 60, 4, &mut self.logical_fill, Problem::TooManyLogicals)
        } else {
            (&mut self.primaries, 4, 0, &mut self.primary_fill, Problem::TooManyPrimaries)
        };
        if *count == limit {
            return Err(too_many);
        }
        if kind == Kind::Extended {
            if logical {
                return Err(Problem::LogicalExtended);
            }
            if let Some(first) = self.extended.replace(line) {
                return Err(Problem::SecondExtended(first));
            }
        }
        if size == Size::Fill
            && let Some(first) = fill.replace(line)
        {
            return Err(Problem::SecondFill(first));
        }
        *count += 1;
        let number = base + *count;
        self.entries.push(Entry { number, kind, size, line });
        Ok(number)
    }

    fn finish(self) -> Result<Desc, Problem> {
        if self.entries.is_empty() { Err(Problem::Empty) } else { Ok(Desc(self.entries)) }
    }
}

/// A word and the character where it begins, from 1.
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

/// Reads the words of one line; a problem comes with its column, `end` where a word is missing.
fn parse_line(words: &[Word<'_>], end: u32) -> Result<(bool, Kind, Size), (u32, Problem)> {
    let (logical, words) = match words {
        [first, rest @ ..] if first.text == "logical" => (true, rest),
        _ => (false, words),
    };
    let [kind, rest @ ..] = words else { return Err((end, Problem::NoType)) };
    let parsed_kind = parse_kind(kind.text).map_err(|p| (kind.column, p))?;
    if logical && parsed_kind == Kind::Extended {
        return Err((kind.column, Problem::LogicalExtended));
    }
    match rest {
        [] => Err((end, Problem::NoSize)),
        [size] => {
            let size = parse_size(size.text).ok_or((size.column, Problem::Size(size.text.to_owned())))?;
            Ok((logical, parsed_kind, size))
        }
        [size, extra, ..] => Err(if parse_size(size.text).is_none() {
            (size.column, Problem::Size(size.text.to_owned()))
        } else {
            (extra.column, Problem::Trailing(extra.text.to_owned()))
        }),
    }
}

fn parse_kind(word: &str) -> Result<Kind, Problem> {
    match word {
        "linux" => return Ok(Kind::Data(LINUX)),
        "swap" => return Ok(Kind::Data(SWAP)),
        "extended" => return Ok(Kind::Extended),
        _ => {}
    }
    let byte = word
        .strip_prefix("type")
        .filter(|hex| hex.len() <= 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        .ok_or_else(|| Problem::Type(word.to_owned()))?;
    usable_type(byte, word)?;
    Ok(Kind::Data(byte))
}

fn usable_type(byte: u8, word: &str) -> Result<(), Problem> {
    let meaning = match byte {
        0x00 => "an unused place in the table",
        0x05 | 0x0f | 0x85 => "an extended partition: write `extended`",
        0xee => "the mark of a GPT",
        _ => return Ok(()),
    };
    Err(Problem::ReservedType { found: word.to_owned(), meaning })
}

fn parse_size(word: &str) -> Option<Size> {
    if word == "fill" {
        return Some(Size::Fill);
    }
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    word.parse().ok().filter(|&mb| mb > 0).map(Size::Mb)
}

impl fmt::Display for Desc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logical = if self.number > 4 { "logical " } else { "" };
        write!(f, "{logical}{} {}", self.kind, self.size)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(LINUX) => f.write_str("linux"),
            Self::Data(SWAP) => f.write_str("swap"),
            Self::Data(byte) => write!(f, "type{byte:x}"),
            Self::Extended => f.write_str("extended"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mb(mb) => write!(f, "{mb}"),
            Self::Fill => f.write_str("fill"),
        }
    }
}
