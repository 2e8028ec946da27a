//! Untrusted text, made safe for display.
//!
//! Names, models, serial numbers, labels, file names, a node's errors, a DHCP client's host name, a tool's
//! output: none of it is trusted with a terminal, a log or a table row. One rule defines which characters are
//! hostile ([`is_hostile`]), and each place that shows text has one function:
//!
//! | place | by |
//! | --- | --- |
//! | a piece of a line | [`Field`], [`field()`], [`reason()`] |
//! | a view of several lines | [`Page`] |
//! | a message of a log | [`record()`] |
//! | a list of any length | [`some()`] |
//! | JSON, which keeps what it is given | [`json()`] |
//! | all that goes to standard output and standard error | [`Filter`] |
//! | the bytes of another machine's log | [`mask()`] |
//!
//! Code that forgets the first ones still writes through [`Filter`].

mod filter;
mod mask;
mod page;
mod rule;

pub use filter::{Filter, json};
pub use mask::{CONTEXT, mask};
pub use page::Page;
pub use rule::is_hostile;

use std::fmt;

use unicode_width::UnicodeWidthChar;

/// The longest piece of untrusted text within a line, in columns.
pub const MAX_FIELD: usize = 256;
/// The longest reason, in columns.
pub const MAX_REASON: usize = 2000;
/// The widest column of a table.
const MAX_COLUMN: usize = 64;
/// The longest line, in columns.
pub const MAX_LINE: usize = 4000;
/// The most lines of one message.
pub const MAX_LINES: usize = 200;

/// Replaces a hostile character.
const INSTEAD: char = '?';
/// Replaces the truncated part.
const CUT: char = '…';
/// Enough for every writing system, and too few to cover the line above.
const MARKS: usize = 2;
/// In a log, tables from tools keep their columns; a longer run of blanks would look like the end of a line.
const BLANKS: usize = 8;

/// A piece of untrusted text within a line: no hostile characters, no runs of blanks, no line end, and at
/// most [`MAX_FIELD`] columns. It takes a width like any text.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a>(pub &'a str);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&field(self.0))
    }
}

/// The text of a [`Field`].
#[must_use]
pub fn field(text: &str) -> String {
    one_line(text, 1, MAX_FIELD)
}

/// A reason, which may be long and have several lines, on one line.
#[must_use]
pub fn reason(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.take(MAX_LINES).collect::<Vec<_>>().join("; ");
    one_line(&joined, 1, MAX_REASON)
}

/// A log message. Its further lines are indented, so that none of them passes for a message of its own.
#[must_use]
pub fn record(text: &str) -> String {
    let mut lines = text.trim_end().split('\n');
    let mut shown = String::new();
    for line in lines.by_ref().take(MAX_LINES) {
        if !shown.is_empty() {
            shown.push_str("\n    ");
        }
        shown.push_str(&one_line(line.trim_end_matches('\r'), BLANKS, MAX_LINE));
    }
    match lines.count() {
        0 => shown,
        more => shown + &format!("\n    and {more} more lines"),
    }
}

/// The first `most` items of a list on one line, and the number of the others.
#[must_use]
pub fn some<T: fmt::Display>(things: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut things = things.into_iter();
    let first: Vec<String> = things.by_ref().take(most).map(|thing| field(&thing.to_string())).collect();
    match things.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The columns of a text that is already safe for display.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// The width of a table's column, which a single long name does not inflate.
#[must_use]
pub fn width<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> usize {
    let widest = names.into_iter().map(|name| columns(&field(name.as_ref()))).max();
    widest.unwrap_or(0).min(MAX_COLUMN)
}

/// One line of at most `most` columns, with at most `blanks` consecutive blanks.
fn one_line(text: &str, blanks: usize, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(4 * most));
    let (mut width, mut blank, mut marks) = (0, 0, MARKS);
    for c in text.chars() {
        let c = rule::shown(c);
        let columns = c.width().unwrap_or(0);
        if c == ' ' {
            blank += 1;
            if blank > blanks {
                continue;
            }
        } else {
            blank = 0;
        }
        marks = if columns > 0 { 0 } else { marks + 1 };
        // A combining mark without a base character, or one of too many.
        let (c, columns) =
            if marks > MARKS || shown.is_empty() && marks > 0 { (INSTEAD, 1) } else { (c, columns) };
        if width + columns >= most {
            shown.push(CUT);
            return shown;
        }
        width += columns;
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests;
