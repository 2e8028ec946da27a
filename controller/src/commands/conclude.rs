//! The final output of a command, and the matching exit status.

use anyhow::anyhow;
use ka::plan::report::Report;
use ka::shown;
use ka_host::terminal;

use crate::exit::{CommandResult, Exit, FatalError};
use crate::hub::Snapshot;
use crate::lists::node_set;
use crate::view::{Form, dry_run, summary};
use ka::session::{Arrival, Ending};

/// Prints the summary of a session; the result is the outcome.
///
/// # Errors
/// The source's failure. If the summary cannot be written, nodes count as failed, because they were not
/// reported as complete.
pub(super) fn session(end: &Snapshot, form: Form) -> CommandResult {
    let out = &mut terminal::out();
    let served = matches!(end.ending, Some(Ending::Served) | None);
    let printed = match form {
        Form::Text => summary::print(out, &end.status, &end.transfer),
        Form::Json => summary::print_json(out, served, &end.status, &end.transfer),
        Form::Jsonl => summary::print_jsonl(out, &end.status),
        Form::Csv => summary::print_csv(out, &end.status),
    };
    if let Err(error) = &printed {
        log::error!("cannot write the summary: {error}");
    }
    match &end.ending {
        Some(Ending::SourceFailed(reason)) => Err(FatalError::source(anyhow!("{reason}"))),
        Some(Ending::Nobody) => {
            Err(FatalError { exit: Exit::NodesFailed, error: anyhow!("no node came in time") })
        }
        Some(Ending::Stopped) => {
            Err(FatalError { exit: Exit::NodesFailed, error: anyhow!("the session was stopped") })
        }
        Some(Ending::Served) | None => {
            let complete = end.status.is_whole();
            Ok(if complete && printed.is_ok() { Exit::Ok } else { Exit::NodesFailed })
        }
    }
}

/// The same text for the end-of-run notification, with the machines that were woken and never appeared, or
/// had gone before the run began.
pub(super) fn text(end: &Snapshot, missing: &[String], gone: &[String]) -> String {
    let mut text = Vec::new();
    if let Err(error) = summary::print(&mut text, &end.status, &end.transfer) {
        log::error!("cannot write the report: {error}");
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for (what, machines) in [("never appeared", missing), ("gone before   ", gone)] {
        if !machines.is_empty() {
            let names = node_set::fold(machines.iter().map(String::as_str));
            text.push_str(&format!("{what} {}\n", shown::field(&names)));
        }
    }
    text
}

/// Prints what would happen to each machine, after nothing was written.
///
/// # Errors
/// The output's error.
pub(super) fn dry_run(run: &str, machines: &[(Arrival, Report)], form: Form) -> CommandResult {
    let out = &mut terminal::out();
    match form {
        Form::Text => dry_run::print(out, machines)?,
        Form::Json => dry_run::print_json(out, run, machines)?,
        Form::Jsonl => dry_run::print_jsonl(out, machines)?,
        Form::Csv => dry_run::print_csv(out, machines)?,
    }
    let all = machines.iter().all(|(_, report)| report.is_accepted());
    Ok(if all { Exit::Ok } else { Exit::NodesFailed })
}
