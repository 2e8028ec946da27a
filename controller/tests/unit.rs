//! The service that runs `kactl pxe`, judged by systemd itself. Needs systemd-analyze.
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
    // The program's place is checked too, and it is installed nowhere yet.
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
    // Of 10: an ordinary service has 9.6. What is left is root, the network, and users for dnsmasq.
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
