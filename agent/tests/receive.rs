//! `ka-agent receive` before it has reached a controller.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use ka::keys::{JoinKey, KeyPair};

fn receive(controller: &str, key: &Path, out: &Path) -> Output {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_ka-agent"));
    agent.args(["receive", "--controller", controller, "--session", "s", "--wait", "0", "--key"]);
    agent.arg(key).arg("--file").arg(out).output().unwrap()
}

fn key(folder: &Path, mode: u32) -> std::path::PathBuf {
    let path = folder.join("join.key");
    let pair = KeyPair::generate().unwrap();
    fs::write(&path, JoinKey::generate(&pair).unwrap().to_text()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_join_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o644, 0o640, 0o604] {
        let key = key(folder.path(), mode);
        let output = receive("127.0.0.1:9", &key, &folder.path().join("out"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("mode {mode:04o}")) && said.contains("chmod 600"), "{said}");
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn nothing_that_the_agent_says_is_obeyed_by_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let key = key(folder.path(), 0o600);
    let evil = "evil\u{1b}]0;x\u{7}\u{202e}\u{9b}2J\n[INFO] received";
    for (controller, file) in
        [(evil, folder.path().join("out")), ("127.0.0.1:9", folder.path().join(evil).join("x"))]
    {
        let output = receive(controller, &key, &file);
        assert!(!output.status.success());
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let hostile: Vec<char> = said.chars().filter(|c| *c != '\n' && ka::shown::is_hostile(*c)).collect();
        assert!(hostile.is_empty(), "{said:?}");
        assert!(!said.lines().any(|line| line.starts_with("[INFO] received")), "{said:?}");
    }
}
