//! Files with one machine per line: which may be erased, the chain's order, names and addresses.
//!
//! They share one format: words separated by blanks, the machine first; `#` begins a comment. So every error
//! has its file, line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ka::mac::{Mac, MacError};

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// The kind of file: `the list of nodes`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A line is malformed.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// The problem.
        problem: Problem,
    },
    /// It names no machine.
    #[error("{} names no machine", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not a hardware address.
    #[error(transparent)]
    Mac(#[from] MacError),
    /// Neither a hardware address nor an IP address.
    #[error("{0}, nor is it an IP address")]
    ChainName(MacError),
    /// A word is missing.
    #[error("expected {missing} of '{word}' behind it")]
    Short {
        /// The missing word: `the group`.
        missing: &'static str,
        /// The word that it belongs to.
        word: String,
    },
    /// An unexpected word.
    #[error("expected {expected}, found '{word}'")]
    Word {
        /// What was expected.
        expected: String,
        /// What was found.
        word: String,
    },
    /// A word that must be unique appears twice: one of the two is surely a mistake.
    #[error("'{word}' is already in line {first}")]
    Duplicate {
        /// As the line has it.
        word: String,
        /// The line of its first appearance.
        first: usize,
    },
}

/// Reads a list file; `what` is for the error.
///
/// # Errors
/// [`ListError::Read`].
pub(super) fn read(path: &Path, what: &'static str) -> Result<String, ListError> {
    std::fs::read_to_string(path).map_err(|source| ListError::Read { what, path: path.to_owned(), source })
}

/// The lines of a list without comments and blank lines; `path` is for errors.
pub(super) fn lines<'a>(path: &'a Path, text: &'a str) -> impl Iterator<Item = Line<'a>> {
    (1..).zip(text.lines()).filter_map(move |(number, line)| {
        let content = line.split('#').next().unwrap_or_default();
        let mut words = content.split_whitespace();
        let first = words.next()?;
        Some(Line { path, number, line, first, words })
    })
}

/// One line, word by word.
pub(super) struct Line<'a> {
    path: &'a Path,
    pub(super) number: usize,
    line: &'a str,
    /// The machine.
    pub(super) first: &'a str,
    words: std::str::SplitWhitespace<'a>,
}

impl<'a> Line<'a> {
    /// The machine as a hardware address.
    pub(super) fn mac(&self) -> Result<Mac, ListError> {
        self.first.parse().map_err(|e: MacError| self.error(self.first, e.into()))
    }

    /// The next word, if any.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// The next word; `missing` describes it for the error.
    pub(super) fn need(&mut self, missing: &'static str) -> Result<&'a str, ListError> {
        let word = || self.first.to_owned();
        let short = self.error(self.first, Problem::Short { missing, word: word() });
        self.words.next().ok_or(short)
    }

    /// Checks that nothing follows.
    pub(super) fn end(mut self) -> Result<(), ListError> {
        match self.words.next() {
            Some(rest) => Err(self.wrong(rest, "the end of the line or a comment")),
            None => Ok(()),
        }
    }

    /// The error for an unexpected word.
    pub(super) fn wrong(&self, word: &str, expected: impl Into<String>) -> ListError {
        self.error(word, Problem::Word { expected: expected.into(), word: word.to_owned() })
    }

    /// An error about `word`, which is part of this line.
    pub(super) fn error(&self, word: &str, problem: Problem) -> ListError {
        let bytes = word.as_ptr().addr().wrapping_sub(self.line.as_ptr().addr());
        let column = self.line.get(..bytes).map_or(1, |before| before.chars().count() + 1);
        ListError::Line { path: self.path.to_owned(), line: self.number, column, problem }
    }
}

/// Words that must be unique among all lines.
#[derive(Debug)]
pub(super) struct Once<K>(BTreeMap<K, usize>);

impl<K: Ord> Once<K> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Refuses a word that an earlier line has; `word` is as written in this line.
    pub(super) fn add(&mut self, key: K, line: &Line<'_>, word: &str) -> Result<(), ListError> {
        match self.0.insert(key, line.number) {
            Some(first) => Err(line.error(word, Problem::Duplicate { word: word.to_owned(), first })),
            None => Ok(()),
        }
    }
}
