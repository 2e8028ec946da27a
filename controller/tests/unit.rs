//! The service that runs `kactl pxe`, judged by systemd itself, and run by it. Needs systemd and, to run it,
//! root.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/ka-pxe.service")
}

fn analyze(args: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output();
    let output = output.expect("systemd-analyze is missing: apt-get install systemd");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn systemd_understands_the_unit() {
    // The program's path is checked, too, and it is not installed yet.
    let text = fs::read_to_string(unit()).unwrap();
    let here = text.replace("/usr/bin/kactl", env!("CARGO_BIN_EXE_kactl"));
    assert_ne!(here, text);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ka-pxe.service");
    fs::write(&copy, here).unwrap();
    let (good, said) = analyze(&["verify", "--man=no"], &copy);
    let about: Vec<&str> = said.lines().filter(|line| line.contains("ka-pxe")).collect();
    assert!(good && about.is_empty(), "{said}");
}

#[test]
fn the_unit_leaves_little_to_an_attacker() {
    // On a scale to 10: an ordinary service has 9.6. The remainder is root, the network, and users for
    // dnsmasq.
    let (good, said) = analyze(&["security", "--no-pager", "--offline=true", "--threshold=35"], &unit());
    assert!(good, "{said}");
    for given_up in [
        "NoNewPrivileges=",
        "CapabilityBoundingSet=~CAP_SYS_ADMIN",
        "SystemCallFilter=~@mount",
        "ProtectSystem=",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with('✓') && line.contains(given_up)),
            "{given_up}: {said}"
        );
    }
}

/// A real systemd in a container of its own, with all restrictions of the unit.
#[test]
fn systemd_runs_the_unit_and_machines_boot_from_it() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root, for namespaces and a systemd in them"
    );
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let container = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unit/container");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "300", "unshare", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount", "--uts", "--ipc", "--net", "--cgroup"]).arg(container);
    let ran = command.arg(env!("CARGO_BIN_EXE_kactl")).arg(unit()).arg(out).output().unwrap();
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    let trace = format!("{}{}", String::from_utf8_lossy(&ran.stderr), read("trace"));
    assert_eq!((read("http"), read("tftp")), ("stage1\n".into(), "stage1\n".into()), "{trace}");
    assert_eq!((read("dhcp"), read("mode")), ("lease\n".into(), "710\n".into()), "{trace}");
    assert_eq!(read("result"), "success\n", "{trace}");
    // Name, user, whether it can gain privileges, and whether its system calls are filtered.
    let processes = read("processes");
    for (name, root) in [("kactl", true), ("dnsmasq", false)] {
        let words = processes.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let found = words.into_iter().find(|words| words.first() == Some(&name));
        let [_, uid, no_new_privs, seccomp] = found.as_deref().unwrap() else { panic!("{processes}") };
        assert_eq!((*uid == "0", *no_new_privs, *seccomp), (root, "1", "2"), "{processes}");
    }
}
