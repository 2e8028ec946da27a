//! Searches a tree of files for all names in one pass.
//!
//! Memory and time are bounded: of a huge file only the beginning is read, and of a huge tree only a part.
//! What was not searched is reported.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use rustix::fs::OFlags;

use super::terms::Terms;
use crate::finish::error::Cause;
use crate::finish::esp;

/// The read size.
const CHUNK: usize = 256 << 10;

/// The maximum number of bytes searched per file, and in all.
const MAX_OF_A_FILE: u64 = 512 << 20;
const MAX_IN_ALL: u64 = 4 << 30;

/// The maximum length of a line that is examined.
const MAX_LINE: usize = 4096;

/// Directories by name that hold history or other programs' data rather than configuration.
const HISTORY: [&str; 3] = [".git", ".hg", ".bzr"];

/// The same by path: old copies, and files that the finish itself has put aside.
const ASIDE: [&str; 4] = ["etc/lvm/archive", "etc/lvm/backup", "etc/ka", "etc/alternatives"];

/// The place of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// In the file's own name.
    Name,
    /// In a link's target.
    Link,
    /// In a line, from 1.
    Line(u64),
    /// At a byte of a binary file.
    Byte(u64),
}

impl Location {
    pub(super) fn line(&self) -> Option<String> {
        if let Self::Line(number) = self { Some(number.to_string()) } else { None }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name => f.write_str("(its name)"),
            Self::Link => f.write_str("(what it leads to)"),
            Self::Line(number) => write!(f, "(line {number})"),
            Self::Byte(offset) => write!(f, "(byte {offset})"),
        }
    }
}

/// A name that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'a> {
    /// The file, relative to the root.
    pub(super) path: &'a Path,
    pub(super) location: Location,
    pub(super) term: usize,
    /// The line, or the surrounding bytes.
    pub(super) line: &'a [u8],
    /// The hit's position in it.
    pub(super) at: usize,
    /// The hit's length.
    pub(super) length: usize,
}

/// Handles a hit; an error ends the search.
type OnHit<'a> = dyn FnMut(Hit<'_>) -> Result<(), Cause> + 'a;

/// A search through one or more trees.
pub(super) struct Search<'a> {
    terms: &'a Terms,
    automaton: AhoCorasick,
    longest: usize,
    left: u64,
    skipped: u64,
    first_skipped: Option<PathBuf>,
}

impl<'a> Search<'a> {
    pub(super) fn new(terms: &'a Terms) -> Result<Self, Cause> {
        let spellings = || terms.spellings().iter().map(|(spelling, _)| spelling);
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(spellings())
            .map_err(|e| Cause::file("search", Path::new("/"), std::io::Error::other(e)))?;
        let longest = spellings().map(String::len).max().unwrap_or(0);
        Ok(Self { terms, automaton, longest, left: MAX_IN_ALL, skipped: 0, first_skipped: None })
    }

    /// Searches the file or directory `place` below `root`: names, links, and contents.
    pub(super) fn tree(&mut self, root: &Path, place: &Path, on_hit: &mut OnHit<'_>) -> Result<(), Cause> {
        let mut waiting = vec![place.to_owned()];
        while let Some(path) = waiting.pop() {
            let full = root.join(&path);
            let Ok(metadata) = fs::symlink_metadata(&full) else { continue };
            if path != place {
                self.text(path.to_string_lossy().as_bytes(), &path, Location::Name, on_hit)?;
            }
            if metadata.is_symlink() {
                let target = fs::read_link(&full).map_err(|e| Cause::file("follow", &full, e))?;
                self.text(target.to_string_lossy().as_bytes(), &path, Location::Link, on_hit)?;
            } else if metadata.is_dir() && !is_aside(&path) {
                let entries = fs::read_dir(&full).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                let entries = entries.map_err(|e| Cause::file("list", &full, e))?;
                let mut inner: Vec<_> = entries.into_iter().map(|e| path.join(e.file_name())).collect();
                inner.sort_by(|a, b| b.cmp(a));
                waiting.extend(inner);
            } else if metadata.is_file() {
                self.file(&full, &path, on_hit)?;
            }
        }
        Ok(())
    }

    /// What was not searched because the trees are too large, if anything.
    pub(super) fn unsearched(&self) -> Option<String> {
        let first = self.first_skipped.as_ref()?;
        Some(format!(
            "{} files are too large to be searched completely for names of the golden node, such as /{}",
            self.skipped,
            first.display()
        ))
    }

    /// Searches a short text.
    fn text(
        &self,
        text: &[u8],
        path: &Path,
        location: Location,
        on_hit: &mut OnHit<'_>,
    ) -> Result<(), Cause> {
        for found in self.automaton.find_overlapping_iter(text) {
            let (start, end) = (found.start(), found.end());
            // Searches a path's last component only, or each file in a directory would be reported.
            let last = text.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            if is_word(text, start, end) && (location != Location::Name || end > last) {
                let term = self.term(found.pattern().as_usize());
                on_hit(Hit { path, location, term, line: text, at: start, length: end - start })?;
            }
        }
        Ok(())
    }

    fn term(&self, spelling: usize) -> usize {
        self.terms.spellings().get(spelling).map_or(0, |(_, term)| *term)
    }

    fn file(&mut self, full: &Path, path: &Path, on_hit: &mut OnHit<'_>) -> Result<(), Cause> {
        let failed = |e| Cause::file("read", full, e);
        let no_wait = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits();
        let mut options = File::options();
        let file = options.read(true).custom_flags(i32::try_from(no_wait).unwrap_or(0)).open(full);
        let file = file.map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let most = MAX_OF_A_FILE.min(self.left);
        if size > most {
            self.skipped += 1;
            self.first_skipped.get_or_insert_with(|| path.to_owned());
        }
        self.left = self.left.saturating_sub(size.min(most));
        self.contents(&mut file.take(most), path, on_hit).map_err(|e| match e {
            Stop::Read(e) => failed(e),
            Stop::Hit(cause) => cause,
        })
    }

    fn contents(&self, file: &mut impl Read, path: &Path, on_hit: &mut OnHit<'_>) -> Result<(), Stop> {
        let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK);
        let (mut lines, mut offset, mut is_text) = (0_u64, 0_u64, None);
        loop {
            let room = CHUNK.saturating_sub(buffer.len()).max(CHUNK / 2) as u64;
            let read = file.by_ref().take(room).read_to_end(&mut buffer).map_err(Stop::Read)?;
            let is_text = *is_text.get_or_insert_with(|| !buffer.iter().take(8192).any(|byte| *byte == 0));
            // Up to the end of a line, or so that a hit beginning before it is complete.
            let end = match buffer.iter().rposition(|byte| *byte == b'\n') {
                _ if read == 0 => buffer.len(),
                Some(at) if is_text => at + 1,
                // A line is kept together unless it is enormous.
                None if is_text && buffer.len() < CHUNK => 0,
                _ => buffer.len().saturating_sub(self.longest + 1),
            };
            let mut counted = 0;
            for found in self.automaton.find_overlapping_iter(&buffer) {
                let (start, stop) = (found.start(), found.end());
                if start >= end || !is_word(&buffer, start, stop) {
                    continue;
                }
                // Hits are ordered by their ends, so one may begin before the last.
                if start > counted {
                    lines += newlines(buffer.get(counted..start).unwrap_or_default());
                    counted = start;
                }
                let location =
                    if is_text { Location::Line(lines + 1) } else { Location::Byte(offset + start as u64) };
                let (from, to) = line_around(&buffer, start, stop);
                let line = buffer.get(from..to).unwrap_or_default();
                let term = self.term(found.pattern().as_usize());
                let hit = Hit { path, location, term, line, at: start - from, length: stop - start };
                on_hit(hit).map_err(Stop::Hit)?;
            }
            lines += newlines(buffer.get(counted..end).unwrap_or_default());
            offset += end as u64;
            buffer.drain(..end);
            if read == 0 {
                return Ok(());
            }
        }
    }
}

/// Why the search of a file ended early.
enum Stop {
    Read(std::io::Error),
    Hit(Cause),
}

fn is_aside(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // On the system partition the same directories are below `EFI`.
    HISTORY.contains(&name) || name == esp::HELD || ASIDE.iter().any(|aside| path == Path::new(aside))
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The line that contains `start..end`, or the part of it that is examined.
fn line_around(bytes: &[u8], start: usize, end: usize) -> (usize, usize) {
    let before = bytes.get(..start).unwrap_or_default();
    let from = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let behind = bytes.get(end..).unwrap_or_default();
    let to = behind.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| end + at);
    (from.max(start.saturating_sub(MAX_LINE)), to.min(end + MAX_LINE))
}

/// Whether it is not part of a longer word. A disk's name may be followed by a partition number.
fn is_word(bytes: &[u8], start: usize, end: usize) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let first = bytes.get(start).is_some_and(inner);
    let last = end.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(inner);
    let before = start.checked_sub(1).and_then(|at| bytes.get(at));
    // systemd's escape `\x2d` is not a word.
    let escaped =
        start.checked_sub(4).and_then(|at| bytes.get(at..start)).is_some_and(|e| e.starts_with(b"\\x"));
    let begun = first && before.is_some_and(inner) && !escaped;
    let goes_on = last && bytes.get(end).is_some_and(inner);
    !begun && !goes_on
}
