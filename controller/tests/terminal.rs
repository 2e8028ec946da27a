//! How kactl prints names chosen by others.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::process::Command;

#[test]
fn nothing_that_kactl_says_is_obeyed_by_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "evil\u{1b}]0;x\u{7}\u{202e}\u{9b}2J\n[INFO] all is well";
    let config = folder.path().join(evil);
    for there in [false, true] {
        if there {
            std::fs::write(&config, "[ports]\ncontrol = \"\u{1b}[2J\"\n").unwrap();
        }
        let usage = Command::new(env!("CARGO_BIN_EXE_kactl")).args(["go", evil]).output().unwrap();
        let said = String::from_utf8(usage.stderr).unwrap();
        assert!(
            usage.status.code() == Some(2) && !said.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
            "{said:?}"
        );
        let mut kactl = Command::new(env!("CARGO_BIN_EXE_kactl"));
        let output = kactl.arg("--config").arg(&config).arg("go").arg("session").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("evil?]0;x"), "{said:?}");
        let hostile: Vec<char> = said.chars().filter(|c| *c != '\n' && ka::shown::is_hostile(*c)).collect();
        assert!(hostile.is_empty(), "{said:?}");
        assert!(!said.lines().any(|line| line.starts_with("[INFO]")), "{said:?}");
    }
}
