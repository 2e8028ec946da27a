//! Cases that once ended with OK although something was missing: each is a failure with its true reason.
//!
//! Needs root, loop devices, and `mkfs.ext4`, `dumpe2fs`, `mkfs.xfs`, `xfs_io`, `mkfs.btrfs`, `btrfs`,
//! `prlimit`, `setsid`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ka_host::health::{Lost, Watched};
use ka_tests::loop_device::Loop;
use ka_tests::process::{Process, wait_until};
use ka_tests::site::{MIB, Site, reasons, summary};
use ka_tests::tool::{run, tool};

/// A file system that stays mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &str, at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        run("mount", ["-o", options, device, text(&at)]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.0)]).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An ext4 that cannot allocate: the contents of every block bitmap except the first group's do not match its
/// checksum.
fn ext4_with_bad_bitmaps(disk: &Loop) {
    run("mkfs.ext4", ["-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.node()]);
    let groups = tool("dumpe2fs", [disk.node()]);
    let bitmaps: Vec<u64> = groups
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Block bitmap at "))
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap())
        .collect();
    assert!(bitmaps.len() > 1, "{groups}");
    for bitmap in bitmaps {
        disk.write(bitmap * 4096, &[0x5a; 4096]);
    }
}

/// Both sides report the failure; returns the reason.
fn both_fail(sender: &mut Process, receiver: &mut Process) -> String {
    assert_eq!(sender.end(), 1, "the sender: {}{}", sender.said(), receiver.said());
    assert_eq!(receiver.end(), 1, "the receiver: {}", receiver.said());
    reasons(sender).pop().unwrap().unwrap()
}

#[test]
fn an_ext4_that_drops_data_is_a_failure() {
    let site = Site::new();
    for (name, files, length) in [("large", 1, 100 * MIB), ("small", 60, MIB), ("file", 1, MIB)] {
        let tree = site.path(name);
        fs::create_dir(&tree).unwrap();
        for i in 0..files {
            let _ = site.noise(&format!("{name}/file-{i}"), length, 1 + i);
        }
        let disk = Loop::new(400 << 20, 512);
        ext4_with_bad_bitmaps(&disk);
        // mke2fs's default: it continues.
        let target = Mounted::new(disk.node(), site.path(&format!("on-{name}")), "errors=continue");
        let (source, sink) = match name {
            "file" => (["--file".into(), tree.join("file-0")], ["--file".into(), target.0.join("one")]),
            _ => (["--dir".into(), tree], ["--dir".into(), target.0.clone()]),
        };
        let mut sender = site.send(name, 1, source);
        let mut receiver = site.receiver(&mut sender, name, 0, sink);
        let reason = both_fail(&mut sender, &mut receiver);
        assert!(
            reason.contains("damaged") || reason.contains("counted") || reason.contains("full"),
            "{name}: {reason}"
        );
        assert!(!target.0.join("one").exists());
    }
}

#[test]
fn file_systems_say_what_they_have_lost() {
    let work = tempfile::tempdir().unwrap();
    let watched = |at: &Path| Watched::new(File::open(at).unwrap().into(), at).unwrap();
    let write = |at: &Path| fs::write(at.join("file"), vec![7; MIB]).unwrap();

    let disk = Loop::new(400 << 20, 512);
    run("mkfs.xfs", ["-q", disk.node()]);
    let xfs = Mounted::new(disk.node(), work.path().join("xfs"), "rw");
    let watch = watched(&xfs.0);
    write(&xfs.0);
    watch.sync().unwrap();
    run("xfs_io", ["-x", "-c", "shutdown", text(&xfs.0)]);
    let error = watch.sync().unwrap_err();
    assert!(matches!(error, Lost::Sync { .. }), "{error}");
    drop((watch, xfs));

    run("mkfs.ext4", ["-q", "-F", disk.node()]);
    let ext4 = Mounted::new(disk.node(), work.path().join("ext4"), "errors=remount-ro");
    let watch = watched(&ext4.0);
    write(&ext4.0);
    watch.sync().unwrap();
    // The kernel's own trigger: it counts an error like a real one.
    fs::write(format!("/sys/fs/ext4/{}/trigger_fs_error", disk.name()), "test").unwrap();
    let error = watch.sync().unwrap_err().to_string();
    assert!(error.contains("counted 1 errors") || error.contains("read-only"), "{error}");
    drop((watch, ext4));

    run("mkfs.btrfs", ["-q", "-f", disk.node()]);
    let btrfs = Mounted::new(disk.node(), work.path().join("btrfs"), "rw");
    let watch = watched(&btrfs.0);
    write(&btrfs.0);
    watch.sync().unwrap();
    let devices = ka_host::sys::btrfs::device_errors(&File::open(&btrfs.0).unwrap()).unwrap();
    let said = tool("btrfs", ["device", "stats", text(&btrfs.0)]);
    assert_eq!((devices.len(), said.lines().filter(|line| line.ends_with(" 0")).count()), (1, 5), "{said}");
    let error = |kind| said.contains(kind);
    assert!(error("write_io_errs") && error("corruption_errs"), "the counters are as they were: {said}");
    // The contents do not match their checksums when the kernel reads them: it counts them.
    drop((watch, btrfs));
    corrupt(&disk, &[7; 4096]);
    let btrfs = Mounted::new(disk.node(), work.path().join("btrfs"), "rw");
    let watch = watched(&btrfs.0);
    let read = File::open(btrfs.0.join("file")).and_then(|mut file| file.read_to_end(&mut Vec::new()));
    assert!(read.is_err(), "{read:?}");
    let error = watch.sync().unwrap_err().to_string();
    assert!(error.contains("btrfs counted errors (device 1: ") && error.contains("checksum"), "{error}");
}

/// Changes one byte of every block of the disk that equals this one.
fn corrupt(disk: &Loop, block: &[u8; 4096]) {
    let file = OpenOptions::new().read(true).write(true).open(disk.node()).unwrap();
    let mut buffer = vec![0; MIB];
    for at in (0..disk.size()).step_by(MIB) {
        file.read_exact_at(&mut buffer, at).unwrap();
        for (i, found) in buffer.chunks(4096).enumerate().filter(|(_, found)| found == block) {
            assert_eq!(found.len(), 4096);
            file.write_all_at(&[8], at + 4096 * i as u64).unwrap();
        }
    }
    file.sync_all().unwrap();
}

#[test]
fn two_receivers_for_one_place_are_one_and_an_error() {
    let site = Site::new();
    let (gate, part) = (site.gate("gate"), site.noise("part", 12 * MIB, 1));
    let source = format!("cat {0} {1} {0}", part.display(), gate.path().display());
    let mut sender = site.send("a", 1, ["--command", &source]);
    let mut first = site.receiver(&mut sender, "a", 0, ["--file".into(), site.path("out")]);
    let partial = || {
        let names = fs::read_dir(site.path("")).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("out.ka-partial")).count()
    };
    wait_until("the first receiver has begun", || partial() == 1);

    let other = site.noise("other", MIB, 2);
    let mut second_sender = site.send("b", 1, ["--file".as_ref(), other.as_path()]);
    let mut second = site.receive("b", "second", ["--file".into(), site.path("out")]);
    let reason = both_fail(&mut second_sender, &mut second);
    assert!(reason.contains("another receiver is writing to"), "{reason}");
    gate.open();
    assert_eq!((sender.end(), first.end()), (0, 0), "{}", first.said());
    assert!(site.holds("out", &[&part, &part]));
    assert_eq!(partial(), 0);
}

/// All bytes are in the pipe when its reader leaves.
#[test]
fn a_pipe_must_be_read_to_its_end() {
    let site = Site::new();
    let file = site.noise("file", 5 * MIB, 1);
    for (reads, said) in
        [(5 * MIB, None), (5 * MIB - 1000, Some(["did not read the last 1000 bytes", "Broken pipe"]))]
    {
        let fifo = site.path(&format!("fifo-{reads}"));
        run("mkfifo", [text(&fifo)]);
        let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
        let mut receiver = site.receiver(&mut sender, "a", 0, ["--file".into(), fifo.clone()]);
        let reader = std::thread::spawn(move || {
            let mut fifo = File::open(&fifo).unwrap();
            let mut bytes = vec![0; reads];
            fifo.read_exact(&mut bytes).unwrap();
        });
        reader.join().unwrap();
        let statuses = (sender.end(), receiver.end());
        assert_eq!(statuses, if said.is_none() { (0, 0) } else { (1, 1) }, "{}", receiver.said());
        let reason = reasons(&sender).pop().unwrap();
        // The reader may leave before the last bytes are in the pipe.
        let is_said =
            |said: [&str; 2]| said.iter().any(|said| reason.as_deref().unwrap_or_default().contains(said));
        assert!(said.is_none_or(is_said), "{reason:?}");
    }
}

/// The shell ended long before the receiver is killed, and its child has left its process group.
#[test]
fn what_outlives_the_shell_of_a_killed_receiver_sees_no_end() {
    let site = Site::new();
    let (gate, part) = (site.gate("gate"), site.noise("part", 12 * MIB, 1));
    let source = format!("cat {0} {1} {0}", part.display(), gate.path().display());
    let mut sender = site.send("a", 1, ["--command", &source]);
    let moved = site.path("moved");
    let command = format!(
        "exec 7<&0; setsid sh -c 'cat | cat | (cat > {0}.new && mv {0}.new {0})' <&7 & exit 0",
        moved.display()
    );
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--command", &command]);
    site.wait_for_bytes("moved.new", 8 * MIB);
    receiver.kill();
    let name = text(&moved).as_bytes();
    wait_until("nobody has the file's name in his command", || {
        !fs::read_dir("/proc").unwrap().any(|process| {
            let command = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
            command.windows(name.len()).any(|window| window == name)
        })
    });
    assert!(!moved.exists(), "half a stream was taken for a whole one");
}

/// The stream stops when this file has as much as the window allows.
#[test]
fn a_file_that_changes_while_it_is_sent_is_said() {
    type Change = (&'static str, fn(&Path));
    let change: [Change; 2] = [
        ("cut", |file| OpenOptions::new().write(true).open(file).unwrap().set_len(MIB as u64).unwrap()),
        ("rewritten", |file| {
            let file = OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(&[0; 100], 50 * MIB as u64).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
        }),
    ];
    for (how, change) in change {
        let site = Site::new();
        let (gate, file) = (site.gate("gate"), site.noise("file", 80 * MIB, 1));
        let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
        let begun = site.path("begun");
        let command =
            format!("echo > {}; cat {} - > {}", begun.display(), gate.path().display(), "/dev/null");
        let mut receiver = site.receiver(&mut sender, "a", 0, ["--command", &command]);
        wait_until("the command has begun", || begun.exists());
        change(&file);
        gate.open();
        let status = sender.end();
        let summary = summary(&sender);
        if how == "cut" {
            assert_eq!((status, receiver.end()), (3, 1), "{}", sender.said());
            assert!(sender.said().contains("while it was read"), "{}", sender.said());
        } else {
            assert_eq!((status, receiver.end()), (0, 0), "{}", sender.said());
            assert_eq!(
                (&summary["notes"][0]["kind"], &summary["notes"][0]["count"]),
                (&"changed".into(), &1.into())
            );
        }
    }
}

#[test]
fn what_a_receiver_cannot_keep_is_in_the_senders_summary() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    for name in ["one", "two"] {
        fs::write(tree.join(name), name).unwrap();
        run("setfattr", ["-n", "user.ka", "-v", "value", text(&tree.join(name))]);
    }
    let target = site.path("target");
    fs::create_dir(&target).unwrap();
    run("mount", ["-t", "ramfs", "ramfs", text(&target)]);
    let _mounted = Mounted(target.clone());
    let mut sender = site.send("a", 1, ["--dir".as_ref(), tree.as_path()]);
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--dir".into(), target]);
    assert_eq!((sender.end(), receiver.end()), (0, 0), "{}", receiver.said());
    let note = &summary(&sender)["nodes"][0]["notes"][0];
    assert_eq!((&note["kind"], &note["count"]), (&"attribute_lost".into(), &2.into()), "{note}");
    assert!(note["example"].as_str().unwrap().contains("user.ka"), "{note}");
}

#[test]
fn a_limit_of_files_sizes_is_an_error_with_words() {
    let site = Site::new();
    let file = site.noise("file", 5 * MIB, 1);
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let mut agent = site.agent("a", &site.address.to_string());
    agent.args(["--file".as_ref(), site.path("out").as_os_str()]);
    let mut limited = Command::new("prlimit");
    limited.arg("--fsize=1000000").arg(agent.get_program()).args(agent.get_args());
    let mut receiver = Process::start(&mut limited, "node", &site.path(""));
    let reason = both_fail(&mut sender, &mut receiver);
    assert!(reason.contains("ulimit -f"), "{reason}");
}

#[test]
fn a_file_takes_the_place_of_a_symbolic_link_and_says_so() {
    let site = Site::new();
    let file = site.noise("file", MIB, 1);
    fs::write(site.path("behind"), "stays").unwrap();
    symlink("behind", site.path("out-0")).unwrap();
    let mut sender = site.send("a", 1, ["--file".as_ref(), file.as_path()]);
    let mut receivers = site.receivers(&mut sender, "a", 1);
    assert_eq!((sender.end(), receivers[0].end()), (0, 0));
    assert!(receivers[0].said().contains("is a symbolic link"), "{}", receivers[0].said());
    assert!(site.path("out-0").symlink_metadata().unwrap().is_file());
    assert!(site.holds("out-0", &[&file]));
    assert_eq!(fs::read(site.path("behind")).unwrap(), b"stays");
}

/// The rest has arrived, and neither side reports success.
#[test]
fn an_entry_that_cannot_be_here_is_a_failure_on_both_sides() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "here").unwrap();
    // XFS has 18 bits for the minor number.
    run("mknod", [text(&tree.join("device")), "b", "259", "1048575"]);
    let disk = Loop::new(400 << 20, 512);
    run("mkfs.xfs", ["-q", disk.node()]);
    let xfs = Mounted::new(disk.node(), site.path("xfs"), "rw");
    let mut sender = site.send("a", 1, ["--dir".as_ref(), tree.as_path()]);
    let mut receiver = site.receiver(&mut sender, "a", 0, ["--dir".as_ref(), xfs.0.as_path()]);
    let reason = both_fail(&mut sender, &mut receiver);
    assert!(reason.contains("1 entries NOT delivered, such as"), "{reason}");
    assert!(receiver.said().contains("1 entries NOT delivered"), "{}", receiver.said());
    assert_eq!(fs::read(xfs.0.join("file")).unwrap(), b"here");
}

/// Space that was only promised, on file systems that notice the lack at writeback.
#[test]
fn a_full_file_system_is_a_failure_whatever_its_kind() {
    let site = Site::new();
    let tree = site.path("tree");
    fs::create_dir(&tree).unwrap();
    for i in 0..45 {
        let _ = site.noise(&format!("tree/file-{i}"), 8 * MIB, i);
    }
    for (kind, size) in [("ext2", 200_u64), ("ext4", 200), ("xfs", 320), ("btrfs", 200)] {
        let disk = Loop::new(size << 20, 512);
        run(&format!("mkfs.{kind}"), ["-q", disk.node()]);
        let target = Mounted::new(disk.node(), site.path(kind), "rw");
        let mut sender = site.send(kind, 1, ["--dir".as_ref(), tree.as_path()]);
        let mut receiver = site.receiver(&mut sender, kind, 0, ["--dir".as_ref(), target.0.as_path()]);
        let reason = both_fail(&mut sender, &mut receiver);
        assert!(reason.contains("the disk is full"), "{kind}: {reason}");
    }
}
