//! The record of a session, from which another process can continue if this one ends unexpectedly.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use ka::keys::JoinKey;
use ka::session::event::VERSION;
use ka::session::{Event, SessionSpec};

use crate::config::keys::Keys;
use crate::config::{Directories, keys};
use crate::journal::{self, Header, Journal, Recorded};

/// A session's directory and journal.
pub(super) struct Memory {
    directory: PathBuf,
    journal: Journal,
    /// The earlier events, if this process takes the session over.
    resume: Option<Vec<Event>>,
}

impl Memory {
    /// A new record, or an existing one.
    pub(super) fn of(
        recorded: Option<&Recorded>,
        directories: &Directories,
        name: &str,
    ) -> anyhow::Result<Self> {
        if let Some(recorded) = recorded {
            let directory = recorded.directory.clone();
            let journal = recorded.go_on().with_context(|| format!("cannot use {}", directory.display()))?;
            return Ok(Self { directory, journal, resume: Some(recorded.events.clone()) });
        }
        let directory = journal::new_directory(&directories.journals(), name)?;
        let journal = Journal::create(&directory)?;
        log::info!("the journal of this run is {}", directory.display());
        Ok(Self { directory, journal, resume: None })
    }
}

impl Memory {
    /// The directory, the journal and the earlier events, if there are any.
    pub(super) fn split(memory: Option<Self>) -> (Option<PathBuf>, Option<Journal>, Option<Vec<Event>>) {
        memory.map_or((None, None, None), |memory| {
            (Some(memory.directory), Some(memory.journal), memory.resume)
        })
    }
}

/// The request, as saved for `kactl resume`.
pub(super) fn header(session: SessionSpec, keys: &Keys, logs: Option<PathBuf>) -> anyhow::Result<Header> {
    Ok(Header {
        schema: VERSION,
        ka: env!("CARGO_PKG_VERSION").to_owned(),
        arguments: env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
        directory: env::current_dir().context("cannot find out the current directory")?,
        port: 0,
        controller: keys.controller.public,
        join: keys.run.as_ref().map(JoinKey::to_text),
        logs,
        session,
    })
}

/// The keys with which the session began, if the controller still has them.
pub(super) fn same_keys(recorded: &Recorded, keys: Keys, directory: &Path) -> anyhow::Result<Keys> {
    ensure!(
        recorded.header.controller == keys.controller.public,
        "{} is not the key with which {} began, and its nodes would not trust it: restore the old key, or \
         start a new \
         run",
        keys::controller_file(directory).display(),
        recorded.directory.display()
    );
    let join = recorded.header.join.as_deref();
    let run = join.map(JoinKey::from_text).transpose().context("the run's join secret cannot be read")?;
    Ok(Keys { run, ..keys })
}

/// The nodes of a session that was taken over look for it at its old address.
pub(super) fn same_port(recorded: &Recorded, port: u16) -> anyhow::Result<()> {
    ensure!(
        recorded.header.port == port,
        "another process owns port {}, at which the nodes look for {}: stop it first",
        recorded.header.port,
        recorded.directory.display()
    );
    Ok(())
}
