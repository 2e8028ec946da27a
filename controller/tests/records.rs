//! Results as comma-separated values, judged by Python's reader. Needs python3.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::io::Write;
use std::process::{Command, Stdio};

use kactl::view::records;

#[test]
fn pythons_reader_gets_the_fields_back() {
    let rows: [&[&str]; 3] =
        [&["name", "reason"], &["node1", "no space, \"at all\""], &[" =1+1", "two words; ok"]];
    let mut csv = Vec::new();
    rows.iter().for_each(|row| records::csv_line(&mut csv, row).unwrap());
    let script = "import csv, io, json, sys\n\
                  text = sys.stdin.buffer.read().decode()\n\
                  print(json.dumps(list(csv.reader(io.StringIO(text, newline=''), strict=True))))";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is missing: apt-get install python3");
    python.stdin.take().unwrap().write_all(&csv).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let read: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read, rows);
}

#[test]
fn a_record_is_one_line() {
    let mut csv = Vec::new();
    records::csv_line(&mut csv, &["a\nb\r\u{1b}[2J", "c"]).unwrap();
    assert_eq!(csv.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert!(!csv.contains(&0x1b));
}
