//! A crash of a program that holds keys leaves no core dump, whatever the limit with which it was started.
//!
//! Needs `ulimit -c` of dash, and a kernel that writes core dumps; without one, this says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use ka_tests::console::Golden;
use ka_tests::process::wait_until;
use ka_tests::site::Site;
use rustix::process::{Pid, Signal, kill_process};

/// Starts a command in `folder` with an unlimited core size.
fn dumping(command: &Command, folder: &Path) -> Child {
    Command::new("sh")
        .args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The core size that `child` may leave.
fn limit(child: &Child) -> Option<String> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max core file size"))?;
    line.split_whitespace().nth(4).map(str::to_owned)
}

fn crash(mut child: Child) -> ExitStatus {
    kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
    child.wait().unwrap()
}

#[test]
fn no_program_leaves_its_keys_in_a_core_dump() {
    let folder = tempfile::tempdir().unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let child = dumping(&sleep, folder.path());
    wait_until("sleep runs", || {
        std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap().trim() == "sleep"
    });
    if !crash(child).core_dumped() {
        eprintln!("NOT TESTED on a kernel that writes no core dumps: that a crash leaves none");
    }

    let site = Site::new();
    let file = site.noise("file", 1 << 20, 1);
    let mut send = site.kactl();
    send.args(["send", "--session", "a", "-n", "1", "--listen", &site.address.to_string(), "--file"])
        .arg(file);
    let golden = Golden::new();
    let mut console = Command::new(ka_tests::process::program("ka-agent"));
    console.args(["console", "--root", "/", "--listen", "127.0.0.1:0"]);
    for name in ["join", "key", "step", "log"] {
        console.arg(format!("--{name}")).arg(golden.file(name));
    }
    std::fs::write(golden.file("join"), golden.join.to_text()).unwrap();
    for command in [&send, &console] {
        let child = dumping(command, folder.path());
        wait_until(&format!("{command:?} has set its limit"), || {
            limit(&child).is_some_and(|soft| soft == "0")
        });
        let status = crash(child);
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{command:?} did not run: {status}");
        assert!(!status.core_dumped(), "{command:?} left a core dump");
    }
}
