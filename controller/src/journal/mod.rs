//! The record of a run: a directory with the request (`run.json`) and the events (`events.jsonl`).
//!
//! The session is the fold of its events ([`ka::session::Book`]), so that `kactl resume` can continue after a
//! process has ended unexpectedly. `docs/events.md` describes both files.

pub mod commands;
mod read;
mod write;

use std::path::{Path, PathBuf};

use ka::session::SessionSpec;
use ka_host::atomic::{self, FileError};
use ka_host::guarded;
use serde::{Deserialize, Serialize};

pub use read::{Recorded, ResumeError};
pub use write::Journal;

/// The file with the request.
const HEADER: &str = "run.json";
/// The file with the events.
const EVENTS: &str = "events.jsonl";

/// The request for a run. It holds secrets, so only the owner may read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the schema, [`ka::session::event::VERSION`].
    pub schema: u32,
    /// ka's version.
    pub ka: String,
    /// The command line, without the program.
    pub arguments: Vec<String>,
    /// The directory in which it was entered.
    pub directory: PathBuf,
    /// The control port on which the nodes look for their controller.
    pub port: u16,
    /// The controller's public key.
    pub controller: ka::keys::Key,
    /// The join secret of this run, if it has its own.
    pub join: Option<String>,
    /// The directory of the nodes' logs.
    pub logs: Option<PathBuf>,
    /// The session.
    pub session: SessionSpec,
}

/// The first line of the events of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Opened {
    schema: u32,
    ka: String,
}

impl Header {
    /// Writes the request into a run's directory.
    ///
    /// # Errors
    /// The file's error.
    pub fn write(&self, directory: &Path) -> Result<(), FileError> {
        let path = directory.join(HEADER);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .map_err(FileError::new("write", &path))?;
        text.push(b'\n');
        atomic::write(&path, &text, 0o600)
    }
}

/// Creates a directory for a new run: its name and the first free number. Only its owner can access it,
/// because the events contain the secrets with which nodes prove themselves.
///
/// # Errors
/// The system's error.
pub fn new_directory(runs: &Path, name: &str) -> Result<PathBuf, FileError> {
    guarded::directory(runs, 0o700)?;
    guarded::numbered(runs, name, 0o700)
}
