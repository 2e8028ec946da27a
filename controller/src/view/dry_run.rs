//! Shows what a run would do to the waiting machines, for people and for programs.

use std::io::{self, Write};

use ka::plan::report::{DiskReport, NewGroup, Report};
use ka::shown::Page;
use serde::Serialize;

use super::machines::{Code, MAX_LINES, headline};
use super::records;
use ka::session::Arrival;
use ka::session::target::refusal;

/// Prints for every machine the current contents of its disks and what would replace them, or why nothing
/// would.
///
/// # Errors
/// The output's error.
pub fn print(out: &mut dyn Write, machines: &[(Arrival, Report)]) -> io::Result<()> {
    for (arrival, report) in machines {
        let mut page = Page::default();
        page.line(format_args!("{}", headline(arrival, Code::Shown)));
        report.to_string().lines().for_each(|line| page.line(format_args!("  {line}")));
        page.cut(MAX_LINES);
        write!(out, "{page}")?;
    }
    let refused = machines.iter().filter(|(_, report)| !report.is_accepted()).count();
    writeln!(
        out,
        "dry run: {} of {} machines would be erased, {refused} refused; nothing was written, and they boot from their disks \
         again",
        machines.len() - refused,
        machines.len()
    )
}

/// The one JSON object of `--dry-run --json`. Fields are only ever added.
#[derive(Debug, Serialize)]
struct DryRun<'a> {
    run: &'a str,
    dry_run: bool,
    /// Every machine would be erased.
    ok: bool,
    nodes: Vec<NodeRow<'a>>,
}

#[derive(Debug, Serialize)]
struct NodeRow<'a> {
    mac: String,
    address: String,
    hostname: &'a str,
    ok: bool,
    reason: Option<String>,
    /// The current contents of each disk, and what would replace them.
    disks: &'a [DiskReport],
    /// The volume groups that would be created.
    groups: &'a [NewGroup],
}

/// Prints the same as one JSON object on one line.
///
/// # Errors
/// The output's error.
pub fn print_json(out: &mut dyn Write, run: &str, machines: &[(Arrival, Report)]) -> io::Result<()> {
    let ok = machines.iter().all(|(_, report)| report.is_accepted());
    let all = DryRun { run, dry_run: true, ok, nodes: nodes(machines).collect() };
    records::json_line(out, &all)
}

/// Prints one JSON object per machine.
///
/// # Errors
/// The output's error.
pub fn print_jsonl(out: &mut dyn Write, machines: &[(Arrival, Report)]) -> io::Result<()> {
    nodes(machines).try_for_each(|node| records::json_line(out, &node))
}

/// Prints one line of comma-separated values per machine.
///
/// # Errors
/// The output's error.
pub fn print_csv(out: &mut dyn Write, machines: &[(Arrival, Report)]) -> io::Result<()> {
    records::csv_line(out, &["mac", "address", "hostname", "ok", "reason"])?;
    nodes(machines).try_for_each(|node| {
        let reason = node.reason.unwrap_or_default();
        records::csv_line(out, &[&node.mac, &node.address, node.hostname, &node.ok.to_string(), &reason])
    })
}

fn nodes(machines: &[(Arrival, Report)]) -> impl Iterator<Item = NodeRow<'_>> {
    machines.iter().map(|(arrival, report)| NodeRow {
        mac: arrival.mac.to_string(),
        address: arrival.address.to_string(),
        hostname: &arrival.inventory.hostname,
        ok: report.is_accepted(),
        reason: refusal(report),
        disks: &report.disks,
        groups: &report.groups,
    })
}
