//! An unattended run from a profile: machines are switched on, those that do not appear are retried, and a
//! site's command gets the outcome. The nodes are this test's threads.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use ka::wire::control::ToController;
use ka_agent::receive::unpack_into;
use ka_agent::unpack::Options;
use ka_tests::golden_machine::{join, kactl, on_a_golden_machine, set_up};
use ka_tests::process::wait_until;

#[test]
fn an_unattended_run_wakes_retries_and_reports() {
    on_a_golden_machine("night_on_this_machine");
}

/// Records its requests in `/ka/run/power`; a machine is on once it was switched on.
const POWER: &str = "echo $KA_ACTION $KA_MAC >> /ka/run/power; case $KA_ACTION in \
    status) if [ -e /ka/run/on-$KA_MAC ]; then echo on; else echo off; fi;; \
    on|cycle) : > /ka/run/on-$KA_MAC;; esac";
const NOTIFY: &str =
    "while read -r line; do echo \"$KA_EVENT/$KA_RUN/$KA_STATUS: $line\" >> /ka/run/notified; done";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
#[ignore = "run by an_unattended_run_wakes_retries_and_reports"]
fn night_on_this_machine() {
    let key = set_up();
    fs::create_dir_all("/ka/run").unwrap();
    fs::write("/ka/macs", "525400000001\n525400000002\n525400000003\n").unwrap();
    fs::write("/ka/hosts", "525400000001 node01\n525400000002 node02\n525400000003 node03\n").unwrap();
    let bmc = format!(
        "[[bmc]]\nnodes = \"node[01-02],52:54:00:00:00:03\"\nmethod = \"command\"\ncommand = '''{POWER}'''\n"
    );
    fs::write("/ka/bmc.toml", bmc).unwrap();
    fs::set_permissions("/ka/bmc.toml", Permissions::from_mode(0o600)).unwrap();
    // The third is already on and in use.
    fs::write("/ka/run/on-52:54:00:00:00:03", "").unwrap();
    let profile = format!(
        "[defaults]\nloader = \"none\"\nbmc = \"/ka/bmc.toml\"\n[profile.night]\ncount = 3\ndisk = \"sda:size=1G\"\n\
         nodes = \"/ka/macs\"\nhosts = \"/ka/hosts\"\npower = \"on\"\npower-retry = 1\nnotify = '''{NOTIFY}'''\n"
    );
    File::options().append(true).open("/ka/ka.toml").unwrap().write_all(profile.as_bytes()).unwrap();

    let mut command = kactl();
    command.args(["run", "--profile", "night", "--json"]).stdin(Stdio::null());
    let run = thread::spawn(move || command.output().unwrap());
    wait_until("the first machine is switched on", || {
        read("/ka/run/power").contains("on 52:54:00:00:00:01\n")
    });
    assert!(read("/ka/run/power").contains("network-once 52:54:00:00:00:01\n"));
    let session = join(&key, 1, 1_000_000_000);
    let node = thread::spawn(move || {
        session.wait_for_plan().unwrap();
        session.tell(ToController::Ready);
        let (stream, mut reader) = session.wait_for_stream().unwrap();
        // Not on the golden disk, of which it would become a part.
        let tree = PathBuf::from(format!("/dev/shm/ka-night-{}", std::process::id()));
        fs::create_dir_all(&tree).unwrap();
        unpack_into(&mut reader, &tree, &Options::default()).unwrap();
        session.complete(stream, reader.finish().unwrap());
        session.leave().unwrap();
        fs::remove_dir_all(&tree).unwrap();
    });
    // The second does not appear, and is restarted because it was switched on here.
    wait_until("the second machine is restarted", || {
        read("/ka/run/power").contains("cycle 52:54:00:00:00:02\n")
    });
    let go = || kactl().args(["go", "kainstall"]).output().unwrap().status.success();
    wait_until("the run begins", go);
    node.join().unwrap();
    let output = run.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");

    let power = read("/ka/run/power");
    let asked =
        |machine: u8, action: &str| power.matches(&format!("{action} 52:54:00:00:00:0{machine}\n")).count();
    assert_eq!((asked(1, "on"), asked(3, "on"), asked(3, "cycle"), asked(3, "off")), (1, 0, 0, 0), "{power}");
    assert!(said.contains("these machines are on already and are left alone"), "{said}");
    assert!(said.contains("2 of 3 machines never appeared: node[02-03]"), "{said}");
    let notified = read("/ka/run/notified");
    assert!(notified.contains("end/kainstall/0: nodes          1 of 1 complete"), "{notified}");
    assert!(notified.contains("end/kainstall/0: never appeared node[02-03]"), "{notified}");

    // The machine's outcome and its log's key are recorded.
    let machines = kactl().arg("machines").output().unwrap();
    let machines = String::from_utf8_lossy(&machines.stdout).into_owned();
    let line = machines
        .lines()
        .find(|line| line.contains("52:54:00:00:00:01"))
        .unwrap_or_else(|| panic!("{machines}"));
    assert!(line.starts_with("node01 ") && line.ends_with("kainstall: complete"), "{machines}");
    let shown = kactl().args(["machines", "show", "node01"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("disk       sda 1.0 GB") && shown.contains("\ncode "), "{shown}");

    // A run that does not even start is reported, too; so is a start time in the past.
    let mut command = kactl();
    command.args(["run", "--profile", "night", "--at", "2020-01-01 02:00"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("--at: that time is over"), "{said}");
    assert!(read("/ka/run/notified").contains("end/kainstall/2: kactl run: --at: that time is over"));
}
