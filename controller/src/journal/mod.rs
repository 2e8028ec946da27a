//! What is remembered of a run: a directory with what was asked (`run.json`) and what has happened (`events.jsonl`).
//!
//! The session is the fold of its events ([`ka::session::Book`]), so that `kactl resume` can go on where a process has
//! ended without a word. `docs/events.md` describes both files.

mod read;
mod write;

use std::path::{Path, PathBuf};

use ka::session::SessionSpec;
use ka_host::atomic::{self, FileError};
use ka_host::guarded;
use serde::{Deserialize, Serialize};

pub use read::{Recorded, ResumeError};
pub use write::Journal;

/// The file with what was asked.
const HEADER: &str = "run.json";
/// The file with what has happened.
const EVENTS: &str = "events.jsonl";

/// What was asked of a run. It holds secrets: nobody else may read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the schema, [`ka::session::event::VERSION`].
    pub schema: u32,
    /// ka's version.
    pub ka: String,
    /// The command line, without the program.
    pub arguments: Vec<String>,
    /// The directory in which it was given.
    pub directory: PathBuf,
    /// The control port, at which the nodes look for their controller.
    pub port: u16,
    /// The controller's public key.
    pub controller: ka::keys::Key,
    /// The join secret of this run alone, if it has one.
    pub join: Option<String>,
    /// The directory of the nodes' logs.
    pub logs: Option<PathBuf>,
    /// The session.
    pub session: SessionSpec,
}

/// The first line of the events that one process has written.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opened {
    schema: u32,
    ka: String,
}

impl Header {
    /// Writes it into a run's directory.
    ///
    /// # Errors
    /// That of the file.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        let path = directory.join(HEADER);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .map_err(FileError::new("write", &path))?;
        text.push(b'\n');
        atomic::write(&path, &text, 0o600)
    }
}

/// A directory for a new run: its name and the first number that is free. It is nobody else's, for the events hold what
/// nodes prove themselves with.
///
/// # Errors
/// What the system said.
pub fn new_directory(runs: &Path, name: &str) -> Result<PathBuf, FileError> {
    guarded::directory(runs, 0o700)?;
    guarded::numbered(runs, name, 0o700)
}
