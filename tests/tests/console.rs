//! Port 12345 of a node, with real processes on both sides.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::process::Output;

use ka::keys::KeyPair;
use ka_tests::console::Golden;
use ka_tests::process::{Process, wait_until};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(golden: &Golden, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = golden.dials(words).output().unwrap();
    (status.code().unwrap(), text(&stdout), text(&stderr))
}

#[test]
fn a_log_is_shown_and_followed() {
    let golden = Golden::new();
    let node = golden.node(1);
    node.logs("[    0.002] network ...\n");
    let (status, out, err) = run(&golden, &["log", "node1"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, node.log().as_str(), ""));
    let (_, tail, _) = run(&golden, &["log", "node1", "--last", "30"]);
    assert_eq!(tail, "[    0.002] network ...\n");
    let folder = tempfile::tempdir().unwrap();
    let followers: Vec<Process> = ["a", "b"]
        .map(|name| Process::start(&mut golden.dials(&["log", "node1", "-f"]), name, folder.path()))
        .into();
    for line in ["[    1.000] one\n", "[    2.000] two\n"] {
        node.logs(line);
        for follower in &followers {
            wait_until(line, || follower.printed().ends_with(line));
        }
    }
    // A follower is notified of the node's end.
    drop(node);
    for mut follower in followers {
        assert_eq!(follower.end(), 2);
        assert!(follower.said().contains("node1: the connection is lost"), "{}", follower.said());
    }
}

#[test]
fn a_command_runs_on_all_nodes_and_the_worst_status_counts() {
    let golden = Golden::new();
    let nodes = [golden.node(1), golden.node(2)];
    let (status, out, err) = run(&golden, &["exec", "node[1-2]", "--", "echo out; echo err >&2; exit 0"]);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!((status, lines), (0, vec!["node1: out", "node2: out"]), "{err}");
    assert!(err.contains("node1: err\n") && err.contains("node2: err\n"), "{err}");
    for node in &nodes {
        node.wait_for_log("executes: echo out; echo err >&2; exit 0: exit status 0");
        assert!(node.log().contains("(127."), "who it was: {}", node.log());
    }
    // The third node does not exist.
    golden.knows(3, &KeyPair::generate().unwrap());
    let (status, _, err) = run(&golden, &["exec", "@all", "--", "exit", "3"]);
    assert_eq!(status, 255, "{err}");
    assert!(err.contains("kactl: node[1-2]: exit status 3\n"), "{err}");
    assert!(err.contains("kactl: node3: 127.77.0.3 does not answer on port"), "{err}");
    let (status, out, err) = run(&golden, &["exec", "node1", "--no-prefix", "--", "kill", "-9", "$$"]);
    assert_eq!((status, out.as_str()), (137, ""), "{err}");
    assert!(err.contains("node1: ended by signal 9"), "{err}");
    // Bytes arrive unchanged, regardless of their number.
    let count =
        golden.dials(&["exec", "node1", "--no-prefix", "--", "head -c 3000000 /dev/zero"]).output().unwrap();
    assert_eq!((count.stdout.len(), count.status.code()), (3_000_000, Some(0)));
    let (status, _, err) = run(&golden, &["exec", "node7", "--", "true"]);
    assert!(status == 2 && err.contains("node7: no machine of this name was seen"), "{err}");
}

#[test]
fn a_machine_that_has_not_joined_shows_its_log_and_no_more() {
    let golden = Golden::new();
    let node = golden.stranger(1, &[]);
    let address = node.address.to_string();
    let (status, out, err) = run(&golden, &["log", &address]);
    assert_eq!((status, out.as_str()), (0, node.log().as_str()), "{err}");
    assert!(err.contains("is not proven to be that one"), "{err}");
    let (status, _, err) = run(&golden, &["exec", &address, "--", "true"]);
    assert!(status == 255 && err.contains("only its log can be read"), "{err}");
    // A node that has booted again has a different key from the one on record.
    golden.knows(1, &KeyPair::generate().unwrap());
    let (status, _, err) = run(&golden, &["exec", "node1", "--", "true"]);
    assert!(status == 255 && err.contains("does not have the key with which this one last joined"), "{err}");
    let (status, out, err) = run(&golden, &["log", "node1"]);
    assert!(status == 0 && !out.is_empty() && err.contains("not proven"), "{err}");
}

#[test]
fn another_golden_node_gets_nothing() {
    let golden = Golden::new();
    let node = golden.node(1);
    let mut other = Golden::new();
    other.port = golden.port;
    other.knows(1, &node.key);
    for words in [&["log", "node1"][..], &["exec", "node1", "--", "true"]] {
        let (status, out, err) = run(&other, words);
        assert!(status != 0 && out.is_empty(), "{words:?}: {out}{err}");
        assert!(
            err.contains("join key of this golden node") || err.contains("does not have the key"),
            "{err}"
        );
    }
    assert!(!node.log().contains("executes"), "{}", node.log());
}

#[test]
fn machines_are_listed() {
    let golden = Golden::new();
    let list = |words: &[&str]| golden.kactl(words).output().unwrap();
    assert_eq!(text(&list(&["machines"]).stdout), "No machine has joined a run yet.\n");
    golden.knows(1, &KeyPair::generate().unwrap());
    golden.knows(2, &KeyPair::generate().unwrap());
    let out = text(&list(&["machines"]).stdout);
    assert!(out.lines().count() == 3 && out.contains("node2  02:00:00:00:00:02  127.77.0.2"), "{out}");
    let out = text(&list(&["machines", "show", "node[1-2]"]).stdout);
    assert!(out.contains("mac        02:00:00:00:00:01") && out.contains("node2"), "{out}");
    let out = text(&list(&["machines", "--json"]).stdout);
    let records: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records[1]["name"], "node2");
    let missing = list(&["machines", "show", "node9"]);
    assert_eq!((missing.status.code(), text(&missing.stderr).contains("node9: no machine")), (Some(2), true));
}
