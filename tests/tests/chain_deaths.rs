//! Nodes die during a stream, one or several, with or without closing connections: every survivor has exactly
//! the right bytes, every dead node is named with its reason, and nothing hangs.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::thread;

use ka_tests::halting::Halting;
use ka_tests::process::Process;
use ka_tests::site::{DEAD_AFTER, Gate, MIB, Site, chain_order, reasons};
use rustix::process::Signal;

/// A stream that stops in the middle until the test lets it continue.
struct Halted {
    site: Site,
    stream: Halting,
    sender: Process,
    nodes: Vec<Process>,
    /// The nodes' indexes in the order of the chain.
    chain: Vec<usize>,
}

impl Halted {
    /// Starts a stream to `count` nodes that waits in the middle, once all nodes have the first half.
    fn at_the_source(count: usize, dead_after: &str) -> Self {
        let site = Site::new();
        let stream = Halting::new(&site, 20 * MIB);
        let mut sender = site.send(
            "a",
            count,
            ["--rounds", "1", "--dead-after", dead_after, "--command", stream.command()],
        );
        let nodes = site.receivers(&mut sender, "a", count);
        stream.wait_for_half(&site, count);
        let chain = chain_order(&nodes);
        Self { site, stream, sender, nodes, chain }
    }

    fn kill(&mut self, places: &[usize]) {
        for place in places {
            self.nodes[self.chain[*place]].kill();
        }
    }

    /// Lets the stream continue; all nodes except those at `dead` places must be served, and the dead ones
    /// must be named.
    fn survive(mut self, dead: &[usize]) -> Vec<String> {
        self.stream.open();
        assert_eq!(self.sender.end(), 1, "{}", self.sender.said());
        let reasons = reasons(&self.sender);
        assert_eq!(reasons.len(), self.nodes.len());
        let mut why = Vec::new();
        for (place, i) in self.chain.iter().enumerate() {
            let reason = reasons[*i].clone();
            if dead.contains(&place) {
                why.push(reason.unwrap_or_else(|| panic!("the node at {place} counts as complete")));
            } else {
                assert_eq!(reason, None, "the node at {place} of {dead:?}\n{}", self.sender.said());
                assert_eq!(self.nodes[*i].end(), 0, "{}", self.nodes[*i].said());
                let is_there = self.stream.is_in(&self.site, &format!("out-{i}"));
                assert!(is_there, "the node at {place} of {dead:?}");
            }
        }
        why
    }
}

#[test]
fn the_dead_are_left_behind_wherever_they_stood() {
    for dead in [&[0][..], &[2], &[4], &[1, 2], &[0, 4], &[0, 1, 2, 3]] {
        let mut run = Halted::at_the_source(5, DEAD_AFTER);
        run.kill(dead);
        for reason in run.survive(dead) {
            assert!(reason.contains("heartbeats have ended"), "{reason}");
        }
    }
}

#[test]
fn who_dies_after_another_is_left_behind_too() {
    let mut run = Halted::at_the_source(4, DEAD_AFTER);
    run.kill(&[1]);
    // The chain has healed when the successor has a link towards the golden node again.
    run.sender.wait_for("heartbeats have ended", 1);
    run.kill(&[2]);
    run.sender.wait_for("heartbeats have ended", 2);
    run.survive(&[1, 2]);
}

#[test]
fn when_all_die_the_session_ends() {
    // No node is left to notice that the second one is dead, so only its silence of ten times that reveals
    // it.
    let mut run = Halted::at_the_source(2, "3");
    run.kill(&[0, 1]);
    assert_eq!(run.sender.end(), 1, "{}", run.sender.said());
    assert!(reasons(&run.sender).iter().all(Option::is_some));
}

/// A stopped process keeps its connections open, and is silent.
#[test]
fn silence_is_death() {
    // In parallel: each spends most of its time waiting.
    thread::scope(|scope| {
        for silent in [0, 1, 2] {
            scope.spawn(move || {
                let run = Halted::at_the_source(3, DEAD_AFTER);
                run.nodes[run.chain[silent]].signal(Signal::STOP);
                let why = run.survive(&[silent]);
                assert!(why[0].contains("has gone silent"), "{why:?}");
            });
        }
    });
}

/// All windows are full at the time of the death: the data that the survivors need are in their predecessors'
/// memory, or lost.
#[test]
fn survivors_live_on_their_predecessors_memory() {
    for dead in [&[1][..], &[0, 1], &[0, 2]] {
        let site = Site::new();
        let file = site.noise("file", 40 * MIB, 1);
        let mut sender = site.send("a", 4, ["--dead-after", DEAD_AFTER, "--file", file.to_str().unwrap()]);
        let gates: Vec<Gate> = (0..4).map(|i| site.gate(&format!("gate-{i}"))).collect();
        let mut nodes: Vec<Process> = (0..4)
            .map(|i| {
                let out = site.path(&format!("out-{i}"));
                let command = format!(
                    "head -c 1000000 > {0}; cat {1} - >> {0}",
                    out.display(),
                    gates[i].path().display()
                );
                site.receiver(&mut sender, "a", i, ["--command", &command])
            })
            .collect();
        let chain = chain_order(&nodes);
        // Every node's writer has started and waits.
        for i in 0..4 {
            site.wait_for_bytes(&format!("out-{i}"), 1_000_000);
        }
        for place in dead {
            nodes[chain[*place]].kill();
        }
        for (place, i) in chain.iter().enumerate() {
            if !dead.contains(&place) {
                gates[*i].open();
            }
        }
        assert_eq!(sender.end(), 1, "{}", sender.said());
        for (place, i) in chain.iter().enumerate() {
            if !dead.contains(&place) {
                assert_eq!(nodes[*i].end(), 0, "{}", nodes[*i].said());
                assert!(site.holds(&format!("out-{i}"), &[&file]), "the node at {place} of {dead:?}");
            }
        }
    }
}

/// A node that continues after it was declared dead is notified of that, and does not claim to have anything.
#[test]
fn who_wakes_up_too_late_knows_it() {
    let mut run = Halted::at_the_source(2, DEAD_AFTER);
    let silent = run.chain[0];
    run.nodes[silent].signal(Signal::STOP);
    run.sender.wait_for("has gone silent", 1);
    run.nodes[silent].signal(Signal::CONT);
    assert_eq!(run.nodes[silent].end(), 1, "{}", run.nodes[silent].said());
    assert!(run.nodes[silent].said().contains("has gone silent"), "{}", run.nodes[silent].said());
    assert!(!run.site.path(&format!("out-{silent}")).exists());
    run.survive(&[0]);
}
