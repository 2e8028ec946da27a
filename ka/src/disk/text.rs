//! A description as text, in either of its two forms.

use std::fmt;

use super::description::{Description, Format, Rendered};
use super::problem::DescError;
use super::{script, short_form};

impl Description {
    /// Parses a description in either form; `file` is its name for messages. A line with `=` or a comma, or a
    /// header such as `label: gpt`, marks a script.
    ///
    /// # Errors
    /// The first problem, with its place.
    pub fn parse(text: &str, file: &str) -> Result<Self, DescError> {
        if script::looks_like_one(text) { script::parse(text, file) } else { short_form::parse(text, file) }
    }

    /// The text in one of the two forms, and what that form cannot express.
    #[must_use]
    pub fn render(&self, format: Format) -> Rendered {
        match format {
            Format::Desc => short_form::render(self),
            Format::Sfdisk => Rendered { text: script::render(self), missing: Vec::new() },
        }
    }
}

/// The short form if it can express everything, else the script.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.render(Format::Desc);
        if short.missing.is_empty() {
            f.write_str(&short.text)
        } else {
            f.write_str(&self.render(Format::Sfdisk).text)
        }
    }
}
