//! What stops a run is reported at once, before it waits. Needs root, and setpriv.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kactl");

/// A configuration without keys and image, and a description with an error.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let directories: String = ["state", "log", "run", "keys"]
        .iter()
        .map(|name| format!("directories.{name} = {:?}\n", path(name)))
        .collect();
    fs::write(path("ka.toml"), directories).unwrap();
    fs::write(path("desc"), "linux fill\nlinux\n").unwrap();
    // Another user finds it, too.
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    fs::copy(PROGRAM, path("kactl")).unwrap();
    place
}

fn said(command: &mut Command, place: &Path) -> (Option<i32>, String) {
    let output = command.env("KA_CONFIG", place.join("ka.toml")).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The texts appear in this order.
fn in_order(said: &str, texts: &[&str]) {
    let mut rest = said;
    for text in texts {
        let (_, behind) = rest.split_once(text).unwrap_or_else(|| panic!("'{text}' is not next in: {said}"));
        rest = behind;
    }
}

const RUN: [&str; 7] = ["run", "-n", "1", "-p", "sda=desc", "--interface", "nosuch0"];

#[test]
fn all_faults_are_reported_at_once() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, as kactl run does");
    let place = place();
    let (code, text) = said(Command::new(PROGRAM).args(RUN).current_dir(&place), place.path());
    assert_eq!(code, Some(2), "{text}");
    in_order(
        &text,
        &[
            "4 things must be corrected first",
            "`kactl init`",
            "vmlinuz",
            "'kactl image'",
            "desc:2:",
            "no interface nosuch0",
        ],
    );
    assert!(!text.contains("root"), "{text}");
}

#[test]
fn root_is_asked_for_first_and_what_only_root_sees_is_not_missed() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, to become another user");
    let place = place();
    // The keys are there, and only root may look.
    let keys = place.path().join("keys");
    fs::create_dir(&keys).unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(place.path().join("kactl"));
    let (code, text) = said(command.args(RUN).current_dir(&place), place.path());
    assert_eq!(code, Some(2), "{text}");
    in_order(&text, &["kactl run needs root: sudo kactl run", "desc:2:", "no interface nosuch0"]);
    assert!(!text.contains("cannot read the key") && !text.contains("denied"), "{text}");
}

#[test]
fn send_reports_its_faults_before_it_reads_standard_input() {
    let place = place();
    let mut command = Command::new(PROGRAM);
    command.args(["send", "-s", "a", "-n", "1", "--file", "-", "--interface", "nosuch0"]);
    let (code, text) = said(&mut command, place.path());
    assert_eq!(code, Some(2), "{text}");
    in_order(&text, &["2 things", "`kactl init`", "no interface nosuch0"]);
    assert!(!text.contains("standard input"), "{text}");
}
