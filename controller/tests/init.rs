//! `kactl init` as an operator runs it.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Runs `kactl init` under a umask; returns its exit status and its output.
fn init(umask: &str, config: &Path, args: &str) -> (Option<i32>, String) {
    let line = format!(
        "umask {umask}; exec {} init --config {} {args} 2>&1",
        env!("CARGO_BIN_EXE_kactl"),
        config.display()
    );
    let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn keys_are_private_whatever_the_umask_and_are_made_once() {
    for umask in ["0000", "0077"] {
        let dir = tempfile::tempdir().unwrap();
        let (config, keys) = (dir.path().join("ka.toml"), dir.path().join("a/keys"));
        fs::write(&config, format!("[directories]\nkeys = {keys:?}\n")).unwrap();

        let (status, said) = init(umask, &config, "");
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("created the keys in") && said.contains("ka.toml exists, and is kept"),
            "{said}"
        );
        let (controller, join) = (keys.join("controller.key"), keys.join("join.key"));
        assert_eq!((mode(&keys), mode(&controller), mode(&join)), (0o700, 0o600, 0o600), "umask {umask}");
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 2);

        let first = fs::read(&controller).unwrap();
        let (status, said) = init(umask, &config, "");
        assert!(
            status == Some(0) && said.contains("the keys in") && said.contains("--force creates new ones"),
            "{said}"
        );
        assert_eq!(fs::read(&controller).unwrap(), first);

        let (status, said) = init(umask, &config, "--force");
        assert!(
            status == Some(0) && said.contains("created new keys in") && said.contains("run `kactl image`"),
            "{said}"
        );
        assert_ne!(fs::read(&controller).unwrap(), first);
        assert_eq!(mode(&controller), 0o600);
    }
}

#[test]
fn a_wrong_configuration_is_named_and_no_key_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("ka.toml");
    fs::write(&config, "[directories]\nkey = \"x\"\n").unwrap();
    let (status, said) = init("0022", &config, "");
    assert_eq!(status, Some(2));
    assert!(said.contains(&format!("kactl: {}:2:1: unknown field `key`", config.display())), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
