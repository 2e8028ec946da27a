//! sfdisk's scripts, as `sfdisk -d` writes them.

use super::description::Description;
use super::problem::{DescError, Problem};

/// Whether a text is a script rather than the short form.
pub(super) fn looks_like_one(_text: &str) -> bool {
    false
}

/// Reads a script; `file` is its name for messages.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(_text: &str, file: &str) -> Result<Description, DescError> {
    Err(DescError { file: file.to_owned(), line: 1, column: 1, problem: Problem::Empty })
}

/// The script of a description.
pub(super) fn render(_description: &Description) -> String {
    String::new()
}
