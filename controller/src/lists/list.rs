//! Files that say something of machines, one on each line: who may be erased, the chain's order, names and addresses.
//!
//! They have one form: words with blanks between them, the machine first; `#` begins a comment. So an error in any of
//! them has its file, line and column.

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
        /// What the file is: `the list of nodes`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is not understood.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in it, from 1.
        column: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// It names nobody.
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
    /// No hardware address.
    #[error(transparent)]
    Mac(#[from] MacError),
    /// Neither a hardware address nor another one.
    #[error("{0}, nor is it an IP address")]
    Place(MacError),
    /// Something that belongs there is missing.
    #[error("expected {missing} of '{word}' behind it")]
    Short {
        /// What is missing: `the group`.
        missing: &'static str,
        /// What it belongs to.
        word: String,
    },
    /// A word that makes no sense there.
    #[error("expected {expected}, found '{word}'")]
    Word {
        /// What belongs there.
        expected: String,
        /// What is there.
        word: String,
    },
    /// What only one machine can have is there twice: one of the two is surely meant to be another.
    #[error("'{word}' is in line {first} already")]
    Duplicate {
        /// As the line has it.
        word: String,
        /// Where it is first.
        first: usize,
    },
}

/// Reads a list's file; `what` is for the error.
///
/// # Errors
/// [`ListError::Read`].
pub(super) fn read(path: &Path, what: &'static str) -> Result<String, ListError> {
    std::fs::read_to_string(path).map_err(|source| ListError::Read { what, path: path.to_owned(), source })
}

/// The lines of a list that say something; `path` is for the errors.
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

    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// The next word; `missing` says what it is, should it not be there.
    pub(super) fn need(&mut self, missing: &'static str) -> Result<&'a str, ListError> {
        let word = || self.first.to_owned();
        let short = self.error(self.first, Problem::Short { missing, word: word() });
        self.words.next().ok_or(short)
    }

    /// Nothing more may follow.
    pub(super) fn end(mut self) -> Result<(), ListError> {
        match self.words.next() {
            Some(rest) => Err(self.wrong(rest, "the end of the line or a comment")),
            None => Ok(()),
        }
    }

    /// A word that makes no sense.
    pub(super) fn wrong(&self, word: &str, expected: impl Into<String>) -> ListError {
        self.error(word, Problem::Word { expected: expected.into(), word: word.to_owned() })
    }

    /// What is wrong with `word`, which is a part of this line.
    pub(super) fn error(&self, word: &str, problem: Problem) -> ListError {
        let bytes = word.as_ptr().addr().wrapping_sub(self.line.as_ptr().addr());
        let column = self.line.get(..bytes).map_or(1, |before| before.chars().count() + 1);
        ListError::Line { path: self.path.to_owned(), line: self.number, column, problem }
    }
}

/// What stands in one line only.
#[derive(Debug)]
pub(super) struct Once<K>(BTreeMap<K, usize>);

impl<K: Ord> Once<K> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Refuses what an earlier line has; `word` is how this one has it.
    pub(super) fn add(&mut self, key: K, line: &Line<'_>, word: &str) -> Result<(), ListError> {
        match self.0.insert(key, line.number) {
            Some(first) => Err(line.error(word, Problem::Duplicate { word: word.to_owned(), first })),
            None => Ok(()),
        }
    }
}
