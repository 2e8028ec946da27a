//! The language of the lists of what belongs to one machine.
//!
//! One rule per line, `VERB PATTERN`; `#` begins a comment. A `*` in a pattern stands for any text in one component of
//! the path, `${MACHINE_ID}` for the golden node's ID, and a `/` at the end for a directory with all that is in it.

use std::path::PathBuf;

/// What is to become of the files that a pattern names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Remove,
    Empty,
    Keep,
}

/// What is to become of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verb: Verb,
    /// Without the slashes at its ends.
    pub(super) pattern: String,
    pub(super) directory: bool,
}

/// Reads one line; none if it says nothing.
pub(super) fn parse(line: &str) -> Result<Option<Rule>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (verb, path) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let verb = match verb {
        "remove" => Verb::Remove,
        "empty" => Verb::Empty,
        "keep" => Verb::Keep,
        other => return Err(format!("expected remove, empty, keep or enable, found '{other}'")),
    };
    let path = path.trim();
    let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
    if !path.starts_with('/') || components.contains(&"..") {
        return Err(format!("expected an absolute path without '..', found '{path}'"));
    }
    let directory = path.ends_with('/');
    if verb != Verb::Keep && (components.len() < 2 || (directory && components.len() < 3)) {
        return Err(format!("'{path}' is too much to take away"));
    }
    let pattern: PathBuf = components.iter().collect();
    Ok(Some(Rule { verb, pattern: pattern.to_string_lossy().into_owned(), directory }))
}
