//! Reports the progress of a run to a site's command: when nodes have failed, and at the end.
//!
//! The report is sent to the command's standard input, so that `mail` or `curl` take it unchanged. The
//! command cannot influence the run.

use std::collections::BTreeSet;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ka::shown;
use ka_host::tool;

use crate::status::{Phase, RunStatus};

/// How long the command may run.
const LIMIT: Duration = Duration::from_secs(60);
/// The minimum interval between reports of failures.
const PAUSE: Duration = Duration::from_secs(60);

/// The receiver of the reports.
#[derive(Debug, Default)]
pub struct Notify {
    /// The shell command.
    pub command: Option<String>,
    /// The run's name.
    pub run: String,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    nodes: BTreeSet<String>,
    at: Option<Instant>,
}

impl Notify {
    /// Creates a reporter for `command`, if there is one.
    #[must_use]
    pub fn new(command: Option<String>, run: &str) -> Self {
        Self { command, run: run.to_owned(), told: Mutex::default() }
    }

    /// Reports the nodes that have failed since the last call, in a separate thread.
    pub fn look(&self, status: &RunStatus) {
        let Some(command) = &self.command else { return };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let failed = status.nodes.iter().filter(|node| node.phase == Phase::Failed && !node.may_come_again);
        let lines: Vec<String> = failed
            .filter(|node| told.nodes.insert(node.label()))
            .map(|node| {
                let label = node.label();
                let why = node.failure.as_ref().map_or_else(String::new, |failure| {
                    format!(" at {}: {}", failure.step, shown::reason(&failure.kind.to_string()))
                });
                format!("{} failed{why}\n", shown::field(&label))
            })
            .collect();
        if lines.is_empty() {
            return;
        }
        told.at = Some(Instant::now());
        let (command, run) = (command.clone(), self.run.clone());
        let tell = move || tell(&command, &run, "failure", None, &lines.concat());
        if let Err(error) = thread::Builder::new().name("notify".into()).spawn(tell) {
            log::error!("--notify: {error}");
        }
    }

    /// Reports how the run ended, with its exit status, and waits for the command.
    pub fn end(&self, status: u8, report: &str) {
        if let Some(command) = &self.command {
            tell(command, &self.run, "end", Some(status), report);
        }
    }
}

fn tell(command: &str, run: &str, event: &str, status: Option<u8>, report: &str) {
    let outcome = tempfile::tempfile().and_then(|mut file| {
        file.write_all(report.as_bytes())?;
        file.rewind()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).stdin(Stdio::from(file)).env("KA_EVENT", event).env("KA_RUN", run);
        shell.env("KA_STATUS", status.map(|status| status.to_string()).unwrap_or_default());
        tool::output(&mut shell, LIMIT)
    });
    match outcome {
        Ok(output) if output.end.success() => {}
        Ok(output) => {
            let said = shown::reason(&String::from_utf8_lossy(&output.stderr));
            log::error!("--notify: the command for '{event}' has failed: {}: {said}", output.end);
        }
        Err(error) => log::error!("--notify: the command for '{event}' cannot be run: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::NodeStatus;
    use ka::failure::{Failure, FailureKind};
    use ka::mac::Mac;
    use ka::step::Step;
    use std::fs;
    use std::time::SystemTime;

    #[test]
    fn failures_and_the_end_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let command = format!("{{ echo $KA_EVENT $KA_RUN $KA_STATUS; cat; }} >>{}", file.display());
        let notify = Notify::new(Some(command), "lab");
        let mut node = NodeStatus::vanished(Mac([2, 0, 0, 0, 0, 1]));
        node.failure = Some(Failure::own(Step::Receive, FailureKind::System { reason: "no\nspace".into() }));
        let mut status = RunStatus {
            nodes: vec![NodeStatus { may_come_again: true, ..node.clone() }],
            ..RunStatus::new("lab", "lab", SystemTime::now())
        };
        notify.look(&status);
        status.nodes = vec![node];
        notify.look(&status);
        notify.look(&status);
        let start = Instant::now();
        let expected = "failure lab\n02:00:00:00:00:01 failed at receive: no; space\n";
        while fs::read_to_string(&file).unwrap_or_default() != expected {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", fs::read_to_string(&file));
            thread::sleep(Duration::from_millis(10));
        }
        notify.end(1, "the report\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{expected}end lab 1\nthe report\n"));
        Notify::new(Some("exit 3".into()), "lab").end(0, "");
        Notify::new(None, "lab").end(0, "");
    }
}
