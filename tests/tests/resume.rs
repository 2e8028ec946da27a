//! A session whose process is killed in any of its phases, and another process that continues it.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::os::unix::fs::MetadataExt;

use ka_tests::halting::Halting;
use ka_tests::process::Process;
use ka_tests::site::{MIB, Site, reasons, summary};

/// Receivers are patient: a busy machine must not affect the result.
const PATIENCE: [&str; 2] = ["--patience", "10m"];

fn resume(site: &Site, run: &str, name: &str) -> Process {
    Process::start(site.kactl().args(["resume", run]), name, &site.path(""))
}

#[track_caller]
fn ends_well(process: &mut Process) {
    assert_eq!(process.end(), 0, "{}", process.said());
}

#[test]
fn killed_while_nodes_gather_and_again_while_they_receive() {
    let site = &Site::new();
    let halting = Halting::new(site, 12 * MIB);
    let mut sender = site.send("a", 2, [&["--command", halting.command()][..], &PATIENCE].concat());
    let mut nodes = site.receivers(&mut sender, "a", 1);
    sender.kill();

    // The waiting node is back, and with another node the stream starts.
    let mut second = resume(site, "a", "second");
    second.wait_for("is back", 1);
    let sink = ["--file".into(), site.path("out-1")];
    nodes.push(site.receive("a", "node-1", sink));
    halting.wait_for_half(site, 2);
    second.kill();

    // Only one process may continue the session.
    halting.open_later_rounds();
    let mut third = resume(site, "a-1", "third");
    third.wait_for("is back", 2);
    let mut rival = resume(site, "a", "rival");
    assert_eq!(rival.end(), 2, "{}", rival.said());
    assert!(rival.said().contains("another process holds"), "{}", rival.said());
    nodes.iter_mut().for_each(ends_well);
    ends_well(&mut third);
    assert!((0..2).all(|i| halting.is_in(site, &format!("out-{i}"))));
    assert!(reasons(&third).iter().all(Option::is_none));
    let summary = summary(&third);
    let rounds: Vec<_> = summary["nodes"].as_array().unwrap().iter().map(|node| &node["round"]).collect();
    assert_eq!(rounds, [2, 2]);

    // A session that has ended is not restarted.
    let mut after = resume(site, "a", "after");
    assert_eq!(after.end(), 2);
    assert!(after.said().contains("nothing is left to do"), "{}", after.said());
    // The command that the killed process was reading from ends, too.
    halting.end_orphans();
}

#[test]
fn a_node_that_is_complete_stays_so_and_one_that_writes_is_waited_for() {
    let site = Site::new();
    let (data, gate) = (site.noise("data", 3 * MIB, 3), site.gate("gate"));
    let arguments = [&["--file", data.to_str().unwrap()][..], &PATIENCE].concat();
    let mut sender = site.send("a", 2, arguments);
    let mut first = site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("out-0")]);
    let slow = format!("cat > {}; cat {}", site.path("out-1").display(), gate.path().display());
    let mut second = site.receiver(&mut sender, "a", 1, ["--command".to_owned(), slow]);
    ends_well(&mut first);
    site.wait_for_bytes("out-1", 3 * MIB);
    sender.kill();
    let inode = fs::metadata(site.path("out-0")).unwrap().ino();

    let mut resumed = resume(&site, "a", "resumed");
    resumed.wait_for("is back", 1);
    gate.open();
    ends_well(&mut second);
    ends_well(&mut resumed);
    assert!(site.holds("out-0", &[&data]) && site.holds("out-1", &[&data]));
    assert_eq!(fs::metadata(site.path("out-0")).unwrap().ino(), inode, "it was not sent again");
    let summary = summary(&resumed);
    assert_eq!(summary["rounds"], 1);
    assert!(reasons(&resumed).iter().all(Option::is_none));
}

#[test]
fn a_session_with_other_keys_is_not_gone_on_with() {
    let site = Site::new();
    let data = site.noise("data", MIB, 4);
    let mut sender = site.send("a", 2, ["--file", data.to_str().unwrap()]);
    sender.kill();
    let mut init = Process::start(site.kactl().args(["init", "--force"]), "init", &site.path(""));
    ends_well(&mut init);
    let mut resumed = resume(&site, "a", "resumed");
    assert_eq!(resumed.end(), 2);
    assert!(resumed.said().contains("restore the old key"), "{}", resumed.said());
}
