//! The report for programs names the bottleneck of a chain: which part, whose, its rate, and the comparison
//! with the others. Needs root and iproute2.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::path::PathBuf;
use std::process::Command;

use ka_tests::netns::NetNs;
use ka_tests::process::{Process, wait_until};
use ka_tests::site::{MIB, Site, summary};
use ka_tests::succeed;
use ka_tests::wire::Wire;
use serde_json::Value;

/// About 1.3 MB/s, for as long as input arrives.
const CRAWL: &str = "while [ $(head -c 131072 | wc -c) -gt 0 ]; do sleep 0.1; done";

/// The part that the chain waited for longest.
fn longest(sender: &Process) -> Value {
    let summary = summary(sender);
    let first = summary["limits"].get(0).unwrap_or_else(|| panic!("no limit: {summary}"));
    let share = |name: &str| first[name].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&share("busy")) && share("others_busy") < share("busy"), "{first}");
    assert!(share("best_mb_s") >= share("rate_mb_s") && share("seconds") > 0.0, "{first}");
    first.clone()
}

#[test]
fn a_slow_disk_is_reported_though_nobody_is_removed() {
    let site = Site::new();
    // Twice the window: with half of it remaining, the chain waits.
    let file = site.noise("file", 16 * MIB, 1);
    let options = ["--min-share", "0", "--slow-after", "1", "--file", file.to_str().unwrap()];
    let mut sender = site.send("a", 3, options);
    let mut nodes: Vec<Process> = (0..3)
        .map(|i| {
            let out = site.path(&format!("out-{i}"));
            let sink = if i == 1 { ["--command", CRAWL] } else { ["--file", out.to_str().unwrap()] };
            site.receiver(&mut sender, "a", i, sink)
        })
        .collect();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    nodes.iter_mut().for_each(|node| assert_eq!(node.end(), 0, "{}", node.said()));
    let limit = longest(&sender);
    assert_eq!(limit["kind"], "disk", "{limit}");
    assert_eq!((&limit["from"], &limit["to"]), (&Value::Null, &Value::Null), "{limit}");
    assert_eq!(limit["node"]["address"], summary(&sender)["nodes"][1]["address"], "{limit}");
}

/// A golden node that sends to one node, over a cable of `rate`.
struct OneLink {
    site: Site,
    wire: Wire,
    file: PathBuf,
    sender: Process,
    node: Process,
}

impl OneLink {
    fn start(name: &str, rate: &str, mib: usize) -> Self {
        let (site, wire) = (Site::new(), Wire::new(name));
        wire.node_address("10.77.0.2/24");
        set_rate(&wire, "add", rate);
        let file = site.noise("file", mib * MIB, 1);
        let within = |netns: &NetNs, command: &Command| {
            let mut inside = netns.command(command.get_program().to_str().unwrap());
            inside.args(command.get_args());
            inside
        };
        let mut kactl = site.kactl();
        let options = ["--json", "--session", "a", "-n", "1", "--listen", "10.77.0.1", "--slow-after", "1"];
        kactl.arg("send").args(options).arg("--file").arg(&file);
        let mut sender = Process::start(&mut within(&wire.golden, &kactl), "send", &site.path(""));
        sender.wait_for("waits for", 1);
        let mut agent = site.agent("a", "10.77.0.1");
        agent.arg("--file").arg(site.path("out"));
        let node = Process::start(&mut within(&wire.node, &agent), "node", &site.path(""));
        Self { site, wire, file, sender, node }
    }
}

/// The traffic of the golden node's card.
fn set_rate(wire: &Wire, how: &str, rate: &str) {
    let shape =
        ["qdisc", how, "dev", "eth0", "root", "tbf", "rate", rate, "burst", "128kb", "latency", "50ms"];
    succeed(Command::new("tc").args(["-n", wire.golden.name()]).args(shape));
}

/// The rates in MB/s that the run's log lines report for the first link.
fn named_rates(sender: &Process) -> Vec<f64> {
    let said = sender.said();
    let rate = |line: &str| {
        let (_, named) = line.split_once("limited by the link from the golden node to ")?;
        named.split_once(", ")?.1.trim_end().strip_suffix(" MB/s")?.parse().ok()
    };
    said.lines().filter_map(rate).collect()
}

/// A card that renegotiates to a sixth of its speed in the middle of a run: the log lines report it during
/// the run even though it is the first link, and no node is removed.
#[test]
fn a_card_that_changes_its_speed_is_named_while_the_run_goes_on() {
    let mut link = OneLink::start("speed", "24mbit", 64);
    wait_until("a limit at the card's first speed", || {
        named_rates(&link.sender).iter().any(|rate| *rate > 1.5)
    });
    set_rate(&link.wire, "change", "4mbit");
    wait_until("a limit at the card's new speed", || {
        named_rates(&link.sender).iter().any(|rate| *rate < 0.7)
    });
    assert!(!link.sender.has_ended(), "while it goes on\n{}", link.sender.said());
    set_rate(&link.wire, "change", "800mbit");
    assert_eq!(link.sender.end(), 0, "{}", link.sender.said());
    assert_eq!(link.node.end(), 0, "{}", link.node.said());
    assert!(link.site.holds("out", &[&link.file]));
}

/// The first link, with no node before it and none after it.
#[test]
fn the_first_link_is_reported() {
    let OneLink { site, wire: _wire, file, mut sender, mut node } = OneLink::start("limit", "8mbit", 6);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert_eq!(node.end(), 0, "{}", node.said());
    assert!(site.holds("out", &[&file]));
    let limit = longest(&sender);
    assert_eq!((limit["kind"].as_str(), &limit["node"]), (Some("link"), &Value::Null), "{limit}");
    assert_eq!(limit["from"]["name"], "the golden node", "{limit}");
    assert_eq!(limit["from"]["address"], Value::Null, "{limit}");
    assert_eq!(limit["to"]["address"], "10.77.0.2", "{limit}");
    assert!(limit["rate_mb_s"].as_f64().unwrap() < 1.1, "{limit}");
}
