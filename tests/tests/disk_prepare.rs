//! A node's disk from claim to active flag, on loop devices, judged by util-linux and e2fsprogs.
//!
//! Needs root, loop devices, and `losetup`, `partx`, `sfdisk`, `sgdisk`, `blkid`, `wipefs`, `e2fsck`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::plan::{DiskPlan, ExtSettings, FileSystemKind, FileSystemPlan, Shape, Storage};
use ka_agent::disk::claim::{self, ChosenBy, Claim, Refusal};
use ka_agent::disk::{self, BootCode, DiskError, Prepared};
use ka_host::hardware;
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::stale;
use ka_tests::tool::{run, tool};
use std::fs;
use std::path::Path;
use std::process::Command;

const DESC: &str = "linux 64\nlinux fill\nswap 16\ntype8e 16\n";

#[test]
fn a_disk_is_prepared_used_and_made_bootable() {
    let disk = Loop::new(400 * MIB, 512);
    plant_stale_contents(&disk);
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("root");

    let mut prepared = prepare(&plan(&disk, DESC), &root).unwrap();

    assert_eq!(prepared.made.len(), 3);
    fs::write(root.join("boot/vmlinuz"), "kernel").unwrap();
    fs::write(root.join("file"), "data").unwrap();
    assert!(tool("findmnt", ["-n", "-o", "SOURCE", "--target", path(&root.join("boot"))]).contains("p1"));
    prepared.unmount().unwrap();
    assert!(!root.join("file").exists(), "still mounted");

    check_by_tools(&disk, &prepared);
    check_activation(&disk, &prepared);
    check_locked(&disk);
    drop(prepared);
    claim(disk.node()).unwrap();
}

/// The medium takes all writes, and forgets some of them.
#[test]
fn a_medium_that_loses_writes_does_not_become_bootable() {
    for (lost_from, lost, said) in [
        // The superblock of partition 1, what lies in the middle of the disk, and the table itself.
        (MIB, MIB, "superblock"),
        (80 * MIB, 300 * MIB, "lost what was written"),
    ] {
        let disk = Loop::new(400 * MIB, 512);
        let work = tempfile::tempdir().unwrap();
        let root = work.path().join("root");
        let mut prepared = prepare(&plan(&disk, DESC), &root).unwrap();
        for i in 0..40 {
            fs::write(root.join(format!("file-{i}")), vec![i; 5 << 20]).unwrap();
        }
        prepared.unmount().unwrap();
        prepared.prove().unwrap();

        let image = fs::read_to_string(format!("/sys/block/{}/loop/backing_file", disk.name())).unwrap();
        let (from, length) = (lost_from.to_string(), lost.to_string());
        run("fallocate", ["--punch-hole", "-o", &from, "-l", &length, image.trim()]);

        let error = prepared.prove().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        prepared.abandon();
    }
}

/// The same with the table.
#[test]
fn a_table_that_is_lost_is_noticed_before_the_disk_boots() {
    let disk = Loop::new(400 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare(&plan(&disk, DESC), &work.path().join("root")).unwrap();
    prepared.unmount().unwrap();
    let image = fs::read_to_string(format!("/sys/block/{}/loop/backing_file", disk.name())).unwrap();
    run("fallocate", ["--punch-hole", "-o", "0", "-l", "4096", image.trim()]);
    let error = prepared.activate(Some(&BootCode([0xeb; 440]))).unwrap_err();
    assert!(matches!(error, DiskError::Table { .. } | DiskError::TableChanged { .. }), "{error}");
    assert_eq!(disk.read(0, 1)[0], 0, "no boot code");
}

#[test]
fn a_protective_mbr_is_active_where_the_golden_one_is() {
    let disk = Loop::new(100 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = fs(1, FileSystemKind::Ext4, Some("/"));
    let mut plan = plan_of(disk.node(), "label: gpt\ntype=L\n", vec![root]);
    plan.disks[0].protective_active = true;
    let mut prepared = prepare(&plan, &work.path().join("root")).unwrap();
    prepared.unmount().unwrap();
    assert_eq!(disk.read(446, 5)[..], [0, 0, 2, 0, 0xee], "active before the node is finished");

    prepared.activate(Some(&BootCode([0xeb; 440]))).unwrap();

    let bios = ka_host::hardware::firmware() == ka::inventory::Firmware::Bios;
    assert_eq!(disk.read(446, 1)[0], if bios { 0x80 } else { 0 });
    let verdict = tool("sgdisk", ["-v", disk.node()]);
    assert!(verdict.contains("No problems found"), "{verdict}");
}

/// What a disk does not allow is handed to whoever tells the controller, and is no log line only.
#[test]
fn what_the_disk_does_not_allow_is_part_of_the_result() {
    let disk = Loop::new(100 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    // The places are those of a larger disk.
    let desc = "label: gpt\nstart=16MiB, size=40MiB, type=L\nstart=70MiB, size=40MiB, type=L\n";
    let journal = ExtSettings { journal: Some(64 * MIB), ..ExtSettings::default() };
    let (number, root) = fs(1, FileSystemKind::Ext4, Some("/"));
    let root = FileSystemPlan { shape: Shape { ext: Some(journal), ..root.shape }, ..root };
    let plan = plan_of(disk.node(), desc, vec![(number, root)]);

    let mut prepared = prepare(&plan, &work.path().join("root")).unwrap();

    let counted: Vec<_> = prepared
        .noted
        .iter()
        .map(|(kind, noted)| (kind.name(), noted.count, noted.example.clone()))
        .collect();
    assert_eq!(counted.len(), 2, "{counted:?}");
    let (kind, count, example) = &counted[0];
    assert_eq!((*kind, *count), ("placement", 2), "{example}");
    assert!(
        example.contains(disk.name()) && example.contains("partition 1 begins at byte 1048576"),
        "{example}"
    );
    let (kind, count, example) = &counted[1];
    assert_eq!((*kind, *count), ("setting", 1), "{example}");
    assert!(example.contains(&format!("{}p1", disk.node())) && example.contains("journal"), "{example}");
    prepared.unmount().unwrap();
}

/// An old GPT, and at the places of the new partitions what several file systems, LVM and RAID leave.
fn plant_stale_contents(disk: &Loop) {
    run("sgdisk", ["-n", "1:0:+100M", "-n", "2:0:0", disk.node()]);
    stale::boot_code(disk);
    // Where partitions 1, 2, 4 and 3 will begin, and the disk's last MiB.
    for (at, kind) in [
        (MIB, stale::Signature::Xfs),
        (65 * MIB, stale::Signature::Lvm),
        (384 * MIB, stale::Signature::Lvm),
        (368 * MIB, stale::Signature::Md),
        (399 * MIB, stale::Signature::Xfs),
    ] {
        stale::signature(disk, at, kind);
    }
    assert!(tool("wipefs", ["-n", disk.node()]).contains("gpt"));
}

fn check_by_tools(disk: &Loop, prepared: &Prepared) {
    let verdict = tool("sfdisk", ["--verify", disk.node()]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
    let dump = tool("sfdisk", ["-d", disk.node()]);
    assert!(!dump.contains("bootable"), "active before the node is finished: {dump}");
    let signatures = tool("wipefs", ["-n", "--noheadings", "-O", "TYPE", disk.node()]);
    assert_eq!(signatures.trim(), "dos", "stale signatures on the disk");

    for fs in &prepared.made {
        let device = path(&fs.device);
        let probe = tool("blkid", ["-p", "-o", "export", device]);
        let value = |key: &str| {
            let line = probe.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(value("TYPE"), fs.plan.kind.to_string());
        assert_eq!(value("UUID"), fs.uuid);
        assert_eq!(value("LABEL"), fs.plan.label.clone().unwrap_or_default());
        assert_eq!(value("PART_ENTRY_UUID"), fs.partuuid);
        let signatures = tool("wipefs", ["-n", "--noheadings", "-O", "TYPE", device]);
        assert_eq!(signatures.trim(), fs.plan.kind.to_string(), "stale signatures on {device}");
        if fs.plan.kind == FileSystemKind::Ext4 {
            run("e2fsck", ["-fn", device]);
        }
    }
    let raw = format!("{}p4", disk.node());
    assert_eq!(tool("wipefs", ["-n", &raw]), "", "stale signatures on {raw}");
}

/// The boot code and the flag come together, into the sector as it is.
fn check_activation(disk: &Loop, prepared: &Prepared) {
    let before = disk.read(0, 512);
    assert!(before[..440].iter().all(|b| *b == 0), "boot code of the old system");

    prepared.activate(Some(&BootCode([0xeb; 440]))).unwrap();

    let after = disk.read(0, 512);
    assert_eq!(after[..440], [0xeb; 440]);
    assert_eq!(after[440..446], before[440..446]);
    let dump = tool("sfdisk", ["-d", disk.node()]);
    let active: Vec<_> = dump.lines().filter(|line| line.contains("bootable")).collect();
    assert!(matches!(active.as_slice(), [one] if one.contains("p1 ")), "expected /boot active: {dump}");
}

fn check_locked(disk: &Loop) {
    let refusal = claim(disk.node()).unwrap_err();
    assert!(matches!(refusal, Refusal::Locked(_)), "{refusal}");
}

#[test]
fn sectors_of_4096_bytes() {
    let disk = Loop::new(110 * MIB, 4096);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare(&plan(&disk, DESC), work.path()).unwrap();
    prepared.unmount().unwrap();
    assert!(tool("sfdisk", ["--verify", disk.node()]).contains("No errors detected"));
    let dump = tool("sfdisk", ["-d", disk.node()]);
    assert!(dump.contains("sector-size: 4096"), "{dump}");
    assert!(dump.contains("p1 : start=         256, size=       16384, type=83"), "{dump}");
    for fs in prepared.made.iter().filter(|fs| fs.plan.kind == FileSystemKind::Ext4) {
        run("e2fsck", ["-fn", path(&fs.device)]);
    }
}

#[test]
fn a_disk_can_be_prepared_twice() {
    let disk = Loop::new(110 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    drop(prepare(&plan(&disk, DESC), work.path()).unwrap());
    let two = "swap 16\nlinux fill\n";
    let file_systems = vec![fs(1, FileSystemKind::Swap, None), fs(2, FileSystemKind::Ext4, Some("/"))];
    let plan = plan_of(disk.node(), two, file_systems);
    let prepared = prepare(&plan, work.path()).unwrap();
    let nodes = fs::read_dir("/dev").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let prefix = format!("{}p", disk.name());
    assert_eq!(nodes.filter(|name| name.starts_with(&prefix)).count(), 2);
    assert_eq!(prepared.made.len(), 2);
}

#[test]
fn a_refused_disk_is_not_written() {
    let disk = Loop::new(64 * MIB, 512);
    stale::boot_code(&disk);
    let untouched = disk.hash();
    let root = tempfile::tempdir().unwrap();
    let refuse = |plan: &Storage| prepare(plan, root.path()).unwrap_err();

    let error = refuse(&plan(&disk, "linux 30\nlinux 30\nswap 10\ntype8e 1\n"));
    assert!(matches!(error, DiskError::Fit { .. }), "{error}");
    assert!(error.to_string().contains("the disk has 64 MB, the description needs 72 MB"), "{error}");

    let mut full = plan(&disk, "linux 16\nlinux fill\nswap 8\ntype8e 1\n");
    full.file_systems_mut().nth(1).unwrap().used = 50 * MIB;
    let error = refuse(&full);
    assert!(matches!(error, DiskError::Fit { .. }), "{error}");
    assert!(error.to_string().contains("partition 2 has 38 MB"), "{error}");

    let missing = plan_for("sdzz", DESC);
    let error = refuse(&missing);
    assert!(error.to_string().contains("no such disk"), "{error}");

    assert_eq!(disk.hash(), untouched);
}

#[test]
fn a_disk_in_use_is_not_written() {
    let disk = Loop::new(110 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare(&plan(&disk, DESC), work.path()).unwrap();
    prepared.unmount().unwrap();
    drop(prepared);
    let untouched = disk.hash();
    let refuse = || prepare(&plan(&disk, DESC), work.path()).unwrap_err().to_string();

    let at = work.path().join("elsewhere");
    fs::create_dir(&at).unwrap();
    run("mount", ["-o", "ro,noload", &format!("{}p2", disk.node()), path(&at)]);
    let error = refuse();
    run("umount", [path(&at)]);
    assert!(error.contains(&format!("p2 is mounted at {}", at.display())), "{error}");

    let swap = format!("{}p3", disk.node());
    run("swapon", [&swap]);
    let error = refuse();
    run("swapoff", [&swap]);
    assert!(error.contains("is used as swap"), "{error}");

    run("blockdev", ["--setro", disk.node()]);
    let error = refuse();
    run("blockdev", ["--setrw", disk.node()]);
    assert!(error.contains("is read-only"), "{error}");

    let partition = claim(&format!("{}p1", disk.node())).unwrap_err().to_string();
    assert!(partition.contains("a partition"), "{partition}");
    assert_eq!(disk.hash(), untouched);
}

/// Mounted where this process's own list of mounts doesn't show it.
#[test]
fn a_disk_in_use_in_another_namespace_is_not_written() {
    let disk = Loop::new(110 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let mut prepared = prepare(&plan(&disk, DESC), work.path()).unwrap();
    prepared.unmount().unwrap();
    drop(prepared);
    let untouched = disk.hash();
    let script = "mount -o ro,noload \"$0\" \"$1\" && echo mounted && read -r _";
    let mut hidden = Command::new("unshare")
        .args(["-m", "sh", "-c", script, &format!("{}p2", disk.node()), path(work.path())])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(hidden.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "mounted\n");

    let error = prepare(&plan(&disk, DESC), work.path()).unwrap_err();

    drop(hidden.stdin.take());
    hidden.wait().unwrap();
    let said = format!(
        "{}p2 is mounted at {} in the mount namespace of sh (process ",
        disk.name(),
        work.path().display()
    );
    assert!(error.to_string().contains(&said), "{error}");
    assert_eq!(disk.hash(), untouched);
}

#[test]
fn abandoning_takes_the_table_away() {
    let disk = Loop::new(110 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(&plan(&disk, DESC), work.path()).unwrap();
    disk.write(0, &[0xeb; 440]);
    prepared.abandon();
    assert!(disk.read(0, MIB).iter().all(|b| *b == 0), "boot code or a table is left");
    assert!(!Path::new(&format!("{}p1", disk.node())).exists());
}

/// The failing tool is a stand-in first in PATH, and so the work is done in a process of its own.
#[test]
fn a_failure_after_the_first_write_clears_the_table() {
    let disk = Loop::new(110 * MIB, 512);
    stale::boot_code(&disk);
    let work = tempfile::tempdir().unwrap();
    let stand_in = work.path().join("mkswap");
    fs::write(&stand_in, "#!/bin/sh\necho no swap today >&2\nexit 3\n").unwrap();
    run("chmod", ["+x", path(&stand_in)]);

    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "prepare_the_disk_of_the_environment", "--ignored", "--nocapture"])
        .env("PATH", format!("{}:{}", work.path().display(), std::env::var("PATH").unwrap()))
        .env("KA_TEST_DISK", disk.node())
        .output()
        .unwrap();

    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("mkswap for") && text.contains("no swap today"), "{text}");
    assert!(disk.read(0, MIB).iter().all(|b| *b == 0), "boot code or a table is left");
    assert!(!Path::new(&format!("{}p1", disk.node())).exists());
}

#[test]
#[ignore = "run by a_failure_after_the_first_write_clears_the_table"]
fn prepare_the_disk_of_the_environment() {
    let node = std::env::var("KA_TEST_DISK").unwrap();
    let root = tempfile::tempdir().unwrap();
    if let Err(e) = prepare(&plan_for(&node, DESC), root.path()) {
        panic!("{e}");
    }
}

#[test]
fn the_room_of_an_ext4_is_known_before_it_is_made() {
    let work = tempfile::tempdir().unwrap();
    for mib in [16, 100, 511, 512, 3000, 20_000, 300_000] {
        let image = work.path().join("image");
        fs::File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        run("mkfs.ext4", ["-q", "-F", path(&image)]);
        let dump = tool("dumpe2fs", ["-h", path(&image)]);
        let value = |key: &str| -> u64 {
            let line = dump.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().parse().unwrap()
        };
        let free = value("Free blocks:") * value("Block size:");
        let room = ka::plan::room::ext4_room(mib * MIB);
        assert!(room >= free, "{mib} MB: files can use {free}, expected at most {room}");
        assert!(room - free < mib * MIB / 25, "{mib} MB: files can use {free}, expected about {room}");
    }
}

fn plan(disk: &Loop, desc: &str) -> Storage {
    plan_for(disk.node(), desc)
}

/// `/boot`, `/`, swap, and a partition without a file system.
fn plan_for(node: &str, desc: &str) -> Storage {
    let (number, root) = fs(2, FileSystemKind::Ext4, Some("/"));
    let root = FileSystemPlan { label: Some("system".to_owned()), ..root };
    let (boot, swap) = (fs(1, FileSystemKind::Ext4, Some("/boot")), fs(3, FileSystemKind::Swap, None));
    plan_of(node, desc, vec![boot, (number, root), swap])
}

fn plan_of(node: &str, desc: &str, file_systems: Vec<(u32, FileSystemPlan)>) -> Storage {
    Storage::of(DiskPlan::new(node.into(), Description::parse(desc, "desc").unwrap()), file_systems)
}

fn fs(partition: u32, kind: FileSystemKind, mount_point: Option<&str>) -> (u32, FileSystemPlan) {
    let mount_point = mount_point.map(str::to_owned);
    (partition, FileSystemPlan { mount_point, ..FileSystemPlan::new(kind) })
}

fn prepare(plan: &Storage, root: &Path) -> Result<Prepared, DiskError> {
    disk::prepare(&disk::confirm_now(plan)?, root)
}

fn claim(target: &str) -> Result<Claim, Refusal> {
    let name = target.trim_start_matches("/dev/");
    claim::claim(target, ChosenBy::Name, &hardware::identity_of(name).unwrap_or_default())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
