//! The last filter before a terminal.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{INSTEAD, is_hostile};

/// Passes on its input without hostile characters. Line ends and tabs stay: the code that builds lines has
/// ensured that they are its own.
#[derive(Debug)]
pub struct Filter<W> {
    pub(super) to: W,
    /// The start of a character whose end has not arrived yet.
    pub(super) begun: Vec<u8>,
}

impl<W: Write> Filter<W> {
    /// Creates a filter that writes to `to`.
    pub fn new(to: W) -> Self {
        Self { to, begun: Vec::new() }
    }
}

impl<W: Write> Write for Filter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut shown = String::with_capacity(all.len());
        let mut at = 0;
        for chunk in all.utf8_chunks() {
            shown.extend(chunk.valid().chars().map(|c| if passes(c) { c } else { INSTEAD }));
            at += chunk.valid().len();
            let invalid = chunk.invalid();
            if !invalid.is_empty() && at + invalid.len() == all.len() && is_begun(invalid) {
                self.begun = invalid.to_vec();
            } else if !invalid.is_empty() {
                shown.push(char::REPLACEMENT_CHARACTER);
            }
            at += invalid.len();
        }
        self.to.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn passes(c: char) -> bool {
    matches!(c, '\n' | '\t') || !is_hostile(c)
}

/// Whether these bytes, which are not a complete character, may be the start of one.
pub(super) fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// JSON for display: it has the same meaning, with hostile characters escaped. Only strings can contain such
/// characters, and there an escape means the character.
#[must_use]
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if passes(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String never fails.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}
