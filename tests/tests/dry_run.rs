//! What `kactl run` does with nodes whose disks are as the plan wants them, and with others: dry, and in earnest. The
//! nodes are this test's threads, which tell of disks that they don't have.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::inventory::{Card, Content, Disk, Inventory};
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Plan};
use ka::wire::control::{Failure, Hello, ToController};
use ka::wire::keys::{JoinKey, KeyPair};
use ka_agent::disk::prepare;
use ka_agent::session::{JoinError, Session};
use ka_tests::chroot::in_chroot;
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::process::{program, wait_until};
use ka_tests::succeed;
use ka_tests::tool::run;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

#[test]
fn nodes_are_told_apart_before_anything_is_written() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let mut fs = FileSystemPlan::new(1, FileSystemKind::Ext4);
    fs.mount_point = Some("/".into());
    let desc = Description::parse("linux fill\nswap 16\n", "desc").unwrap();
    let plan = DiskPlan { file_systems: vec![fs], ..DiskPlan::new(disk.node().into(), desc) };
    prepare(&[plan], root).unwrap().unmount().unwrap();
    run("mount", [&format!("{}p1", disk.node()), root.to_str().unwrap()]);
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("kactl"), "").unwrap();
    let mounts = format!("mount --bind {:?} \"$1/kactl\"", program("kactl"));
    let inner = in_chroot(root, &disk, &mounts, "runs_on_this_machine");
    run("umount", [root.to_str().unwrap()]);
    assert!(inner, "the test in the chroot failed: see above");
}

#[test]
#[ignore = "run by nodes_are_told_apart_before_anything_is_written"]
fn runs_on_this_machine() {
    let join = set_up();
    check_dry_run(&join);
    check_run(&join);
}

/// What `kactl init` and `kactl image` would make.
fn set_up() -> JoinKey {
    let dirs =
        "[directories]\nstate = \"/ka/state\"\nlog = \"/ka/log\"\nrun = \"/ka/run\"\nkeys = \"/ka/keys\"\n";
    fs::create_dir_all("/ka/state/boot").unwrap();
    fs::create_dir_all("/ka/state/stage2").unwrap();
    fs::write("/ka/ka.toml", dirs).unwrap();
    succeed(kactl().arg("init"));
    fs::write("/ka/state/boot/vmlinuz", "").unwrap();
    fs::copy("/ka/keys/join.key", "/ka/state/boot/all.rdz").unwrap();
    JoinKey::from_text(&fs::read_to_string("/ka/keys/join.key").unwrap()).unwrap()
}

fn kactl() -> Command {
    let mut command = Command::new("/kactl");
    command.args(["--config", "/ka/ka.toml"]);
    command
}

/// `kactl run` for two nodes; the golden disk has no such name, so it is the one of the root.
fn start(more: &[&str]) -> JoinHandle<Output> {
    let mut command = kactl();
    command.args(["run", "-n", "2", "-p", "sda:size=1G", "--json"]).args(more);
    command.stdin(Stdio::null());
    thread::spawn(move || command.output().unwrap())
}

/// What a node hears: a plan, or why there is none. One with a plan fails at once.
fn node(join: &JoinKey, number: u8, size: u64) -> JoinHandle<Result<Box<Plan>, String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mac = format!("52:54:00:00:00:{number:02x}");
    let old =
        Content { device: "sda1".into(), size: 1 << 20, kind: Some("xfs".into()), label: Some("old".into()) };
    let disk = Disk {
        name: "sda".into(),
        size,
        sector_size: 512,
        bus: "ata".into(),
        table: Some("gpt".into()),
        contents: vec![old],
        ..Disk::default()
    };
    let hello = Hello {
        session: "kainstall".into(),
        version: String::new(),
        key: KeyPair::generate().unwrap().public,
        data_port: listener.local_addr().unwrap().port(),
        window: 8 << 20,
        inventory: Inventory {
            cards: vec![Card { name: "eth0".into(), mac, addresses: Vec::new() }],
            disks: vec![disk],
            ..Inventory::default()
        },
        erasable: true,
        resume: None,
    };
    let join = join.clone();
    thread::spawn(move || {
        let mut session = None;
        wait_until("kactl listens", || {
            let address = SocketAddr::from(([127, 0, 0, 1], 30765));
            match Session::join(address, &join, hello.clone(), listener.try_clone().unwrap()) {
                Ok(joined) => session = Some(joined),
                // An earlier run's port may still be closing.
                Err(JoinError::Unreachable { .. } | JoinError::Channel { .. }) => {}
                Err(e) => panic!("{e}"),
            }
            session.is_some()
        });
        let session = session.unwrap();
        let plan = session.wait_for_plan().map_err(|e| e.to_string())?;
        let reason = "its disk is only told of".to_owned();
        session.fail(Failure { step: "test".into(), reason, passing: false, stream: None });
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
    let kactl = start(&["--dry-run"]);
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
    let kactl = start(&["--yes", "--rounds", "1"]);
    let (good, other) = (node(join, 1, 1_000_000_000), node(join, 2, 2_000_000_000));
    let heard = other.join().unwrap().unwrap_err();
    assert!(heard.contains("2.0 GB"), "{heard}");
    let plan = good.join().unwrap().unwrap();
    assert_eq!(plan.disks[0].file_systems[0].mount_point.as_deref(), Some("/"));
    let output = kactl.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = json(&output);
    let steps: Vec<_> =
        told["nodes"].as_array().unwrap().iter().map(|n| n["failed_step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["test", "check the disks"]);
}
