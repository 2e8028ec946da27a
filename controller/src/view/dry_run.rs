//! What a run would do to the machines that wait: for people, and for programs.

use std::io::{self, Write};

use ka::plan::report::{DiskReport, NewGroup, Report};
use ka::shown::{self, Page};
use serde::Serialize;

use super::machines::{Code, MAX_LINES, headline};
use ka::session::Arrival;
use ka::session::target::refusal;

/// Prints for every machine what is on its disks now, what would be written in its place, or why nothing would.
///
/// # Errors
/// What the output said.
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
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Serialize)]
struct Node<'a> {
    mac: String,
    address: String,
    hostname: &'a str,
    ok: bool,
    reason: Option<String>,
    /// What is on each disk now, and what would become of it.
    disks: &'a [DiskReport],
    /// The volume groups that would be made.
    groups: &'a [NewGroup],
}

/// Prints the same as one JSON object on one line.
///
/// # Errors
/// What the output said.
pub fn print_json(out: &mut dyn Write, run: &str, machines: &[(Arrival, Report)]) -> io::Result<()> {
    let ok = machines.iter().all(|(_, report)| report.is_accepted());
    let nodes = machines.iter().map(|(arrival, report)| Node {
        mac: arrival.mac.to_string(),
        address: arrival.address.to_string(),
        hostname: &arrival.inventory.hostname,
        ok: report.is_accepted(),
        reason: refusal(report),
        disks: &report.disks,
        groups: &report.groups,
    });
    let all = DryRun { run, dry_run: true, ok, nodes: nodes.collect() };
    writeln!(out, "{}", shown::json(&serde_json::to_string(&all)?))
}
