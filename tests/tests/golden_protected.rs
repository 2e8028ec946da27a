//! Files protected by fscrypt or fs-verity on a golden machine: a copy cannot preserve that, and the plan
//! reports it.
//!
//! `send --dir` reports the same for each file, and delivers the rest.
//!
//! Needs root, a loop device, a kernel with fscrypt, `unshare`, `chroot`, `xfs_io` and `debugfs`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;

use ka::disk::description::Description;
use ka::notes::Tally;
use ka::plan::{DiskPlan, FileSystemKind, FileSystemPlan, Shape, Storage};
use ka_agent::disk::{confirm_now, prepare};
use ka_agent::unpack::{self, unpack};
use ka_tests::chroot::in_chroot;
use ka_tests::golden_machine::plan_request;
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::{run, tool};
use kactl::golden::pack::{self, pack_dir};
use kactl::golden::plan::{PlanError, Planned, Request, WantedDisk, make};

#[test]
fn what_no_clone_can_have_is_known_before_a_node_is_touched() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let features = ["has_journal", "extent", "filetype", "encrypt", "verity"].map(str::to_owned).to_vec();
    let fs = FileSystemPlan {
        mount_point: Some("/".into()),
        shape: Shape { features: Some(features), ..Shape::default() },
        ..FileSystemPlan::new(FileSystemKind::Ext4)
    };
    let desc = Description::parse("linux fill\n", "desc").unwrap();
    let plan = Storage::of(DiskPlan::new(disk.node().into(), desc), [(1, fs)]);
    let mut prepared = prepare(&confirm_now(&plan).unwrap(), root).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("guarded"), "x").unwrap();
    fs::create_dir_all(root.join("home/secret")).unwrap();
    // A version 1 policy needs no key: the directory is locked from the start.
    let policy = "set_encpolicy -v 1 0000111122223333";
    run("xfs_io", ["-c", policy, root.join("home/secret").to_str().unwrap()]);
    prepared.unmount().unwrap();
    drop(prepared);
    // This kernel may not support fs-verity; here the flag that it leaves in an inode is set.
    let partition = format!("{}p1", disk.node());
    run("debugfs", ["-w", "-R", "set_inode_field /guarded flags 0x180000", &partition]);
    run("mount", [partition.as_str(), root.to_str().unwrap()]);
    let told = tool("lsattr", ["-d", root.join("home/secret").to_str().unwrap()]);
    assert!(told.split(' ').next().unwrap().contains('E'), "{told}");

    let inner = in_chroot(root, &disk, "true", "plan_this_machine");
    run("umount", [root.to_str().unwrap()]);
    assert!(inner, "the test in the chroot failed: see above");
}

#[test]
#[ignore = "run by what_no_clone_can_have_is_known_before_a_node_is_touched"]
fn plan_this_machine() {
    let disk = std::env::var("KA_TEST_DISK").unwrap();
    let refused = planned(&disk, &[]).unwrap_err().to_string();
    assert!(refused.starts_with("/home/secret: it is encrypted (fscrypt)"), "{refused}");
    assert!(refused.contains("`-x`"), "the way out: {refused}");
    for left_out in ["/home/secret", "/home"] {
        let planned = planned(&disk, &[left_out]).unwrap();
        let told: Vec<_> = planned.notes.iter().filter(|note| note.contains("fs-verity")).collect();
        assert!(told.len() == 1 && told[0].contains("1 files") && told[0].contains("/guarded"), "{told:?}");
    }
}

fn planned(disk: &str, exclude: &[&str]) -> Result<Planned, PlanError> {
    let exclude: Vec<_> = exclude.iter().map(Into::into).collect();
    let disks = [WantedDisk { disk: disk.parse().unwrap(), desc: None }];
    make(&Request { exclude_dirs: &exclude, ..plan_request(&disks) })
}

#[test]
fn what_fscrypt_keeps_is_counted_and_the_rest_arrives() {
    let disk = Loop::new(100 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let (golden, out) = (work.path().join("golden"), work.path().join("out"));
    let secret = golden.join("secret");
    fs::create_dir(&golden).unwrap();
    run("mkfs.ext4", ["-q", "-F", "-O", "encrypt", disk.node()]);
    run("mount", [disk.node(), golden.to_str().unwrap()]);
    let told =
        tool("sh", ["-c", "head -c 64 /dev/zero | xfs_io -c add_enckey \"$0\"", golden.to_str().unwrap()]);
    let key = told.trim().rsplit(' ').next().unwrap().to_owned();
    fs::create_dir(&secret).unwrap();
    run("xfs_io", ["-c", &format!("set_encpolicy -v 2 {key}"), secret.to_str().unwrap()]);
    fs::write(secret.join("file"), "secret").unwrap();
    fs::write(golden.join("zz"), "open").unwrap();

    let unlocked = sent(&golden, &out.join("unlocked"));
    run("xfs_io", ["-c", &format!("rm_enckey {key}"), golden.to_str().unwrap()]);
    let locked = sent(&golden, &out.join("locked"));
    run("umount", [golden.to_str().unwrap()]);

    // The directory and the file arrive without their protection, and that is reported for both.
    assert_eq!(counts(&unlocked), [("protection_lost", 2)], "{unlocked:?}");
    assert_eq!(fs::read(out.join("unlocked/secret/file")).unwrap(), b"secret");
    // Without its key a file cannot be read, so the transfer is not a success.
    assert_eq!(counts(&locked), [("entry_lost", 1), ("protection_lost", 1)], "{locked:?}");
    for out in ["unlocked/zz", "locked/zz"].map(|path| out.join(path)) {
        assert_eq!(fs::read(out).unwrap(), b"open");
    }
}

/// The result of `send --dir` and `receive` for a tree, and the sender's notes.
fn sent(tree: &std::path::Path, out: &std::path::Path) -> Tally {
    let mut bytes = Vec::new();
    let options = pack::Options { tolerant: true, ..pack::Options::default() };
    let noted = pack_dir(tree, &options, &mut bytes).unwrap().notes.tally().clone();
    fs::create_dir_all(out).unwrap();
    unpack(bytes.as_slice(), out, &unpack::Options { tolerant: true, ..unpack::Options::default() }).unwrap();
    noted
}

fn counts(tally: &Tally) -> Vec<(&'static str, u64)> {
    tally.iter().map(|(kind, counted)| (kind.name(), counted.count)).collect()
}
