//! A view with several lines.

use std::fmt;

use super::{MAX_LINE, one_line};

/// Text of several lines, each of which stays one line, whatever its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page(String);

impl Page {
    /// Adds a line.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        let line = line.to_string();
        self.0.push_str(one_line(&line, usize::MAX, MAX_LINE).trim_end());
        self.0.push('\n');
    }

    /// Adds the number of list items that are not shown, if there are any.
    pub fn more(&mut self, indent: &str, count: usize, what: &str) {
        if count > 0 {
            self.line(format_args!("{indent}and {count} more {what}"));
        }
    }

    /// Keeps the first `most` lines, and adds the number of the others.
    pub fn cut(&mut self, most: usize) {
        let end = self.0.match_indices('\n').nth(most.saturating_sub(1)).map(|(at, _)| at + 1);
        if let Some(rest) = end.filter(|end| *end < self.0.len()) {
            let more = self.0.split_off(rest).lines().count();
            self.more("  ", more, "lines");
        }
    }

    /// The whole text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
