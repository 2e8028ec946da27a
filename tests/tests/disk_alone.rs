//! `ka-agent disk` as an administrator runs it, on loop devices.
//!
//! Needs root, loop devices, and `sfdisk`, `sgdisk`, `blkid`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka_tests::loop_device::{Loop, MIB};
use ka_tests::process::program;
use ka_tests::tool::{run, tool};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DESC: &str = "linux 32\nlinux fill\nswap 16\n";
const GPT: &str = "label: gpt\nsize=33MiB, type=U, name=\"EFI system\"\nsize=+, type=L\nsize=16MiB, type=S\n";

struct Answer {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn start(arguments: &[&str]) -> Child {
    Command::new(program("ka-agent"))
        .arg("disk")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ask(arguments: &[&str], typed: &str) -> Answer {
    let mut child = start(arguments);
    // One that is refused reads nothing.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

fn file(folder: &Path, text: &str) -> String {
    let path: PathBuf = folder.join("description");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_disk_is_shown_planned_and_written() {
    let disk = Loop::new(128 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let gpt = file(work.path(), GPT);
    let blank = ask(&["show", "--disk", disk.node()], "");
    assert!(blank.out.contains("134.2 MB, loop, sectors of 512 bytes, no partition table"), "{}", blank.out);
    let untouched = disk.hash();

    let plan = ask(&["plan", "--disk", disk.name(), "--desc", &gpt], "");
    assert_eq!(plan.code, Some(0), "{}", plan.errors);
    assert!(plan.out.contains("nothing found on it\n  ALL OF THIS WILL BE ERASED"), "{}", plan.out);
    assert!(plan.out.contains("type EFI System \"EFI system\"  vfat\n"), "{}", plan.out);
    let refused = ask(&["apply", "--disk", disk.node(), "--desc", &gpt], "y\n");
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("not confirmed"), "{}", refused.errors);
    assert_eq!(disk.hash(), untouched);

    let applied = ask(&["apply", "--disk", disk.node(), "--desc", &gpt, "--fs", "ext2"], "yes\n");
    assert_eq!(applied.code, Some(0), "{}", applied.errors);
    assert!(tool("sgdisk", ["-v", disk.node()]).contains("No problems found"));
    let shown = ask(&["show", "--disk", disk.node(), "--json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    let kinds: Vec<_> = shown[0]["disk"]["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["vfat", "ext2", "swap"]);
    assert_eq!(shown[0]["disk"]["table"], "gpt");

    // Over what is there, whose partitions the kernel has forgotten.
    run("partx", ["-d", disk.node()]);
    let desc = file(work.path(), DESC);
    let plan = ask(&["plan", "--disk", disk.node(), "--desc", &desc, "--json"], "");
    let report: ka::plan::report::Report = serde_json::from_str(&plan.out).unwrap();
    assert!(report.is_accepted());
    let now: Vec<_> =
        report.disks[0].disk.as_ref().unwrap().contents.iter().map(|c| c.kind.clone().unwrap()).collect();
    assert_eq!(now, ["vfat", "ext2", "swap"]);
    assert_eq!(ask(&["apply", "--disk", disk.node(), "--desc", &desc, "--yes"], "").code, Some(0));
    assert!(tool("sfdisk", ["--verify", disk.node()]).contains("No errors detected"));
    assert_eq!(
        tool("blkid", ["-p", "-o", "value", "-s", "TYPE", &format!("{}p2", disk.node())]).trim(),
        "ext4"
    );
}

/// The protective MBR says that there is a GPT, and both copies of it are damaged.
#[test]
fn a_damaged_gpt_is_told() {
    let disk = Loop::new(64 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    run("sgdisk", ["-n", "1:0:+8M", disk.node()]);
    for header in [512, 64 * MIB - 512] {
        disk.write(header + 16, b"not its sum");
    }
    let shown = ask(&["show", "--disk", disk.node()], "");
    for part in ["a GPT that cannot be read", "the MBR announces a GPT, but neither copy is valid"] {
        assert!(shown.out.contains(part), "{}", shown.out);
    }
    let json: serde_json::Value =
        serde_json::from_str(&ask(&["show", "--disk", disk.node(), "--json"], "").out).unwrap();
    assert_eq!(json[0]["findings"].as_array().unwrap().len(), 1, "{json}");
    let plan = ask(&["plan", "--disk", disk.node(), "--desc", &file(work.path(), "linux fill\n")], "");
    assert!(plan.out.contains("a GPT that cannot be read"), "{}", plan.out);
}

#[test]
fn what_must_not_be_written_is_refused() {
    let disk = Loop::new(64 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let desc = file(work.path(), DESC);
    run("mkfs.ext2", ["-q", disk.node()]);
    let point = work.path().join("mounted");
    fs::create_dir(&point).unwrap();
    run("mount", ["-o", "ro", disk.node(), point.to_str().unwrap()]);
    let untouched = disk.hash();
    let refused = ask(&["apply", "--disk", disk.node(), "--desc", &desc, "--yes"], "");
    let planned = ask(&["plan", "--disk", disk.node(), "--desc", &desc], "");
    run("umount", [point.to_str().unwrap()]);
    assert_eq!((refused.code, planned.code), (Some(1), Some(1)));
    for answer in [refused, planned] {
        assert!(
            answer.out.contains("WILL NOT BE WRITTEN") && answer.out.contains("is mounted at"),
            "{}",
            answer.out
        );
    }
    for (arguments, code, part) in [
        (vec!["apply", "--disk", "sdzzz", "--desc", &desc, "--yes"], 1, "no such disk"),
        (
            vec!["apply", "--disk", disk.node(), "--desc", "/nonexistent", "--yes"],
            2,
            "cannot read /nonexistent",
        ),
        (vec!["apply", "--disk", "", "--desc", &desc, "--yes"], 2, "expected a disk"),
        (vec!["plan", "--disk", disk.node(), "--desc", &desc, "--fs", "ntfs"], 2, "expected ext2"),
    ] {
        let answer = ask(&arguments, "");
        assert_eq!(answer.code, Some(code), "{arguments:?}");
        let text = answer.out + &answer.errors;
        assert!(text.contains(part), "{text}");
    }
    let bad = file(work.path(), "linux 32\nlinix fill\n");
    let answer = ask(&["plan", "--disk", disk.node(), "--desc", &bad], "");
    assert_eq!(answer.code, Some(2));
    assert!(answer.errors.contains("description:2:1: expected `linux`"), "{}", answer.errors);
    assert_eq!(disk.hash(), untouched);
}

/// Killed after any line of its log: the disk is as it was, or has nothing that boots.
#[test]
fn a_kill_leaves_the_old_system_or_nothing_that_boots() {
    let disk = Loop::new(160 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let description = "label: dos\nsize=32MiB, type=83, bootable\nsize=+, type=83\nsize=16MiB, type=82\n";
    let desc = file(work.path(), description);
    let arguments = ["apply", "--disk", disk.node(), "--desc", &desc, "--yes"];
    let whole = ask(&arguments, "");
    assert_eq!(whole.code, Some(0));
    let lines = whole.errors.lines().count();
    assert!(lines >= 8, "each step begins and ends with a line: {}", whole.errors);
    disk.write(0, &[0xfa; 440]);
    let complete = complete_sector(&disk);
    assert!(complete, "the run that was not killed is not complete");

    let mut killed = 0;
    for kill in 0..lines {
        // What boots: boot code, an active flag, and a mark in the first partition.
        disk.write(0, &[0xfa; 440]);
        disk.write(MIB + 512, b"old system");
        let before = disk.hash();
        let mut child = start(&arguments);
        let log = BufReader::new(child.stderr.take().unwrap());
        assert_eq!(log.lines().take(kill).count(), kill);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal() == Some(9));
        wait_until_free(&disk);
        let sector = disk.read(0, 512);
        let boot_code = sector[..440].iter().any(|b| *b != 0);
        if boot_code {
            assert_eq!(disk.hash(), before, "kill {kill}: boot code on a changed disk");
        } else {
            let active = sector[446..510].chunks(16).any(|entry| entry[0] == 0x80);
            assert!(!active || complete_sector(&disk), "kill {kill}: active, and not complete");
        }
        if !complete_sector(&disk) {
            assert_eq!(ask(&arguments, "").code, Some(0), "kill {kill}: the disk cannot be written again");
        }
    }
    assert!(killed >= lines / 2, "only {killed} of {lines} were killed in time");
}

/// All file systems are there and sound, and the first partition is active.
fn complete_sector(disk: &Loop) -> bool {
    let is = |number: u32, kind: &str| {
        let device = format!("{}p{number}", disk.node());
        let probe =
            Command::new("blkid").args(["-p", "-o", "value", "-s", "TYPE", &device]).output().unwrap();
        let sound = kind == "swap"
            || Command::new("e2fsck").args(["-fn", &device]).output().unwrap().status.success();
        String::from_utf8_lossy(&probe.stdout).trim() == kind && sound
    };
    disk.read(446, 1) == [0x80] && is(1, "ext4") && is(2, "ext4") && is(3, "swap")
}

/// The tools that a killed agent has started go on for a moment.
fn wait_until_free(disk: &Loop) {
    for _ in 0..500 {
        if !is_open(disk.node()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} stays in use", disk.node());
}

/// Whether any process has the disk or one of its partitions open.
fn is_open(node: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let files =
        processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    let mut open = files.filter_map(|file| fs::read_link(file.path()).ok());
    open.any(|path| path.to_str().is_some_and(|path| path == node || path.starts_with(&format!("{node}p"))))
}
