//! A node that missed a part for a transient cause, or came late, is served in a further round of the same
//! session.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;

use ka_tests::halting::Halting;
use ka_tests::process::Process;
use ka_tests::site::{DEAD_AFTER, MIB, Site, chain_order, data_port, reasons, summary};
use rustix::process::Signal;

/// A stream that stops in the middle of its first round.
struct Halted {
    site: Site,
    stream: Halting,
    sender: Process,
    nodes: Vec<Process>,
    /// The number of each node's file.
    targets: Vec<usize>,
}

impl Halted {
    fn new(count: usize, more: &[&str]) -> Self {
        let site = Site::new();
        let stream = Halting::new(&site, 12 * MIB);
        let arguments = [&["--dead-after", DEAD_AFTER, "--command", stream.command()][..], more].concat();
        let mut sender = site.send("a", count, arguments);
        let nodes = site.receivers(&mut sender, "a", count);
        stream.wait_for_half(&site, count);
        Self { site, stream, sender, nodes, targets: (0..count).collect() }
    }

    /// Another receiver, which will be asked to return.
    fn late(&mut self) {
        self.starts(self.nodes.len());
    }

    /// A receiver for the file `out-TARGET`.
    fn starts(&mut self, target: usize) {
        let index = self.nodes.len();
        let sink = ["--file".into(), self.site.path(&format!("out-{target}"))];
        self.nodes.push(self.site.receiver(&mut self.sender, "a", index, sink));
        self.targets.push(target);
    }

    fn go_on(&self) {
        self.stream.open();
    }

    /// All except `gone` have everything; returns the rounds of the summary's nodes.
    fn all_served(&mut self, gone: Option<usize>) -> Vec<u64> {
        assert_eq!(self.sender.end(), 0, "{}", self.sender.said());
        for (i, node) in self.nodes.iter_mut().enumerate().filter(|(i, _)| Some(*i) != gone) {
            assert_eq!(node.end(), 0, "{}", node.said());
            let file = format!("out-{}", self.targets[i]);
            assert!(self.stream.is_in(&self.site, &file), "node {i}");
            assert!(self.site.partial(&file).is_none());
        }
        assert!(reasons(&self.sender).iter().all(Option::is_none));
        let summary = summary(&self.sender);
        assert_eq!(summary["data_bytes"], 24 * MIB);
        summary["nodes"].as_array().unwrap().iter().map(|node| node["round"].as_u64().unwrap()).collect()
    }
}

#[test]
fn a_killed_receiver_that_is_started_again_is_served() {
    let mut run = Halted::new(3, &[]);
    let dead = chain_order(&run.nodes)[1];
    run.nodes[dead].kill();
    run.sender.wait_for("heartbeats have ended", 1);
    run.starts(dead);
    run.go_on();
    // A dead node appears in the list once, with its final state.
    assert_eq!(run.all_served(Some(dead)), [1, 1, 2]);
    assert_eq!(summary(&run.sender)["rounds"], 2);
}

/// Several receivers on one host are separate copies: the loss of one is not hidden by another that is
/// served.
#[test]
fn a_copy_that_failed_is_not_forgotten_for_another_on_its_host() {
    let mut run = Halted::new(3, &[]);
    let dead = chain_order(&run.nodes)[1];
    run.nodes[dead].kill();
    run.sender.wait_for("heartbeats have ended", 1);
    run.late();
    run.go_on();
    assert_eq!(run.sender.end(), 1, "{}", run.sender.said());
    let reasons = reasons(&run.sender);
    assert_eq!((reasons.len(), reasons.iter().flatten().count()), (4, 1), "{reasons:?}");
    assert!(reasons[dead].is_some() && reasons[3].is_none(), "{reasons:?}");
    assert_eq!(summary(&run.sender)["ok"], false);
    assert!(run.stream.is_in(&run.site, "out-3"));
}

#[test]
fn who_comes_late_is_served_behind_the_others() {
    let mut run = Halted::new(1, &[]);
    run.late();
    run.late();
    run.go_on();
    assert_eq!(run.all_served(None), [1, 2, 2]);
}

/// A process that was stopped for too long drops its partial copy and waits.
#[test]
fn who_wakes_up_too_late_is_served_again() {
    let mut run = Halted::new(2, &[]);
    let silent = chain_order(&run.nodes)[0];
    run.nodes[silent].signal(Signal::STOP);
    run.sender.wait_for("has gone silent", 1);
    run.nodes[silent].signal(Signal::CONT);
    run.nodes[silent].wait_for("waits for another round", 1);
    run.go_on();
    let mut expected = [1, 1];
    expected[silent] = 2;
    assert_eq!(run.all_served(None), expected);
}

#[test]
fn one_round_is_one_round() {
    let mut run = Halted::new(2, &["--rounds", "1"]);
    let silent = chain_order(&run.nodes)[1];
    run.nodes[silent].signal(Signal::STOP);
    run.sender.wait_for("has gone silent", 1);
    run.nodes[silent].signal(Signal::CONT);
    // It is notified immediately that there is nothing to wait for.
    assert_eq!(run.nodes[silent].end(), 1, "{}", run.nodes[silent].said());
    let controller = run.site.address.to_string();
    let mut command = run.site.agent("a", &controller);
    command.args(["--wait", "0", "--file", run.site.path("late").to_str().unwrap()]);
    let mut late = Process::start(&mut command, "late", &run.site.path(""));
    assert_eq!(late.end(), 1);
    assert!(late.said().contains("has started without this node"), "{}", late.said());
    run.go_on();
    assert_eq!(run.sender.end(), 1, "{}", run.sender.said());
    assert_eq!(run.nodes[1 - silent].end(), 0);
    assert_eq!(reasons(&run.sender).iter().filter(|reason| reason.is_none()).count(), 1);
}

/// An error of the node itself would happen again.
#[test]
fn a_writer_that_fails_is_not_served_again() {
    let site = Site::new();
    let file = site.noise("file", 12 * MIB, 1);
    let mut sender = site.send("a", 2, ["--file".as_ref(), file.as_path()]);
    let mut nodes = [
        site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("out-0")]),
        site.receiver(&mut sender, "a", 1, ["--command", "cat >/dev/null; exit 9"]),
    ];
    assert_eq!(sender.end(), 1, "{}", sender.said());
    assert_eq!((nodes[0].end(), nodes[1].end()), (0, 1));
    assert_eq!(summary(&sender)["rounds"], 1);
}

/// A node's place is in the summary, and the port decides among nodes with the same address.
#[test]
fn the_summary_tells_the_chains_order() {
    let site = Site::new();
    let mut sender = site.send("a", 3, ["--command", "echo"]);
    let mut nodes = site.receivers(&mut sender, "a", 3);
    let chain = chain_order(&nodes);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert!(nodes.iter_mut().all(|node| node.end() == 0), "{}", data_port(&nodes[0]));
    let summary = summary(&sender);
    let positions: Vec<usize> =
        chain.iter().map(|i| summary["nodes"][i]["position"].as_u64().unwrap().try_into().unwrap()).collect();
    assert_eq!(positions, [1, 2, 3]);
}

#[test]
fn go_starts_with_those_who_are_there() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    let go = || {
        let mut process = Process::start(site.kactl().args(["go", "a"]), "go", &site.path(""));
        (process.end(), process.said())
    };
    let (status, said) = go();
    assert!(status == 2 && said.contains("no session 'a' is waiting"), "{said}");
    let mut sender = site.send("a", 3, ["--file".as_ref(), file.as_path()]);
    let (status, said) = go();
    assert!(status == 2 && said.contains("no node that the session"), "{said}");
    let mut nodes = site.receivers(&mut sender, "a", 1);
    assert_eq!(go().0, 0);
    assert_eq!((sender.end(), nodes[0].end()), (0, 0), "{}", sender.said());
    assert!(site.holds("out-0", &[&file]));
}

/// Both nodes are on this host, at two addresses: the file decides which of them connects to the golden node.
#[test]
fn a_file_sets_the_chains_order() {
    let site = Site::new();
    let file = site.noise("file", 9 * MIB, 1);
    for (lines, first) in [("::1\n127.0.0.1\n", 1), ("127.0.0.1 # first\n", 0)] {
        fs::write(site.path("order"), lines).unwrap();
        let mut command = site.kactl();
        command.args(["-v", "send", "--json", "--session", "a", "-n", "2", "--listen", "[::]:0"]);
        command.arg("--order").arg(format!("file:{}", site.path("order").display()));
        command.arg("--file").arg(&file);
        let mut sender = Process::start(&mut command, "send", &site.path(""));
        sender.wait_for("waits for", 1);
        let said = sender.said();
        let port = said.split_once("on port ").unwrap().1.lines().next().unwrap();
        let mut nodes = Vec::new();
        for (i, address) in ["127.0.0.1", "[::1]"].into_iter().enumerate() {
            let mut command = site.agent("a", &format!("{address}:{port}"));
            command.arg("--file").arg(site.path(&format!("out-{i}")));
            nodes.push(Process::start(&mut command, &format!("node-{i}"), &site.path("")));
            sender.wait_for("has joined", i + 1);
        }
        assert_eq!((sender.end(), nodes[0].end(), nodes[1].end()), (0, 0, 0), "{}", sender.said());
        let summary = summary(&sender);
        let positions = [0, 1].map(|i| summary["nodes"][i]["position"].as_u64().unwrap());
        assert_eq!(positions[first], 1, "{positions:?}");
        assert!((0..2).all(|i| site.holds(&format!("out-{i}"), &[&file])));
    }
    let mut sender = site.start_send("a", 1, ["--file", "/dev/null", "--order", "file:/nonexistent"]);
    assert!(sender.end() == 2 && sender.said().contains("/nonexistent"), "{}", sender.said());
}
