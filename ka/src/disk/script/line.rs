//! Parses the line of one partition, with named or positional fields.

use super::super::description::{Length, Size};
use super::super::guid::Guid;
use super::super::kind::{PartitionKind, TableKind};
use super::super::problem::Problem;
use super::super::short_form::parse_fill;
use super::{Located, value};

/// The fields of a line.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) number: Option<u32>,
    pub(super) start: Option<Length>,
    pub(super) size: Size,
    pub(super) kind: PartitionKind,
    pub(super) name: String,
    pub(super) uuid: Option<Guid>,
    pub(super) attributes: u64,
    pub(super) bootable: bool,
    pub(super) places: Places,
}

/// The positions of a line's fields: the byte offsets of their names and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Vec<(&'static str, usize, usize)>);

impl Places {
    fn note(&mut self, field: &'static str, name: usize, value: usize) {
        self.0.push((field, name, value));
    }

    /// The position of a field's value; of several, the last one counts.
    fn value(&self, field: &str) -> usize {
        self.0.iter().rfind(|(of, ..)| *of == field).map_or(0, |(.., value)| *value)
    }

    /// The position to report for a violated rule; the beginning of the line if no field is to blame.
    pub(super) fn of(&self, problem: &Problem) -> usize {
        match problem {
            Problem::WrongTable { field, .. } => {
                self.0.iter().rfind(|(of, ..)| of == field).map_or(0, |(_, name, _)| *name)
            }
            Problem::Size(_) | Problem::Weight(_) => self.value("size="),
            Problem::ScriptType { .. } | Problem::ReservedType { .. } => self.value("type="),
            Problem::Name(_) => self.value("name="),
            _ => 0,
        }
    }
}

impl Fields {
    fn new(table: TableKind) -> Self {
        Self {
            number: None,
            start: None,
            size: Size::Fill { weight: 1 },
            kind: PartitionKind::linux(table),
            name: String::new(),
            uuid: None,
            attributes: 0,
            bootable: false,
            places: Places::default(),
        }
    }
}

/// Parses a line; `None` for an unused entry, as older versions of sfdisk wrote them.
pub(super) fn parse(line: &str, table: TableKind) -> Located<Option<Fields>> {
    if line.contains('=') { named(line, table) } else { unnamed(line, table).map(Some) }
}

/// A place in a line.
struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

/// A word of a line, and its byte offset.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, skipped: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(skipped).len();
    }

    /// Up to one of these characters, or the end.
    fn word(&mut self, ends: impl Fn(char) -> bool) -> Word<'a> {
        let (at, rest) = (self.at, self.rest());
        let text = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
        self.at += text.len();
        Word { text, at }
    }

    /// A value, optionally in quotation marks.
    fn value(&mut self) -> Located<Word<'a>> {
        self.skip(char::is_whitespace);
        let (at, rest) = (self.at, self.rest());
        let Some(quoted) = rest.strip_prefix('"') else { return Ok(self.word(is_separator)) };
        let Some(end) = quoted.find('"') else { return Err((at, Problem::Quote(rest.to_owned()))) };
        self.at += end + 2;
        Ok(Word { text: quoted.get(..end).unwrap_or_default(), at: at + 1 })
    }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | ';')
}

/// `[DEVICE :] name=value, …`
fn named(line: &str, table: TableKind) -> Located<Option<Fields>> {
    let mut fields = Fields::new(table);
    let mut cursor = Cursor { line, at: 0 };
    // Names below /dev/disk/by-path contain colons.
    if let Some(colon) =
        line.split('=').next().filter(|before| before.len() < line.len()).and_then(|b| b.rfind(':'))
    {
        let device = line.get(..colon).unwrap_or_default();
        let start = device.len() - device.trim_start().len();
        fields.number = Some(number(device.trim()).map_err(|problem| (start, problem))?);
        cursor.at = colon + 1;
    }
    let mut unused_type = false;
    loop {
        cursor.skip(is_separator);
        if cursor.rest().is_empty() {
            break;
        }
        let field = cursor.word(|c| is_separator(c) || c == '=');
        let unknown = || (field.at, Problem::Field(field.text.to_owned()));
        if !cursor.rest().starts_with('=') {
            if !field.text.eq_ignore_ascii_case("bootable") {
                return Err(unknown());
            }
            fields.bootable = true;
            fields.places.note("bootable", field.at, field.at);
            continue;
        }
        cursor.at += 1;
        let value = cursor.value()?;
        let wrong = |problem| (value.at, problem);
        let name = field.text.to_ascii_lowercase();
        let shown = match name.as_str() {
            "size" => "size=",
            "type" | "id" => "type=",
            "name" => "name=",
            "uuid" => "uuid=",
            "attrs" => "attrs=",
            _ => "",
        };
        fields.places.note(shown, field.at, value.at);
        match name.as_str() {
            "start" => fields.start = start(value.text).map_err(wrong)?,
            "size" => fields.size = size(value.text).map_err(wrong)?,
            "type" | "id" if table == TableKind::Mbr && value.text.trim_start_matches('0').is_empty() => {
                unused_type = true;
            }
            "type" | "id" => fields.kind = kind(value.text, table).map_err(wrong)?,
            "name" => fields.name = value::name(value.text).map_err(wrong)?,
            // In an MBR it consists of the signature and the number.
            "uuid" if table == TableKind::Mbr && is_partuuid(value.text) => {}
            "uuid" => fields.uuid = Some(value.text.parse().map_err(|e| wrong(Problem::Guid(e)))?),
            "attrs" => fields.attributes = value::attributes(value.text).map_err(wrong)?,
            _ => return Err(unknown()),
        }
    }
    let is_empty = fields.size == Size::Fixed(Length::Sectors(0));
    match (unused_type, is_empty) {
        (true, true) => Ok(None),
        (true, false) => {
            let meaning = "an unused place in the table";
            Err((fields.places.value("type="), Problem::ReservedType { found: "0".to_owned(), meaning }))
        }
        (false, true) => Err((fields.places.value("size="), no_number("0", ", or `fill`"))),
        (false, false) => Ok(Some(fields)),
    }
}

/// `START, SIZE, TYPE, BOOTABLE`, each optional.
fn unnamed(line: &str, table: TableKind) -> Located<Fields> {
    let mut fields = Fields::new(table);
    let mut cursor = Cursor { line, at: 0 };
    for item in 0.. {
        cursor.skip(char::is_whitespace);
        if cursor.rest().is_empty() {
            break;
        }
        let word = cursor.value()?;
        let wrong = |problem| (word.at, problem);
        if let Some(&field) = ["start=", "size=", "type=", "bootable"].get(item) {
            fields.places.note(field, word.at, word.at);
        }
        match (item, word.text) {
            (0, text) => fields.start = start(text).map_err(wrong)?,
            (1, text) => fields.size = size(text).map_err(wrong)?,
            (2, "" | "-") => {}
            (2, text) => fields.kind = kind(text, table).map_err(wrong)?,
            (3, "" | "-") => {}
            (3, "*") => fields.bootable = true,
            (3, text) => return Err(wrong(Problem::Bootable(text.to_owned()))),
            (_, text) => return Err(wrong(Problem::Trailing(text.to_owned()))),
        }
        cursor.skip(char::is_whitespace);
        if cursor.rest().starts_with([',', ';']) {
            cursor.at += 1;
        }
    }
    match fields.size {
        Size::Fixed(Length::Sectors(0) | Length::Bytes(0)) => {
            Err((fields.places.value("size="), no_number("0", ", or `fill`")))
        }
        _ => Ok(fields),
    }
}

/// The number at the end of a device's name.
fn number(device: &str) -> Result<u32, Problem> {
    let digits = device.len() - device.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let digits = device.get(device.len() - digits..).unwrap_or_default();
    digits.parse().ok().filter(|number| *number > 0).ok_or_else(|| Problem::Device(device.to_owned()))
}

fn start(text: &str) -> Result<Option<Length>, Problem> {
    match text {
        "" | "-" | "+" => Ok(None),
        _ if text.starts_with(['+', '-']) => Err(Problem::Relative(text.to_owned())),
        _ => value::length(text).map(Some).ok_or_else(|| no_number(text, "")),
    }
}

fn size(text: &str) -> Result<Size, Problem> {
    match text {
        "" | "-" | "+" => return Ok(Size::Fill { weight: 1 }),
        _ if text.starts_with(['+', '-']) => return Err(Problem::Relative(text.to_owned())),
        _ => {}
    }
    if let Some(fill) = parse_fill(text)? {
        return Ok(fill);
    }
    value::length(text).map(Size::Fixed).ok_or_else(|| no_number(text, ", or `fill`"))
}

fn kind(text: &str, table: TableKind) -> Result<PartitionKind, Problem> {
    PartitionKind::parse(text, table).ok_or_else(|| Problem::ScriptType { table, found: text.to_owned() })
}

/// `1a2b3c4d-01`
fn is_partuuid(text: &str) -> bool {
    text.split_once('-').is_some_and(|(disk, number)| {
        disk.len() == 8
            && number.len() == 2
            && (disk.to_owned() + number).bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn no_number(text: &str, or_fill: &'static str) -> Problem {
    Problem::Number64 { or_fill, found: text.to_owned() }
}
