//! A run whose process is killed after it has admitted a machine: another one goes on with the same admission, name and
//! disk, and asks nobody.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::failure::{Failure, FailureKind};
use ka::step::Step;
use ka::wire::control::ToController;
use ka_tests::golden_machine::{join_with, kactl, kactl_run_for, on_a_golden_machine, set_up};
use ka_tests::process::Process;
use ka_tests::site::summary;

const GB: u64 = 1_000_000_000;

#[test]
fn another_process_goes_on_with_what_was_admitted() {
    on_a_golden_machine("runs_on_this_machine");
}

fn fails(reason: &str, transient: bool) -> ToController {
    let kind = FailureKind::System { reason: reason.into() };
    ToController::Failed(Failure { step: Step::PrepareDisks, kind, transient, stream: None })
}

#[test]
#[ignore = "run by another_process_goes_on_with_what_was_admitted"]
fn runs_on_this_machine() {
    let (join, work) = (set_up(), tempfile::tempdir().unwrap());
    let mut command = kactl_run_for(1, &["--yes", "--hostname", "node%d", "--rounds", "1"]);
    let mut run = Process::start(&mut command, "run", work.path());
    let node = join_with(&join, 1, GB, "SERIAL", 1);
    let plan = node.wait_for_plan().unwrap();
    run.kill();

    let mut resumed = Process::start(kactl().args(["resume", "kainstall"]), "resumed", work.path());
    resumed.wait_for("is back", 1);
    // It boots again, as another node with another key: it is the machine that was admitted.
    node.tell(fails("its power is cut", true));
    resumed.wait_for("its power is cut", 1);
    let again = join_with(&join, 1, GB, "SERIAL", 2);
    drop(node);
    let plan_again = again.wait_for_plan().unwrap();
    assert_eq!(plan_again.disks[0].serial, plan.disks[0].serial);
    let name = |plan: &ka::plan::ConfirmedPlan| plan.plan.finish.name.as_ref().unwrap().hostname.clone();
    assert_eq!((name(&plan), name(&plan_again)), ("node1".into(), "node1".into()));
    again.tell(fails("enough is seen", false));
    again.leave().unwrap();
    assert_eq!(resumed.end(), 1, "{}", resumed.said());
    let summary = summary(&resumed);
    let nodes = summary["nodes"].as_array().unwrap();
    assert!(nodes.len() == 1 && nodes[0]["reason"].as_str().unwrap().contains("enough is seen"), "{summary}");
}
