//! Reads the record of a run, to continue the run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ka::session::book::Terms;
use ka::session::event::VERSION;
use ka::session::{Book, Event};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use serde::Deserialize;

use super::{EVENTS, HEADER, Header, Journal};

/// Why a run cannot be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The run does not exist.
    #[error("there is no run {name} in {runs}: `ls {runs}` lists them", runs = runs.display())]
    Unknown {
        /// The name that was requested.
        name: String,
        /// The directory of the runs.
        runs: PathBuf,
    },
    /// Another user may have written it.
    #[error("{}: {why}", path.display())]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
        /// The problem.
        why: String,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another process holds the run.
    #[error("another process holds {}: only one may continue a run; stop that one first", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// A line is invalid.
    #[error("{}:{line}: {problem}: start a new run for the nodes that are not complete", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The problem.
        problem: String,
    },
    /// A newer ka has written the file.
    #[error(
        "{} has version {found} of the schema, and this kactl knows up to {VERSION}: resume with the newer kactl",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version.
        found: u32,
    },
}

/// A run as recorded.
#[derive(Debug)]
pub struct Recorded {
    /// Its directory.
    pub directory: PathBuf,
    /// The request.
    pub header: Header,
    /// The events.
    pub events: Vec<Event>,
    file: File,
    /// The size of all complete lines in bytes, and their number.
    length: u64,
    lines: u64,
}

#[derive(Deserialize)]
struct Entry<T> {
    #[serde(flatten)]
    what: T,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum First {
    Opened { schema: u32 },
}

impl Recorded {
    /// Opens a run by the name of its directory, or the last run of a session by the session's name, and
    /// locks out other processes.
    ///
    /// # Errors
    /// [`ResumeError`] with the file and what to do.
    pub fn open(runs: &Path, name: &str) -> Result<Self, ResumeError> {
        let directory = find(runs, name)
            .ok_or_else(|| ResumeError::Unknown { name: name.to_owned(), runs: runs.to_owned() })?;
        check(&directory, true)?;
        let (path, header) = (directory.join(EVENTS), directory.join(HEADER));
        let read = |path: &Path| {
            let path = path.to_owned();
            |source| ResumeError::Read { path, source }
        };
        let open = |path: &Path| {
            check(path, false)?;
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).map_err(read(path))
        };
        let mut file = open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ResumeError::Held { path: path.clone() })?;
        let mut text = String::new();
        open(&header)?.read_to_string(&mut text).map_err(read(&header))?;
        let header = parse_header(&header, &text)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(read(&path))?;
        let Parsed { events, length, lines } = parse(&path, &bytes)?;
        if length < bytes.len() as u64 {
            log::warn!("{}: the last line is incomplete, and is ignored", path.display());
        }
        Ok(Self { directory, header, events, file, length, lines })
    }

    /// The session's state.
    #[must_use]
    pub fn book(&self) -> Book {
        Book::fold(&self.events, Terms { planned: self.header.session.plans.is_some() })
    }

    /// Opens the journal to append further events.
    ///
    /// # Errors
    /// The file's error.
    pub fn go_on(&self) -> io::Result<Journal> {
        Journal::start(self.file.try_clone()?, self.length, self.lines)
    }
}

/// The directory with this name, or the last one of the session with this name.
pub(super) fn find(runs: &Path, name: &str) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let exact = runs.join(name);
    if fs::symlink_metadata(&exact).is_ok() {
        return Some(exact);
    }
    let numbers = fs::read_dir(runs).ok()?.filter_map(|entry| {
        let entry = entry.ok()?.file_name();
        entry.to_str()?.strip_prefix(name)?.strip_prefix('-')?.parse::<u32>().ok()
    });
    numbers.max().map(|number| runs.join(format!("{name}-{number}")))
}

/// The record decides which disks are erased, so it must belong to this user.
pub(super) fn check(path: &Path, is_directory: bool) -> Result<(), ResumeError> {
    let not_ours = |why: &str| ResumeError::NotOurs { path: path.to_owned(), why: why.to_owned() };
    let is =
        fs::symlink_metadata(path).map_err(|source| ResumeError::Read { path: path.to_owned(), source })?;
    if is.is_symlink() {
        return Err(not_ours("it is a symbolic link: replace it with its target"));
    }
    if is.is_dir() != is_directory || !is_directory && !is.is_file() {
        return Err(not_ours("it has the wrong type: remove it if it is not yours"));
    }
    if is.uid() != geteuid().as_raw() {
        return Err(not_ours(&format!(
            "it belongs to the user {}: resume as that user, or `chown` it if it is yours",
            is.uid()
        )));
    }
    if is.mode() & 0o022 != 0 {
        return Err(not_ours("others can write to it: check it, and `chmod go-w` it if it is unchanged"));
    }
    Ok(())
}

fn parse_header(path: &Path, text: &str) -> Result<Header, ResumeError> {
    #[derive(Deserialize)]
    struct Schema {
        schema: u32,
    }
    let problem = |error: serde_json::Error| ResumeError::Line {
        path: path.to_owned(),
        line: error.line(),
        problem: error.to_string(),
    };
    let Schema { schema } = serde_json::from_str(text).map_err(problem)?;
    if schema > VERSION {
        return Err(ResumeError::Newer { path: path.to_owned(), found: schema });
    }
    serde_json::from_str(text).map_err(problem)
}

struct Parsed {
    events: Vec<Event>,
    length: u64,
    lines: u64,
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Parsed, ResumeError> {
    let (mut events, mut length, mut lines) = (Vec::new(), 0, 0);
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_last = length + line.len() == bytes.len();
        if let Ok(Entry { what: First::Opened { schema } }) = serde_json::from_slice(line) {
            if schema > VERSION {
                return Err(ResumeError::Newer { path: path.to_owned(), found: schema });
            }
        } else {
            match serde_json::from_slice::<Entry<Event>>(line) {
                Ok(entry) if line.ends_with(b"\n") => events.push(entry.what),
                // A power failure in the middle of a word.
                _ if is_last => break,
                Ok(_) => break,
                Err(error) => {
                    let (path, problem) = (path.to_owned(), format!("this is not an event: {error}"));
                    return Err(ResumeError::Line { path, line: index + 1, problem });
                }
            }
        }
        length += line.len();
        lines += 1;
    }
    Ok(Parsed { events, length: length as u64, lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::chain::NodeId;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const LINES: &str = "{\"seq\":0,\"at\":1,\"event\":\"opened\",\"schema\":1,\"ka\":\"0\"}\n\
                         {\"seq\":1,\"at\":9,\"event\":\"ready\",\"node\":7}\n\
                         {\"seq\":2,\"at\":2,\"event\":\"done\",\"node\":7}\n";

    fn read(text: &str) -> Result<(Vec<Event>, u64), String> {
        parse(Path::new("events"), text.as_bytes())
            .map(|parsed| (parsed.events, parsed.length))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_be_read_is_read() {
        let (ready, done) = (Event::Ready { node: NodeId(7) }, Event::Done { node: NodeId(7) });
        let all = LINES.len() as u64;
        assert_eq!(read(LINES), Ok((vec![ready.clone(), done.clone()], all)), "the clock went back");
        let two = LINES.lines().take(2).map(|line| line.len() + 1).sum::<usize>();
        for cut in [1, 2, 20] {
            let whole = Ok((vec![ready.clone()], two as u64));
            assert_eq!(read(&LINES[..LINES.len() - cut]), whole, "the last {cut} bytes are missing");
        }
        assert_eq!(read(""), Ok((Vec::new(), 0)));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let damaged = LINES.replace("\"ready\"", "\"reaDy\"");
        let error = read(&damaged).unwrap_err();
        assert!(error.starts_with("events:2: this is not an event: "), "{error}");
        let newer = LINES.replace("\"schema\":1", "\"schema\":2");
        let error = read(&newer).unwrap_err();
        assert!(error.contains("version 2") && error.contains("newer kactl"), "{error}");
    }

    #[test]
    fn a_run_that_is_not_ours_is_refused() {
        let runs = tempfile::tempdir().unwrap();
        let path = |name: &str| runs.path().join(name);
        let open = |name: &str| Recorded::open(runs.path(), name).unwrap_err().to_string();
        assert!(open("lab").contains("there is no run lab"));
        assert!(open("../lab").contains("there is no run"));
        fs::create_dir(path("lab-1")).unwrap();
        fs::create_dir(path("lab-2")).unwrap();
        symlink(path("lab-2"), path("lab-10")).unwrap();
        assert!(open("lab").ends_with("lab-10: it is a symbolic link: replace it with its target"));
        fs::set_permissions(path("lab-1"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(open("lab-1").contains("others can write to it"), "{}", open("lab-1"));
        assert!(open("lab-2").contains("cannot read"), "it has no events");
    }

    #[test]
    fn only_one_process_goes_on_with_a_run() {
        let runs = tempfile::tempdir().unwrap();
        let directory = super::super::new_directory(runs.path(), "lab").unwrap();
        let journal = Journal::create(&directory).unwrap();
        let error = Recorded::open(runs.path(), "lab-1").unwrap_err();
        assert!(error.to_string().contains("another process holds"), "{error}");
        drop(journal);
        let error = Recorded::open(runs.path(), "lab-1").unwrap_err();
        assert!(matches!(error, ResumeError::Read { .. }), "it ended before anything was asked: {error}");
    }
}
