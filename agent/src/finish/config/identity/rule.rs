//! The syntax of the lists of what belongs to one machine.
//!
//! One rule per line, `VERB PATTERN`; `#` begins a comment. In a pattern, `*` matches any text in one path
//! component, `${MACHINE_ID}` is the golden node's ID, and a trailing `/` means a directory with all its
//! contents.

use std::path::PathBuf;

/// What to do with the matching files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Remove,
    Empty,
    Keep,
}

/// A rule: an action and a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verb: Verb,
    /// The pattern without leading and trailing slashes.
    pub(super) pattern: String,
    pub(super) directory: bool,
}

/// Parses one line; `None` for a comment or a blank line.
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
