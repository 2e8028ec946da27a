//! A whole `kactl run`, from the site's command before the reading to the first boots: names, the tree that
//! is read, nodes that leave one by one, and what is undone however the run ends. The nodes are this test's
//! threads; they unpack into directories.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread::{self, JoinHandle};

use ka::keys::JoinKey;
use ka::plan::{ConfirmedPlan, FirstBoot};
use ka::wire::control::ToController;
use ka_agent::receive::unpack_into;
use ka_agent::unpack::Options;
use ka_net::http::client;
use ka_tests::golden_machine::{join, kactl_run, on_a_golden_machine, set_up, start_run};
use ka_tests::process::{Process, wait_until};
use ka_tests::tool::run;
use rustix::process::Signal;
use serde_json::Value;

const SIZE: u64 = 1_000_000_000;

/// The actions of the site's commands are logged here, outside of what is copied.
const LOG: &str = "/ka/run/hooks";

#[test]
fn a_run_from_the_sites_first_command_to_the_first_boot() {
    on_a_golden_machine("clone_on_this_machine");
}

#[test]
#[ignore = "run by a_run_from_the_sites_first_command_to_the_first_boot"]
fn clone_on_this_machine() {
    let key = set_up();
    fs::create_dir_all("/ka/run").unwrap();
    if !ka_host::system::runs_units(Path::new("/")) {
        // Only its existence is checked. From here on the directory belongs to this test.
        run("mount", ["-t", "tmpfs", "none", "/usr/lib/systemd"]);
        fs::write("/usr/lib/systemd/systemd", "").unwrap();
    }
    for (file, text) in
        [("snapshot/etc/tree", "the snapshot's"), ("snapshot/usr/x", ""), ("tree", "the live one")]
    {
        let path = Path::new("/").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    check_run(&key);
    check_refused(&key);
    check_killed(&key);
}

/// A node that is cloned into a directory, and released.
struct Cloned {
    plan: Box<ConfirmedPlan>,
    tree: PathBuf,
}

fn node(key: &JoinKey, number: u8) -> JoinHandle<Result<Cloned, String>> {
    let key = key.clone();
    thread::spawn(move || {
        let session = join(&key, number, SIZE);
        let plan = session.wait_for_plan().map_err(|e| e.to_string())?;
        session.tell(ToController::Ready);
        let (stream, mut reader) = session.wait_for_stream().map_err(|e| e.to_string())?;
        // Not on the golden disk, of which it would become a part.
        let tree = PathBuf::from(format!("/dev/shm/ka-run-{}-{number}", std::process::id()));
        fs::create_dir_all(&tree).unwrap();
        unpack_into(&mut reader, &tree, &Options::default()).map_err(|e| e.to_string())?;
        session.complete(stream, reader.finish().map_err(|e| e.to_string())?);
        session.leave().map_err(|e| e.to_string())?;
        Ok(Cloned { plan, tree })
    })
}

fn told(first_boot: &FirstBoot, token: &str) -> Result<(), String> {
    client::send(&first_boot.controller, "POST", ka::first_boot::PATH, token.as_bytes())
        .map_err(|e| e.to_string())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(&output.stderr)))
}

fn logged() -> String {
    fs::read_to_string(LOG).unwrap_or_default()
}

const BEFORE: &str = "echo before $KA_RUN >> /ka/run/hooks; echo /snapshot";
const AFTER: &str = "echo after $KA_TREE >> /ka/run/hooks";

/// Two nodes are cloned from the snapshot, named, and released one after the other; one of them boots.
fn check_run(key: &JoinKey) {
    fs::write("/ka/hosts", "525400000002 head\n").unwrap();
    let kactl = start_run(&[
        "--yes",
        "--hosts",
        "/ka/hosts",
        "--hostname",
        "node%02d",
        "--delay",
        "1",
        "--wait-booted=10",
        "--before-read",
        BEFORE,
        "--after-read",
        AFTER,
    ]);
    let clones: Vec<Cloned> = [1, 2]
        .map(|number| node(key, number))
        .into_iter()
        .map(|node| node.join().unwrap().unwrap())
        .collect();
    for clone in &clones {
        assert_eq!(fs::read_to_string(clone.tree.join("etc/tree")).unwrap(), "the snapshot's");
        assert!(!clone.tree.join("tree").exists(), "the live tree was read");
        fs::remove_dir_all(&clone.tree).unwrap();
    }
    let name = |clone: &Cloned| clone.plan.plan.finish.name.as_ref().unwrap().hostname.clone();
    assert_eq!((name(&clones[0]), name(&clones[1])), ("node01".into(), "head".into()));
    let [one, two] = [0, 1].map(|i| clones[i].plan.plan.finish.first_boot.clone().unwrap());
    assert_ne!(one.token, two.token);
    assert!(told(&one, "a guess").unwrap_err().contains("403"));
    told(&one, &one.token).unwrap();
    let output = kactl.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "one of them has not come up");
    let summary = json(&output);
    let of = |name: &str| {
        summary["nodes"].as_array().unwrap().iter().find(|node| node["hostname"] == name).unwrap().clone()
    };
    assert_eq!((&of("node01")["phase"], &of("node01")["ok"]), (&"booted".into(), &true.into()));
    assert_eq!((&of("head")["phase"], &of("head")["failed_step"]), (&"failed".into(), &"first boot".into()));
    assert_eq!(logged(), "before kainstall\nafter /snapshot\n");
}

/// A failing command stops the run before any node has a plan, and what it began is undone.
fn check_refused(key: &JoinKey) {
    fs::remove_file(LOG).unwrap();
    let kactl =
        start_run(&["--yes", "--before-read", "echo >> /ka/run/hooks; exit 5", "--after-read", AFTER]);
    let nodes = [1, 2].map(|number| {
        let key = key.clone();
        thread::spawn(move || join(&key, number, SIZE).wait_for_plan().map(drop).map_err(|e| e.to_string()))
    });
    let output = kactl.join().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--before-read 'echo >> /ka/run/hooks; exit 5' failed: exit status 5"), "{said}");
    assert_eq!(logged(), "\nafter\n");
    // They try for a minute to reach it again, or until the next controller does not know them.
    drop(nodes);
}

/// A killed run leaves nothing behind.
fn check_killed(key: &JoinKey) {
    // Not SIGINT, which is ignored in background jobs of a script.
    for signal in [Signal::TERM, Signal::KILL] {
        fs::remove_file(LOG).unwrap();
        let mut command = kactl_run(&["--yes", "--before-read", BEFORE, "--after-read", AFTER]);
        command.stdout(Stdio::null());
        let mut kactl = Process::start(&mut command, "killed", Path::new("/ka/run"));
        let nodes: Vec<_> = [1, 2].map(|number| join(key, number, SIZE)).into_iter().collect();
        for node in &nodes {
            node.wait_for_plan().unwrap();
        }
        assert_eq!(logged(), "before kainstall\n");
        kactl.signal(signal);
        wait_until("kactl has ended", || kactl.has_ended());
        wait_until("all is undone", || logged().ends_with("after /snapshot\n"));
    }
}
