//! A node that is far slower than its stream has been is taken out, and nobody else; a slow source costs nobody
//! its place.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use ka_tests::process::Process;
use ka_tests::site::{DEAD_AFTER, MIB, Site, reasons};

/// About 0.3 MB/s, for as long as something comes.
const CRAWL: &str = "while :; do head -c 32768 > /dev/null; sleep 0.1; done";

#[test]
fn a_slow_writer_is_taken_out_and_named() {
    let site = Site::new();
    let file = site.noise("file", 48 * MIB, 1);
    // One round: in a second one it would be alone, and nobody waits for a chain's only node.
    let options =
        ["--rounds", "1", "--dead-after", DEAD_AFTER, "--slow-after", "2", "--file", file.to_str().unwrap()];
    let mut sender = site.send("a", 4, options);
    let mut nodes: Vec<Process> = (0..4)
        .map(|i| {
            let out = site.path(&format!("out-{i}"));
            let sink = if i == 1 { ["--command", CRAWL] } else { ["--file", out.to_str().unwrap()] };
            site.receiver(&mut sender, "a", i, sink)
        })
        .collect();
    assert_eq!(sender.end(), 1, "{}", sender.said());
    for (i, reason) in reasons(&sender).into_iter().enumerate() {
        if i == 1 {
            let reason = reason.unwrap_or_else(|| panic!("the slow node counts as complete"));
            assert!(reason.contains("where the chain took"), "{reason}");
            assert!(reason.contains("its writer blocked"), "{reason}");
            assert_eq!(nodes[i].end(), 1, "{}", nodes[i].said());
        } else {
            assert_eq!(reason, None, "node {i}\n{}", sender.said());
            assert_eq!(nodes[i].end(), 0, "{}", nodes[i].said());
            assert!(site.holds(&format!("out-{i}"), &[&file]), "node {i}");
        }
    }
}

#[test]
fn a_slow_source_removes_nobody() {
    let site = Site::new();
    let (fast, slow) = (site.noise("fast", 20 * MIB, 1), site.noise("slow", 20 * 1024, 2));
    // Fast at first, so that there is a rate to fall short of; then a stall of several times --slow-after.
    let source = format!(
        "cat {}; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.4; cat {}; done",
        fast.display(),
        slow.display()
    );
    let mut sender =
        site.send("a", 3, ["--dead-after", DEAD_AFTER, "--slow-after", "1", "--command", &source]);
    let mut nodes = site.receivers(&mut sender, "a", 3);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (i, node) in nodes.iter_mut().enumerate() {
        assert_eq!(node.end(), 0, "{}", node.said());
        let mut parts = vec![fast.as_path()];
        parts.extend([slow.as_path(); 10]);
        assert!(site.holds(&format!("out-{i}"), &parts), "node {i}");
    }
}

/// Nobody waits for a chain's only node, so it may take its time.
#[test]
fn an_only_node_may_be_slow() {
    let site = Site::new();
    let file = site.noise("file", 10 * MIB, 1);
    let out = site.path("out");
    let mut sender = site.send("a", 1, ["--slow-after", "1", "--file", file.to_str().unwrap()]);
    let command = format!("sleep 4; cat > {}", out.display());
    let mut node = site.receiver(&mut sender, "a", 0, ["--command", &command]);
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert_eq!(node.end(), 0, "{}", node.said());
    assert!(site.holds("out", &[&file]));
}
