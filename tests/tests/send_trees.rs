//! `kactl send --dir` for trees with more than the files of one file system: what is crossed, what is left
//! out, what is counted, and the exit status.
//!
//! Needs root, mounts, and `/dev/fuse`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use ka_tests::loop_device::{Loop, MIB};
use ka_tests::site::{Site, summary};
use ka_tests::tool::{run, tool};
use serde_json::Value;

/// A mount that is removed with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", arguments.iter().copied().chain([at.to_str().unwrap()]));
        Self(at.to_owned())
    }

    /// A FUSE mount of another user, to which the kernel denies access even to root. No daemon serves it:
    /// access is denied before any request.
    fn fuse(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=1000,group_id=1000 ka \"$0\"";
        run("sh", ["-c", script, at.to_str().unwrap()]);
        assert!(fs::read_dir(at).is_err(), "root can open it");
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Sends `tree` to one receiver; returns the exit statuses and the summary.
fn send(site: &Site, tree: &Path, more: &[&str], out: &Path) -> ((i32, i32), Value) {
    let words = [&["--dir", tree.to_str().unwrap()], more].concat();
    let mut sender = site.send("a", 1, words);
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--dir".into(), out.to_owned()]);
    let statuses = (sender.end(), receiver.end());
    (statuses, summary(&sender))
}

fn counted(notes: &Value) -> Vec<(String, u64)> {
    let of = |note: &Value| (note["kind"].as_str().unwrap().to_owned(), note["count"].as_u64().unwrap());
    notes.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn mounts_are_counted_and_crossed_only_if_that_is_asked_for() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    let memory = Mount::new(&tree.join("memory"), &["-t", "tmpfs", "none"]);
    fs::write(memory.0.join("inside"), "y").unwrap();
    let fuse = Mount::fuse(&tree.join("behind/fuse"));
    fs::write(tree.join("zz"), "z").unwrap();

    let (statuses, told) = send(&site, &tree, &[], &site.path("stays"));
    assert_eq!(statuses, (0, 0), "{told}");
    assert_eq!(counted(&told["notes"]), [("mount_left_out".to_owned(), 2)], "{told}");
    let (statuses, told) = send(&site, &tree, &["--cross"], &site.path("crosses"));
    assert_eq!(statuses, (0, 0), "{told}");
    assert_eq!(counted(&told["notes"]), [("mount_left_out".to_owned(), 1)], "{told}");
    assert!(told["notes"][0]["example"].as_str().unwrap().contains("behind/fuse"), "{told}");
    let same = send(&site, &tree, &["--one-file-system"], &site.path("default"));
    assert_eq!(counted(&same.1["notes"]), [("mount_left_out".to_owned(), 2)], "{}", same.1);
    drop((memory, fuse));

    for (out, inside) in [("stays", false), ("crosses", true), ("default", false)] {
        let out = site.path(out);
        assert_eq!(out.join("memory/inside").exists(), inside, "{out:?}");
        assert!(out.join("memory").is_dir() && out.join("behind/fuse").is_dir(), "{out:?}");
        assert_eq!(fs::read(out.join("zz")).unwrap(), b"z", "what comes behind a mount arrives");
    }
}

#[test]
fn the_two_ways_with_mounts_exclude_each_other() {
    let site = Site::new();
    let output =
        site.kactl().args(["send", "--dir", "/tmp", "--cross", "--one-file-system"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--cross") && said.contains("--one-file-system"), "{said}");
}

/// Only an entry that the receiver's file system cannot hold is missing, and the result is not a success.
#[test]
fn an_entry_that_cannot_be_held_fails_the_status_and_nothing_else() {
    let site = Site::new();
    let disk = Loop::new(400 * MIB, 512);
    run("mkfs.xfs", ["-q", "-f", disk.node()]);
    let xfs = Mount::new(&site.path("xfs"), &[disk.node()]);
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    // XFS has 18 bits for a minor number.
    run("mknod", [tree.join("device").to_str().unwrap(), "b", "259", "1048575"]);
    fs::write(tree.join("rest"), "x").unwrap();
    // An immutable file on the receiver is in the way.
    fs::write(tree.join("theirs"), "new").unwrap();
    fs::create_dir(xfs.0.join("out")).unwrap();
    fs::write(xfs.0.join("out/theirs"), "old").unwrap();
    run("chattr", ["+i", xfs.0.join("out/theirs").to_str().unwrap()]);

    let ((sent, received), told) = send(&site, &tree, &[], &xfs.0.join("out"));

    let node = &told["nodes"][0];
    let wanted = [("entry_lost".to_owned(), 1), ("immutable_replaced".to_owned(), 1)];
    assert_eq!(counted(&node["notes"]), wanted, "{told}");
    assert_eq!((sent, received, &told["ok"]), (1, 1, &false.into()), "{told}");
    assert_eq!(fs::read(xfs.0.join("out/rest")).unwrap(), b"x");
    assert_eq!(fs::read(xfs.0.join("out/theirs")).unwrap(), b"new");
    assert_eq!(tool("sh", ["-c", "ls \"$0\"", xfs.0.join("out").to_str().unwrap()]), "rest\ntheirs\n");
}
