//! The record of what operators execute on the nodes of a run: `commands.jsonl` in its directory.
//!
//! `kactl exec` and `kactl console` are other processes than the run, and its events have a single writer.
//! So this file is separate, and each line is appended by one write.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use ka::mac::Mac;
use rustix::fs::OFlags;
use serde::Serialize;

use super::read;
use crate::machines::find::Found;

/// The file.
const COMMANDS: &str = "commands.jsonl";

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since 1970 (UTC).
    at: u64,
    /// The user: the one who became root by sudo, if that is known.
    user: &'a str,
    /// The machine, and its name.
    mac: Mac,
    name: &'a str,
    #[serde(flatten)]
    what: What<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What<'a> {
    /// A command begins.
    Executes {
        /// The command.
        command: &'a str,
    },
    /// A shell is opened.
    Opens,
    /// The command or the shell has ended, or the connection to it.
    Ended {
        /// How.
        how: &'a str,
    },
}

/// Records what happens on a machine in its last run. A machine that was in none is not recorded: there is
/// no directory for it. A failure is logged, because the operator must be able to help a node whose run's
/// disk is full.
pub fn note(runs: &Path, machine: &Found, what: What<'_>) {
    let Some(record) = &machine.record else { return };
    let directory = record.last_run.as_ref().and_then(|last| read::find(runs, &last.run));
    let Some(directory) = directory else { return };
    let user = user();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    let line = Line { at, user: &user, mac: record.mac, name: &record.name, what };
    let path = directory.join(COMMANDS);
    if let Err(error) = append(&directory, &path, &line) {
        log::warn!("{}: {error}: what is executed is not recorded", path.display());
    }
}

fn append(directory: &Path, path: &PathBuf, line: &Line<'_>) -> io::Result<()> {
    read::check(directory, true).map_err(io::Error::other)?;
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.write_all(&bytes)
}

fn user() -> String {
    let by_sudo = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    by_sudo
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::new_directory;
    use crate::machines::record::{LastRun, Record, RunOutcome};
    use std::fs;

    fn machine(run: Option<&str>) -> Found {
        let mut record = Record::new(Mac([2, 0, 0, 0, 0, 1]), 1);
        record.name = "node1".into();
        record.last_run = run.map(|run| LastRun {
            run: run.into(),
            at: 0,
            outcome: RunOutcome::Waiting,
            step: None,
            reason: None,
        });
        Found { word: "node1".into(), address: None, record: Some(record) }
    }

    #[test]
    fn what_is_executed_is_in_the_last_run_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let first = new_directory(&runs, "lab").unwrap();
        let last = new_directory(&runs, "lab").unwrap();
        note(&runs, &machine(Some("lab")), What::Executes { command: "echo \"a\nb\"" });
        note(&runs, &machine(Some("lab")), What::Ended { how: "exit status 3" });
        // Nothing of these has a place, and none of them is an error.
        note(&runs, &machine(Some("other")), What::Opens);
        note(&runs, &machine(None), What::Opens);
        let text = fs::read_to_string(last.join(COMMANDS)).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["what"], &lines[0]["command"]), (&"executes".into(), &"echo \"a\nb\"".into()));
        assert_eq!((&lines[0]["mac"], &lines[0]["name"]), (&"02:00:00:00:00:01".into(), &"node1".into()));
        assert_eq!((&lines[1]["what"], &lines[1]["how"]), (&"ended".into(), &"exit status 3".into()));
        assert!(lines[0]["user"].as_str().is_some_and(|user| !user.is_empty()), "{text}");
        assert!(!first.join(COMMANDS).exists());
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let run = new_directory(&runs, "lab").unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, run.join(COMMANDS)).unwrap();
        note(&runs, &machine(Some("lab")), What::Opens);
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
    }
}
