//! The operator at a terminal is asked again about a machine that has booted again and whose disk cannot be
//! identified: it is erased only after a complete `yes`.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`, `/dev/ptmx`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::failure::{Failure, FailureKind};
use ka::keys::JoinKey;
use ka::step::Step;
use ka::wire::control::ToController;
use ka_tests::golden_machine::{join_with, kactl_run_for, on_a_golden_machine, set_up};
use ka_tests::process::Process;
use ka_tests::site::summary;
use ka_tests::terminal::{END, Terminal};

const GB: u64 = 1_000_000_000;

#[test]
fn only_a_yes_erases_a_machine_that_cannot_be_recognised() {
    on_a_golden_machine("runs_on_this_machine");
}

#[test]
#[ignore = "run by only_a_yes_erases_a_machine_that_cannot_be_recognised"]
fn runs_on_this_machine() {
    let join = set_up();
    for (typed, is_erased) in [("yes\n", true), ("perhaps\nYES\n", true), ("no\n", false), (END, false)] {
        check(&join, typed, is_erased);
    }
}

fn fails(reason: &str, transient: bool) -> ToController {
    let kind = FailureKind::System { reason: reason.into() };
    ToController::Failed(Failure { step: Step::PrepareDisks, kind, transient, stream: None })
}

fn check(join: &JoinKey, typed: &str, is_erased: bool) {
    let (terminal, work) = (Terminal::new(), tempfile::tempdir().unwrap());
    let mut run = Process::start_with(&mut kactl_run_for(1, &[]), terminal.input(), "run", work.path());
    // Its disk has neither a serial number nor a unique name.
    let first = join_with(join, 1, GB, "", 1);
    run.wait_for("of this machine (1)? [yes/no]", 1);
    terminal.types("yes\n");
    assert_eq!(first.wait_for_plan().unwrap().disks.len(), 1);
    first.tell(fails("its power is cut", true));
    run.wait_for("its power is cut", 1);

    let second = join_with(join, 1, GB, "", 2);
    drop(first);
    run.wait_for("has booted again, and sda", 1);
    run.wait_for("of this machine? Type yes or no:", 1);
    terminal.types(typed);
    let plan = second.wait_for_plan();
    if is_erased {
        assert_eq!(plan.unwrap().disks[0].boot, "2", "the disk that was shown now");
        let answered = run.said().matches("Please answer yes or no.").count();
        assert_eq!(answered, usize::from(typed.starts_with("perhaps")));
        second.tell(fails("enough is seen", false));
        second.leave().unwrap();
    } else {
        let reason = plan.unwrap_err().to_string();
        assert!(reason.contains("did not confirm it again"), "{reason}");
    }
    assert_eq!(run.end(), 1, "{}", run.said());
    let summary = summary(&run);
    let nodes = summary["nodes"].as_array().unwrap();
    let said = |reason: &str| nodes.iter().any(|node| node["reason"].as_str().unwrap().contains(reason));
    if is_erased {
        assert!(nodes.len() == 1 && said("enough is seen"), "{summary}");
    } else {
        assert!(
            nodes.len() == 2 && said("its power is cut") && said("did not confirm it again"),
            "{summary}"
        );
    }
}
