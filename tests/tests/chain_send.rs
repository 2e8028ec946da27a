//! `kactl send` and `ka-agent receive` as used by an operator: all kinds of sources and sinks, the messages
//! if something is missing, and that a partial stream is never accepted as complete.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ka_tests::process::wait_until;
use ka_tests::site::{MIB, Site, reasons, summary};
use ka_tests::tool::{run, tool};

#[test]
fn one_three_and_eight_nodes_get_a_file() {
    let site = Site::new();
    let file = site.noise("file", 5 * MIB + 1, 1);
    for nodes in [1, 3, 8] {
        let mut sender = site.send("a", nodes, ["--file".as_ref(), file.as_path()]);
        let mut receivers = site.receivers(&mut sender, "a", nodes);
        assert_eq!(sender.end(), 0, "{}", sender.said());
        for (i, receiver) in receivers.iter_mut().enumerate() {
            assert_eq!(receiver.end(), 0, "{}", receiver.said());
            assert!(site.holds(&format!("out-{i}"), &[&file]), "node {i} of {nodes}");
            assert!(site.partial(&format!("out-{i}")).is_none());
            fs::remove_file(site.path(&format!("out-{i}"))).unwrap();
        }
        let summary = summary(&sender);
        assert_eq!(summary["ok"], true);
        assert_eq!(summary["data_bytes"], 5 * MIB + 1);
        for node in summary["nodes"].as_array().unwrap() {
            assert_eq!(
                (&node["phase"], &node["received_bytes"]),
                (&"complete".into(), &(5 * MIB + 1).into())
            );
        }
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let site = Site::new();
    let file = site.noise("file", 0, 1);
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let mut receivers = site.receivers(&mut sender, "a", 1);
    assert_eq!((sender.end(), receivers[0].end()), (0, 0));
    assert!(site.holds("out-0", &[&file]));
}

/// A tree with one of every supported kind of file.
fn plant(tree: &Path) {
    fs::create_dir_all(tree.join("empty/deep")).unwrap();
    fs::write(tree.join("plain"), "text\n").unwrap();
    fs::hard_link(tree.join("plain"), tree.join("empty/hard")).unwrap();
    symlink("../plain", tree.join("empty/soft")).unwrap();
    symlink("/nowhere", tree.join("dangling")).unwrap();
    fs::write(tree.join("name with\nnewline"), "x").unwrap();
    let path = |name: &str| tree.join(name).to_str().unwrap().to_owned();
    run("truncate", ["-s", "3M", &path("holes")]);
    run("mkfifo", [&path("fifo")]);
    run("mknod", [&path("null"), "c", "1", "3"]);
    run("setfattr", ["-n", "user.ka", "-v", "value", &path("plain")]);
    run("setfacl", ["-m", "u:12345:rw", &path("plain")]);
    run("chown", ["1234:5678", &path("dangling"), "-h"]);
    run("touch", ["-h", "-d", "1999-12-31 23:59:59.123456789", &path("dangling")]);
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o2751)).unwrap();
}

/// The state of a tree as seen by other tools.
fn seen(tree: &Path) -> [String; 4] {
    let tree = tree.to_str().unwrap();
    let sh = |script: &str| tool("sh", ["-c", &format!("cd {tree} && {script}")]);
    [
        sh("find . -printf '%P %y %m %U %G %s %n %l %T@\\n' | grep -v '^ d' | sort"),
        sh("find . -type f -print0 | sort -z | xargs -0 sha256sum"),
        sh("getfattr -R -h -d -m - . | sort"),
        sh("find . -inum \"$(stat -c %i plain)\" | sort"),
    ]
}

#[test]
fn a_tree_arrives_with_all_that_it_has() {
    let site = Site::new();
    let tree = site.path("tree");
    plant(&tree);
    let mut sender = site.send("a", 3, ["--dir".as_ref(), tree.as_path()]);
    let mut receivers: Vec<_> = (0..3)
        .map(|i| site.receiver(&mut sender, "a", i, ["--dir".into(), site.path(&format!("out-{i}"))]))
        .collect();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (i, receiver) in receivers.iter_mut().enumerate() {
        assert_eq!(receiver.end(), 0, "{}", receiver.said());
        assert_eq!(seen(&site.path(&format!("out-{i}"))), seen(&tree), "node {i}");
    }
}

#[test]
fn a_command_feeds_commands() {
    let site = Site::new();
    let file = site.noise("file", 3 * MIB, 1);
    let mut sender = site.send("a", 2, ["--command", &format!("cat {}", file.display())]);
    let mut receivers: Vec<_> = (0..2)
        .map(|i| {
            let command = format!("cat > {}", site.path(&format!("out-{i}")).display());
            site.receiver(&mut sender, "a", i, ["--command", &command])
        })
        .collect();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (i, receiver) in receivers.iter_mut().enumerate() {
        assert_eq!(receiver.end(), 0, "{}", receiver.said());
        assert!(site.holds(&format!("out-{i}"), &[&file]));
    }
}

#[test]
fn a_command_ends_with_a_killed_sender() {
    let site = Site::new();
    let pid = site.path("pid");
    // Its output has no reader and it never ends by itself: only its parent's death can end it.
    let command = format!("echo $$ > {0}.new && mv {0}.new {0} && exec sleep 1000", pid.display());
    let mut sender = site.send("a", 1, ["--command", &command]);
    let _receivers = site.receivers(&mut sender, "a", 1);
    wait_until("the command has started", || pid.exists());
    let pid: u32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    sender.kill();
    // The adopting process may take its time to reap it.
    wait_until("the command has ended", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

/// The end of its input would signal to the command that it has everything.
#[test]
fn a_command_ends_with_a_killed_receiver_and_sees_no_end() {
    let site = Site::new();
    let (gate, part) = (site.gate("gate"), site.noise("part", 12 * MIB, 1));
    let source = format!("cat {0} {1} {0}", part.display(), gate.path().display());
    let mut sender = site.send("a", 1, ["--command", &source]);
    let (pid, moved) = (site.path("pid"), site.path("moved"));
    let command = format!(
        "echo $$ > {0}.new && mv {0}.new {0} && cat | (cat > {1}.new && mv {1}.new {1})",
        pid.display(),
        moved.display()
    );
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--command", &command]);
    site.wait_for_bytes("moved.new", 8 * MIB);
    let pid: u32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    receiver.kill();
    wait_until("the command has ended", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(!moved.exists());
}

#[test]
fn what_is_missing_is_said_before_anybody_waits() {
    let site = Site::new();
    let missing = site.path("missing");
    let missing = missing.to_str().unwrap();
    let directory = site.path("keys");
    let directory = directory.to_str().unwrap();
    let pipe = site.gate("pipe");
    let pipe = pipe.path().to_str().unwrap();
    for (arguments, said) in [
        (["--file", missing], "No such file"),
        (["--file", directory], "--dir"),
        (["--dir", missing], "not a directory"),
        (["--file", pipe], "--command"),
    ] {
        let mut sender = site.start_send("a", 1, arguments);
        assert_eq!(sender.end(), 2);
        let stderr = sender.said();
        assert!(stderr.contains(arguments[1]) && stderr.contains(said), "{stderr}");
        assert!(!stderr.contains("waits for"), "{stderr}");
    }
    let mut receiver = site.receive("a", "node", ["--file", "/dev/null", "--key", missing]);
    assert_eq!(receiver.end(), 2, "{}", receiver.said());
}

#[test]
fn a_source_that_fails_leaves_nothing_that_looks_whole() {
    let site = Site::new();
    let file = site.noise("file", 20 * MIB, 1);
    let mut sender = site.send("a", 2, ["--command", &format!("cat {}; exit 3", file.display())]);
    let moved = site.path("moved");
    let command = format!("cat > {0}.new && mv {0}.new {0}", moved.display());
    let mut receivers = [
        site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("out-0")]),
        site.receiver(&mut sender, "a", 1, ["--command", &command]),
    ];
    assert_eq!(sender.end(), 3, "{}", sender.said());
    assert!(sender.said().contains("exit status: 3"), "{}", sender.said());
    for reason in reasons(&sender) {
        assert!(reason.unwrap().contains("exit status: 3"));
    }
    for receiver in &mut receivers {
        assert_eq!(receiver.end(), 1, "{}", receiver.said());
        assert!(receiver.said().contains("exit status: 3"), "{}", receiver.said());
    }
    assert!(!site.path("out-0").exists() && site.partial("out-0").is_none());
    assert!(!moved.exists());
}

#[test]
fn a_timeout_starts_with_those_who_are_there() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    let arguments = ["--timeout", "3", "--file", file.to_str().unwrap()];
    let mut sender = site.send("a", 2, arguments);
    let mut receivers = site.receivers(&mut sender, "a", 1);
    assert_eq!((sender.end(), receivers[0].end()), (0, 0), "{}", sender.said());
    assert!(site.holds("out-0", &[&file]));

    let mut alone = site.send("a", 1, ["--timeout", "0.2", "--file", file.to_str().unwrap()]);
    assert_eq!(alone.end(), 1);
    assert!(alone.said().contains("no node came"), "{}", alone.said());
}

#[test]
fn who_leaves_before_the_start_is_none_of_the_session() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    let mut sender = site.send("a", 2, ["--file".as_ref(), file.as_path()]);
    let mut gone = site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("gone")]);
    gone.kill();
    let mut receivers: Vec<_> = (1..3)
        .map(|i| site.receiver(&mut sender, "a", i, ["--file".into(), site.path(&format!("out-{i}"))]))
        .collect();
    assert_eq!(sender.end(), 0, "{}", sender.said());
    assert_eq!(reasons(&sender), [None, None]);
    assert!(receivers.iter_mut().all(|receiver| receiver.end() == 0));
}

/// A node that cannot create its own copy reports the reason immediately, and still relays to those behind
/// it.
#[test]
fn a_writer_that_fails_is_its_own_nodes_trouble() {
    let site = Site::new();
    let (first, second) = (site.noise("first", 20 * MIB, 1), site.noise("second", 20 * MIB, 2));
    let gate = site.gate("gate");
    let source = format!("cat {} {} {}", first.display(), gate.path().display(), second.display());
    let full = site.path("full");
    fs::create_dir(&full).unwrap();
    run("mount", ["-t", "tmpfs", "-o", "size=4M", "tmpfs", full.to_str().unwrap()]);
    let _full = Mounted(full.to_str().unwrap());
    let mut sender = site.send("a", 6, ["--command", &source]);
    let sinks = [
        ["--file".to_owned(), site.path("out-0").display().to_string()],
        ["--file".to_owned(), full.join("file").display().to_string()],
        ["--command".to_owned(), "head -c 1000000 >/dev/null; exit 7".to_owned()],
        ["--command".to_owned(), "cat >/dev/null; exit 9".to_owned()],
        // Not even root can write there.
        ["--file".to_owned(), "/proc/file".to_owned()],
        ["--file".to_owned(), site.path("out-5").display().to_string()],
    ];
    let mut receivers: Vec<_> =
        sinks.iter().enumerate().map(|(i, sink)| site.receiver(&mut sender, "a", i, sink)).collect();
    for i in [1, 2, 4] {
        receivers[i].wait_for("from now on this host only relays", 1);
    }
    gate.open();
    assert_eq!(sender.end(), 1, "{}", sender.said());
    let statuses: Vec<i32> = receivers.iter_mut().map(ka_tests::process::Process::end).collect();
    assert_eq!(statuses, [0, 1, 1, 1, 1, 0]);
    let reasons = reasons(&sender);
    let expected = [
        None,
        Some("No space left"),
        Some("exit status: 7"),
        Some("exit status: 9"),
        Some("/proc/file"),
        None,
    ];
    for (i, (reason, expected)) in reasons.iter().zip(expected).enumerate() {
        match (reason, expected) {
            (None, None) => assert!(site.holds(&format!("out-{i}"), &[&first, &second])),
            (Some(reason), Some(expected)) => assert!(reason.contains(expected), "node {i}: {reason}"),
            _ => panic!("node {i}: {reason:?}, not {expected:?}"),
        }
    }
    assert_eq!(fs::read_dir(&full).unwrap().count(), 0, "the half file is gone");
}

struct Mounted<'a>(&'a str);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // A lazy unmount: a failing test may leave a process in there.
        let _ = std::process::Command::new("umount").args(["-l", self.0]).status();
    }
}
