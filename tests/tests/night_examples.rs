//! The examples for unattended nights in `docs/operations.md` are what systemd, mail and curl take.
//!
//! Needs `systemd-analyze`, `sh`, `curl`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use ka_tests::root;
use ka_tests::tool::tool;
use tempfile::tempdir;

const REPORT: &str = "nodes          1 of 2 complete\nnode2 failed at boot_loader: no room\n";

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// Runs one of the commands behind `--notify` as `kactl run` does, and returns what it printed.
fn notify(command: &str, path: &Path) -> String {
    let places = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh")
        .args(["-c", command])
        .env("PATH", places)
        .envs([("KA_EVENT", "end"), ("KA_RUN", "lab"), ("KA_STATUS", "1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(REPORT.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8(output.stdout).unwrap() + &said
}

/// What stands in quotes behind `--notify` and begins with this word.
fn example(word: &str) -> String {
    let text = operations();
    let mut examples = text.split("--notify '").skip(1).filter_map(|rest| rest.split('\'').next());
    examples
        .find(|example| example.starts_with(word))
        .unwrap_or_else(|| panic!("no example with {word}"))
        .to_owned()
}

#[test]
fn systemd_takes_the_timer() {
    let folder = tempdir().unwrap();
    let text = operations();
    let block = text.split("```ini\n").find(|block| block.starts_with("# /etc/systemd/system/")).unwrap();
    let mut units = Vec::new();
    for unit in block.split("```").next().unwrap().split("# /etc/systemd/system/").skip(1) {
        let (name, unit) = unit.split_once('\n').unwrap();
        // The program is not installed where the test runs.
        fs::write(folder.path().join(name), unit.replace("/usr/bin/kactl", "/bin/true")).unwrap();
        units.push(folder.path().join(name));
    }
    let pxe = fs::read_to_string(root().join("systemd/ka-pxe.service")).unwrap();
    fs::write(folder.path().join("ka-pxe.service"), pxe.replace("/usr/bin/kactl", "/bin/true")).unwrap();
    assert_eq!(units.len(), 2);
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .args(&units)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "{said}");
    let calendar = text.lines().find_map(|line| line.strip_prefix("OnCalendar=")).unwrap();
    tool("systemd-analyze", ["calendar", calendar]);
}

#[test]
fn the_mail_has_subject_and_report() {
    let folder = tempdir().unwrap();
    let mail = folder.path().join("mail");
    fs::write(&mail, "#!/bin/sh\nprintf '%s|' \"$@\"; cat\n").unwrap();
    tool("chmod", ["755", mail.to_str().unwrap()]);
    assert_eq!(notify(&example("mail"), folder.path()), format!("-s|ka: end|root|{REPORT}"));
}

#[test]
fn the_webhook_gets_event_and_report() {
    let folder = tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let command = example("curl")
        .replace("https://chat.example.org", &format!("http://{}", server.local_addr().unwrap()));
    let serving = thread::spawn(move || {
        let mut stream = BufReader::new(server.accept().unwrap().0);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(text) = lower.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        (head, String::from_utf8(body).unwrap())
    });
    notify(&command, folder.path());
    let (head, body) = serving.join().unwrap();
    assert!(
        head.starts_with("POST /hook ") && head.to_ascii_lowercase().contains("\nx-event: end\r"),
        "{head}"
    );
    assert_eq!(body, REPORT);
}
