//! What `kactl run` does with nodes whose disks are as the plan wants them, and with others: dry, and in earnest. The
//! nodes are this test's threads, which tell of disks that they don't have.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::failure::{Failure, FailureKind};
use ka::keys::JoinKey;
use ka::plan::ConfirmedPlan;
use ka::step::Step;
use ka::wire::control::ToController;
use ka_tests::golden_machine::{self, on_a_golden_machine, set_up, start_run};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::thread::{self, JoinHandle};

#[test]
fn nodes_are_told_apart_before_anything_is_written() {
    on_a_golden_machine("runs_on_this_machine");
}

#[test]
#[ignore = "run by nodes_are_told_apart_before_anything_is_written"]
fn runs_on_this_machine() {
    let join = set_up();
    check_dry_run(&join);
    check_run(&join);
}

/// What a node hears: a plan, or why there is none. One with a plan fails at once.
fn node(join: &JoinKey, number: u8, size: u64) -> JoinHandle<Result<Box<ConfirmedPlan>, String>> {
    let join = join.clone();
    thread::spawn(move || {
        let session = golden_machine::join(&join, number, size);
        let plan = session.wait_for_plan().map_err(|e| e.to_string())?;
        let reason = "its disk is only told of".to_owned();
        session.fail(Failure::own(Step::PrepareDisks, FailureKind::Disk { reason }));
        session.tell(ToController::Done);
        session.leave().map_err(|e| e.to_string())?;
        Ok(plan)
    })
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| {
        panic!("{e}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    })
}

fn check_dry_run(join: &JoinKey) {
    let kactl = start_run(&["--dry-run"]);
    let nodes = [node(join, 1, 1_000_000_000), node(join, 2, 2_000_000_000)];
    for node in nodes {
        let heard = node.join().unwrap().unwrap_err();
        assert!(heard.contains("dry run"), "{heard}");
    }
    let output = kactl.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "a node would be refused");
    let told = json(&output);
    assert_eq!((&told["dry_run"], &told["ok"]), (&Value::Bool(true), &Value::Bool(false)));
    let of = |mac: &str| told["nodes"].as_array().unwrap().iter().find(|n| n["mac"] == mac).unwrap().clone();
    let good = of("52:54:00:00:00:01");
    let disk = &good["disks"][0];
    assert_eq!(disk["disk"]["contents"][0]["label"], "old", "what is on the disk now");
    let new = &disk["outcome"]["erase"]["partitions"];
    assert_eq!(new[0]["makes"]["file_system"]["mount_points"][0], "/");
    assert_eq!(new[1]["makes"]["file_system"]["kind"], "swap");
    let other = of("52:54:00:00:00:02");
    let reason = other["reason"].as_str().unwrap();
    assert!(reason.contains("2.0 GB"), "{reason}");
    assert!(!Path::new("/ka/log").exists(), "a dry run keeps no logs");
}

fn check_run(join: &JoinKey) {
    let kactl = start_run(&["--yes", "--rounds", "1"]);
    let (good, other) = (node(join, 1, 1_000_000_000), node(join, 2, 2_000_000_000));
    let heard = other.join().unwrap().unwrap_err();
    assert!(heard.contains("2.0 GB"), "{heard}");
    let plan = good.join().unwrap().unwrap();
    assert_eq!(plan.disks[0].serial, "SERIAL-1", "the disk that was shown");
    assert_eq!(plan.plan.storage.file_systems().next().unwrap().mount_point.as_deref(), Some("/"));
    let output = kactl.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    let field = |name: &str| -> Vec<String> {
        let nodes = told["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node[name].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(field("failed_step"), ["prepare the disks", "check the disks"]);
    assert_eq!(field("step"), ["prepare_disks", "check_disks"]);
    assert_eq!(field("kind"), ["disk", "refused"]);
}
