//! The summary at the end of a run, for people and for programs.

use std::io::{self, Write};
use std::time::Duration;

use ka::failure::Failure;
use ka::notes::{Counted, Tally};
use ka::shown::{self, Field};
use serde::Serialize;

use super::{records, units};
use crate::status::{LimitStatus, LimitedBy, MemberName, NodeStatus, Phase, RunStatus, Transfer};

/// Prints the summary for people: how much, how fast, and how each node ended.
///
/// # Errors
/// The output's error.
pub fn print(out: &mut dyn Write, status: &RunStatus, transfer: &Transfer) -> io::Result<()> {
    let Transfer { uncompressed, wire, sending, draining, rounds } = *transfer;
    let complete = status.nodes.iter().filter(|n| n.is_whole()).count();
    writeln!(out, "run {}, session {}", Field(&status.name), Field(&status.session))?;
    writeln!(out, "data sent      {} ({} on the wire)", units::bytes(uncompressed), units::bytes(wire))?;
    writeln!(out, "transfer time  {}", units::duration(sending))?;
    writeln!(
        out,
        "throughput     {:.2} MB/s",
        units::megabytes_per_second(uncompressed, sending + draining)
    )?;
    writeln!(out, "time to drain  {}", units::duration(draining))?;
    if rounds > 1 {
        writeln!(out, "rounds         {rounds}, the times and the wire's bytes are their sums")?;
    }
    writeln!(out, "nodes          {complete} of {} complete", status.nodes.len())?;
    if let Some(limit) = status.limits.first() {
        writeln!(out, "limited by     {}", shown::reason(&limited_by(limit)))?;
    }
    print_notes(out, "", &status.notes)?;
    let width = shown::width(status.nodes.iter().map(NodeStatus::label));
    for node in &status.nodes {
        writeln!(out, "  {:width$}  {}", Field(&node.label()), ending(node))?;
        print_notes(out, "    ", &node.notes)?;
    }
    Ok(())
}

/// The bottleneck of the chain, compared with the other parts.
fn limited_by(limit: &LimitStatus) -> String {
    let what = match &limit.what {
        LimitedBy::Source => "the golden node, which reads and packs no faster".to_owned(),
        LimitedBy::Disk { node } => format!("the disk of {}", node.name),
        LimitedBy::Link { from, to } => format!("the link from {} to {}", from.name, to.name),
    };
    format!(
        "{what}: {:.1} MB/s where the best was {:.1}, busy {:.0} % of the time and no other part more than {:.0} %",
        limit.rate / 1e6,
        limit.best / 1e6,
        limit.busy * 100.0,
        limit.others * 100.0
    )
}

/// The notes, one line per kind.
fn print_notes(out: &mut dyn Write, indent: &str, notes: &Tally) -> io::Result<()> {
    for (kind, Counted { count, example }) in notes.iter() {
        writeln!(out, "{indent}warning: {count} {}, such as {}", kind.words(), shown::reason(example))?;
    }
    Ok(())
}

/// How a node ended, in words.
fn ending(node: &NodeStatus) -> String {
    let received = units::bytes(node.received);
    match &node.failure.clone().or_else(|| node.lacks()) {
        Some(Failure { step, kind, .. }) => {
            // A tool's output may have several lines; here a node has one.
            format!("Failed at {step}: {} ({received} received)", shown::reason(&kind.to_string()))
        }
        None if node.phase == Phase::Booted => format!("OK, runs from its own disk ({received} received)"),
        None if node.is_complete() => format!("OK ({received} received)"),
        None => format!("Failed: still {} at the end ({received} received)", node.phase.name()),
    }
}

/// The one JSON object of `--json`. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Report<'a> {
    run: &'a str,
    session: &'a str,
    /// Every node is complete, and has every entry.
    ok: bool,
    /// Bytes of the uncompressed stream.
    data_bytes: u64,
    /// Bytes that left the golden node.
    wire_bytes: u64,
    transfer_seconds: f64,
    drain_seconds: f64,
    /// The rate of the uncompressed stream in 10^6 bytes per second, until the last node had everything.
    throughput_mb_s: f64,
    /// The rounds that were held. Times and bytes on the wire are totals over all rounds.
    rounds: u32,
    /// The parts that the chain waited for, the longest wait first.
    limits: Vec<LimitReport<'a>>,
    /// What the golden node noted during the reading.
    notes: Vec<NoteReport<'a>>,
    nodes: Vec<NodeReport<'a>>,
}

/// A note: not a failure, but it must be reported.
#[derive(Debug, Serialize)]
struct NoteReport<'a> {
    kind: &'static str,
    count: u64,
    /// The first of them.
    example: &'a str,
}

/// A part that the chain waited for. `source` has neither node nor link, `disk` has `node`, `link` has `from`
/// and `to`.
#[derive(Debug, Serialize)]
struct LimitReport<'a> {
    kind: &'static str,
    node: Option<MemberReport<'a>>,
    from: Option<MemberReport<'a>>,
    to: Option<MemberReport<'a>>,
    /// How long the chain waited for it.
    seconds: f64,
    /// 10^6 sealed bytes per second.
    rate_mb_s: f64,
    /// The best rate of the stream before that.
    best_mb_s: f64,
    /// The share of the time for which it was busy.
    busy: f64,
    /// The same share for the busiest other part of the chain.
    others_busy: f64,
}

#[derive(Debug, Serialize)]
struct MemberReport<'a> {
    name: &'a str,
    mac: Option<String>,
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct NodeReport<'a> {
    mac: Option<String>,
    address: String,
    hostname: &'a str,
    ok: bool,
    phase: &'static str,
    received_bytes: u64,
    /// The last round in which it took part.
    round: u32,
    /// Its position in the chain at the start of that round, counted from 1.
    position: Option<usize>,
    /// The step that failed, in words.
    failed_step: Option<&'static str>,
    /// The reason, in words.
    reason: Option<String>,
    /// The step that failed, by its name.
    step: Option<&'static str>,
    /// The kind of failure, by its name.
    kind: Option<&'static str>,
    /// Another attempt may succeed: the node itself was not the cause.
    transient: Option<bool>,
    /// The node's notes about its copy.
    notes: Vec<NoteReport<'a>>,
}

/// Prints the same as one JSON object on one line.
///
/// # Errors
/// The output's error.
pub fn print_json(
    out: &mut dyn Write,
    served: bool,
    status: &RunStatus,
    transfer: &Transfer,
) -> io::Result<()> {
    let Transfer { uncompressed, wire, sending, draining, rounds } = *transfer;
    let report = Report {
        run: &status.name,
        session: &status.session,
        ok: served && status.is_whole(),
        data_bytes: uncompressed,
        wire_bytes: wire,
        transfer_seconds: seconds(sending),
        drain_seconds: seconds(draining),
        throughput_mb_s: units::megabytes_per_second(uncompressed, sending + draining),
        rounds,
        limits: status.limits.iter().map(report_limit).collect(),
        notes: report_notes(&status.notes),
        nodes: status.nodes.iter().map(report_node).collect(),
    };
    records::json_line(out, &report)
}

/// Prints one JSON object per node.
///
/// # Errors
/// The output's error.
pub fn print_jsonl(out: &mut dyn Write, status: &RunStatus) -> io::Result<()> {
    status.nodes.iter().try_for_each(|node| records::json_line(out, &report_node(node)))
}

/// Prints one line of comma-separated values per node. Columns are only ever added, at the end.
///
/// # Errors
/// The output's error.
pub fn print_csv(out: &mut dyn Write, status: &RunStatus) -> io::Result<()> {
    records::csv_line(
        out,
        &[
            "hostname",
            "mac",
            "address",
            "ok",
            "phase",
            "received_bytes",
            "round",
            "position",
            "step",
            "kind",
            "reason",
        ],
    )?;
    status.nodes.iter().map(report_node).try_for_each(|node| {
        records::csv_line(
            out,
            &[
                node.hostname,
                node.mac.as_deref().unwrap_or_default(),
                &node.address,
                &node.ok.to_string(),
                node.phase,
                &node.received_bytes.to_string(),
                &node.round.to_string(),
                &node.position.map(|position| position.to_string()).unwrap_or_default(),
                node.step.unwrap_or_default(),
                node.kind.unwrap_or_default(),
                node.reason.as_deref().unwrap_or_default(),
            ],
        )
    })
}

fn report_node(node: &NodeStatus) -> NodeReport<'_> {
    let failure = node.failure.clone().or_else(|| node.lacks());
    NodeReport {
        mac: node.mac.map(|mac| mac.to_string()),
        address: node.address.to_string(),
        hostname: &node.hostname,
        ok: failure.is_none() && node.is_complete(),
        phase: node.phase.name(),
        received_bytes: node.received,
        round: node.round,
        position: node.position,
        failed_step: failure.as_ref().map(|f| f.step.words()),
        reason: failure.as_ref().map(|f| f.kind.to_string()),
        step: failure.as_ref().map(|f| f.step.name()),
        kind: failure.as_ref().map(|f| f.kind.name()),
        transient: failure.as_ref().map(|f| f.transient),
        notes: report_notes(&node.notes),
    }
}

fn report_limit(limit: &LimitStatus) -> LimitReport<'_> {
    let (kind, node, from, to) = match &limit.what {
        LimitedBy::Source => ("source", None, None, None),
        LimitedBy::Disk { node } => ("disk", Some(node), None, None),
        LimitedBy::Link { from, to } => ("link", None, Some(from), Some(to)),
    };
    LimitReport {
        kind,
        node: node.map(report_member),
        from: from.map(report_member),
        to: to.map(report_member),
        seconds: seconds(limit.time),
        rate_mb_s: rounded(limit.rate / 1e6),
        best_mb_s: rounded(limit.best / 1e6),
        busy: rounded(limit.busy),
        others_busy: rounded(limit.others),
    }
}

fn report_member(member: &MemberName) -> MemberReport<'_> {
    MemberReport {
        name: &member.name,
        mac: member.mac.map(|mac| mac.to_string()),
        address: member.address.map(|address| address.to_string()),
    }
}

fn report_notes(notes: &Tally) -> Vec<NoteReport<'_>> {
    notes
        .iter()
        .map(|(kind, Counted { count, example })| NoteReport { kind: kind.name(), count: *count, example })
        .collect()
}

/// The measurement has a resolution of one millisecond.
fn seconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64())
}

/// Rounds to three decimal places.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::failure::FailureKind;
    use ka::notes::NoteKind;
    use ka::step::Step;
    use std::time::SystemTime;

    /// The first link of a chain, and a disk.
    fn limits() -> Vec<LimitStatus> {
        let golden = MemberName { name: "the golden node".into(), mac: None, address: None };
        let pc1 = MemberName {
            name: "pc1".into(),
            mac: "52:54:00:00:00:01".parse().ok(),
            address: Some([10, 0, 0, 1].into()),
        };
        let (link, disk) = (LimitedBy::Link { from: golden, to: pc1.clone() }, LimitedBy::Disk { node: pc1 });
        let limit = |what, seconds| LimitStatus {
            what,
            time: Duration::from_secs(seconds),
            rate: 11_200_000.0,
            best: 112_345_678.0,
            busy: 0.97,
            others: 0.031_4,
        };
        vec![limit(link, 50), limit(disk, 12)]
    }

    fn node(last: u8, phase: Phase, failure: Option<(Step, &str)>) -> NodeStatus {
        NodeStatus {
            mac: format!("52:54:00:00:00:{last:02x}").parse().ok(),
            address: [10, 0, 0, last].into(),
            hostname: if last == 1 { "node1".into() } else { String::new() },
            phase,
            received: 792_000_000,
            rate: 0,
            round: 1,
            position: Some(1),
            may_come_again: false,
            doing: None,
            notes: Tally::default(),
            failure: failure
                .map(|(step, reason)| Failure::own(step, FailureKind::Tool { reason: reason.into() })),
            tpm: None,
        }
    }

    fn ended(nodes: Vec<NodeStatus>) -> (RunStatus, Transfer) {
        let status = RunStatus {
            sent: 792_000_000,
            nodes,
            ..RunStatus::new("monday", "kainstall", SystemTime::UNIX_EPOCH)
        };
        let transfer = Transfer {
            uncompressed: 792_000_000,
            wire: 264_000_000,
            sending: Duration::from_millis(65_900),
            draining: Duration::from_millis(4_000),
            rounds: 1,
        };
        (status, transfer)
    }

    #[test]
    fn a_person_reads_every_nodes_end() {
        let (mut status, transfer) = ended(vec![
            node(1, Phase::Complete, None),
            node(2, Phase::Failed, Some((Step::MakeFileSystem, "mkfs.ext4: no\u{7} space\nat all\n"))),
            node(3, Phase::Receiving, None),
        ]);
        status.notes.add(NoteKind::Changed, "./var/log\u{7}: it grew");
        status.limits = limits();
        status.nodes[0].notes.add(NoteKind::AttributeLost, "a: no room");
        let mut out = Vec::new();
        print(&mut out, &status, &transfer).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
run monday, session kainstall
data sent      792.0 MB (264.0 MB on the wire)
transfer time  1 min 5 s
throughput     11.33 MB/s
time to drain  4.0 s
nodes          1 of 3 complete
limited by     the link from the golden node to pc1: 11.2 MB/s where the best was 112.3, busy 97 % of the time and no \
             other part more than 3 %
warning: 1 changed while read, such as ./var/log?: it grew
  node1              OK (792.0 MB received)
    warning: 1 attributes lost, such as a: no room
  52:54:00:00:00:02  Failed at Make a file system: mkfs.ext4: no? space; at all (792.0 MB received)
  52:54:00:00:00:03  Failed: still receiving at the end (792.0 MB received)
"
        );
    }

    /// An entry that a host could not store is part of the result.
    #[test]
    fn a_lost_entry_is_no_success() {
        let (mut status, transfer) = ended(vec![node(1, Phase::Complete, None)]);
        let ok = |status: &RunStatus| {
            let mut out = Vec::new();
            print_json(&mut out, true, status, &transfer).unwrap();
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()["ok"].clone()
        };
        assert_eq!(ok(&status), true);
        status.nodes[0].notes.add(NoteKind::TimeLost, "a");
        assert_eq!(ok(&status), true);
        status.nodes[0].notes.add(NoteKind::EntryLost, "a");
        assert_eq!(ok(&status), false);
        let mut out = Vec::new();
        print(&mut out, &status, &transfer).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(
            said.contains("0 of 1 complete") && said.contains("Failed at receive: 1 entries NOT delivered"),
            "{said}"
        );
        assert!(!said.contains("OK"), "{said}");
    }

    #[test]
    fn a_programs_fields_are_stable() {
        let (mut status, transfer) = ended(vec![
            node(1, Phase::Complete, None),
            node(2, Phase::Failed, Some((Step::MakeFileSystem, "no space"))),
        ]);
        status.notes.add(NoteKind::Changed, "a");
        status.limits = limits();
        status.nodes[0].notes.add(NoteKind::AttributeLost, "b");
        status.nodes[0].notes.add(NoteKind::AttributeLost, "c");
        let mut out = Vec::new();
        print_json(&mut out, true, &status, &transfer).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "run": "monday", "session": "kainstall", "ok": false,
            "data_bytes": 792_000_000, "wire_bytes": 264_000_000,
            "transfer_seconds": 65.9, "drain_seconds": 4.0, "throughput_mb_s": 792.0 / 69.9,
            "rounds": 1,
            "limits": [
                {"kind": "link", "node": null, "from": {"name": "the golden node", "mac": null, "address": null},
                 "to": {"name": "pc1", "mac": "52:54:00:00:00:01", "address": "10.0.0.1"},
                 "seconds": 50.0, "rate_mb_s": 11.2, "best_mb_s": 112.346, "busy": 0.97, "others_busy": 0.031},
                {"kind": "disk", "node": {"name": "pc1", "mac": "52:54:00:00:00:01", "address": "10.0.0.1"},
                 "from": null, "to": null,
                 "seconds": 12.0, "rate_mb_s": 11.2, "best_mb_s": 112.346, "busy": 0.97, "others_busy": 0.031},
            ],
            "notes": [{"kind": "changed", "count": 1, "example": "a"}],
            "nodes": [
                {"mac": "52:54:00:00:00:01", "address": "10.0.0.1", "hostname": "node1", "ok": true,
                 "phase": "complete", "received_bytes": 792_000_000, "failed_step": null, "reason": null,
                 "step": null, "kind": null, "transient": null,
                 "round": 1, "position": 1,
                 "notes": [{"kind": "attribute_lost", "count": 2, "example": "b"}]},
                {"mac": "52:54:00:00:00:02", "address": "10.0.0.2", "hostname": "", "ok": false,
                 "phase": "failed", "received_bytes": 792_000_000, "failed_step": "Make a file system",
                 "step": "make_file_system", "kind": "tool", "transient": false,
                 "reason": "no space", "round": 1, "position": 1, "notes": []},
            ],
        });
        assert_eq!(json, expected);
        assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 1);
    }
}
