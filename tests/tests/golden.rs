//! The golden node's disk as it is seen, described, planned and viewed.
//!
//! Needs root, a loop device, and `unshare`, `chroot`, `blkid`, `sgdisk`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::plan::{After, BootPlan, DiskPlan, FileSystemKind, FileSystemPlan, Loader};
use ka_agent::disk::prepare;
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::run;
use kactl::commands::desc::{DescArgs, DescCommandError};
use kactl::golden::plan::{PlanError, Planned, Request, make};
use kactl::golden::scan::{Table, Usage, scan};
use kactl::golden::view::View;
use std::fs;
use std::path::Path;
use std::process::Command;

const DESC: &str = "linux 64\nlinux fill\nswap 16\n";

#[test]
fn a_disk_is_scanned_and_described() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(&[plan(&disk)], work.path()).unwrap();
    fs::write(work.path().join("file"), vec![1; 3 << 20]).unwrap();

    let golden = scan(disk.node()).unwrap();

    assert!(matches!(&golden.table, Table::Mbr(mbr) if mbr.entry(3).unwrap().is_swap()));
    let [boot, root, swap] = golden.partitions.as_slice() else { panic!("{golden:?}") };
    assert_eq!(boot.contents.uuid.as_ref(), Some(&prepared.made[0].uuid));
    assert_eq!(boot.contents.partuuid.as_ref(), Some(&prepared.made[0].partuuid));
    assert_eq!(root.contents.label.as_deref(), Some("my system"));
    let Usage::Mounted { at, used, .. } = &root.usage else { panic!("{root:?}") };
    assert_eq!(at, work.path());
    assert!((3 << 20..5 << 20).contains(used), "{used} bytes in use");
    assert_eq!(swap.usage, Usage::Unused);

    let mut text = Vec::new();
    kactl::commands::desc::run(&DescArgs { disk: disk.name().to_owned() }, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(Description::parse(&text, "desc").unwrap().to_string(), DESC);
    assert!(
        text.contains(&format!("{}p2, 119 MB, ext4 \"my system\", mounted at {}", disk.node(), at.display())),
        "{text}"
    );
}

#[test]
fn a_gpt_is_told() {
    let disk = Loop::new(64 * MIB, 512);
    run("sgdisk", ["-n", "1:0:0", disk.node()]);
    let error =
        kactl::commands::desc::run(&DescArgs { disk: disk.name().to_owned() }, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, DescCommandError::Describe(_)), "{error}");
    let error =
        kactl::commands::desc::run(&DescArgs { disk: "sdzz".to_owned() }, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("this machine has no disk sdzz"), "{error}");
}

/// A machine whose root is the loop device: this test's binary, run again in a chroot on it.
#[test]
fn a_machine_is_planned_and_viewed() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let mut prepared = prepare(&[plan(&disk)], root).unwrap();
    // Below the mount point of /boot, where only a view of the root file system alone shows it.
    fs::write(root.join("boot/kernel"), "kernel").unwrap();
    prepared.unmount().unwrap();
    run("mount", [&format!("{}p2", disk.node()), root.to_str().unwrap()]);
    fs::write(root.join("boot/hidden"), "below").unwrap();
    for dir in ["scratch", "tmp"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("scratch/large"), vec![1; 20 << 20]).unwrap();
    fs::write(root.join("exe"), "").unwrap();
    fs::write(root.join("desc"), DESC).unwrap();
    drop(prepared);

    let script = "set -e
        mount \"$2p1\" \"$1/boot\"
        for dir in usr lib lib64 bin sbin etc proc sys dev; do
            mkdir -p \"$1/$dir\" && mount --rbind \"/$dir\" \"$1/$dir\"
        done
        mount --bind \"$3\" \"$1/exe\"
        exec chroot \"$1\" /exe --exact plan_and_view_this_machine --ignored --nocapture";
    let exe = std::env::current_exe().unwrap();
    let inner = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", root.to_str().unwrap(), disk.node(), exe.to_str().unwrap()])
        .env("KA_TEST_DISK", disk.name())
        .status()
        .unwrap();
    run("umount", [root.to_str().unwrap()]);
    assert!(inner.success(), "the test in the chroot failed: see above");
}

#[test]
#[ignore = "run by a_machine_is_planned_and_viewed"]
fn plan_and_view_this_machine() {
    let disk = std::env::var("KA_TEST_DISK").unwrap();
    let planned = make_plan(&disk, "/desc", &["/scratch"]).unwrap();
    check_plan(&planned, &disk);
    assert_eq!(
        make_plan("sdzz", "/desc", &[]).unwrap().plan.disks[0].disk,
        "sdzz".into(),
        "other name on the nodes"
    );
    check_refusals(&disk);
    check_view(&planned);
}

fn make_plan(disk: &str, desc: &str, exclude: &[&str]) -> Result<Planned, PlanError> {
    let exclude: Vec<_> = exclude.iter().map(Into::into).collect();
    make(&Request {
        run: "r1",
        disk,
        desc: Path::new(desc),
        exclude_dirs: &exclude,
        exclude_disks: &[],
        own_dirs: vec!["/var/lib/ka".into()],
        boot: BootPlan::new(Loader::Grub, ka::inventory::Firmware::Bios),
        after: After::Reboot,
    })
}

fn check_plan(planned: &Planned, disk: &str) {
    let file_systems = &planned.plan.disks[0].file_systems;
    let mounts: Vec<_> = file_systems.iter().map(|fs| (fs.partition, fs.mount_point.as_deref())).collect();
    assert_eq!(mounts, [(1, Some("/boot")), (2, Some("/")), (3, None)]);
    assert!(file_systems[1].used < 5 << 20, "what is left out counts: {} bytes", file_systems[1].used);
    assert_eq!(file_systems[1].golden.as_ref().unwrap().devices[0], format!("/dev/{disk}p2"));
    assert_eq!(planned.exclude, [Path::new("/scratch"), Path::new("/var/lib/ka")]);
    let sources: Vec<_> = planned.sources.iter().map(|s| s.mount_point.as_path()).collect();
    assert_eq!(sources, [Path::new("/"), Path::new("/boot")]);
}

fn check_refusals(disk: &str) {
    let refuse = |desc: &str| {
        fs::write("/tmp/desc", desc).unwrap();
        make_plan(disk, "/tmp/desc", &[]).unwrap_err().to_string()
    };
    assert!(refuse("linux 64\nlinux\n").starts_with("/tmp/desc:2:6: expected a size"));
    assert!(
        refuse("linux 64\nlinux 10\nswap fill\n").contains("/tmp/desc:2: partition 2 has 10 MB, too small")
    );
    let error = make_plan(disk, "/none", &[]).unwrap_err().to_string();
    assert!(error.starts_with("/none: No such file"), "{error}");
    let error = make_plan(disk, "/desc", &["/nowhere"]).unwrap_err().to_string();
    assert_eq!(error, "-x /nowhere: expected a directory of this machine");
}

fn check_view(planned: &Planned) {
    let view = View::open(&planned.sources).unwrap();
    let [root, boot] = view.sources() else { panic!("{view:?}") };
    assert_eq!(fs::read_to_string(root.directory.join("boot/hidden")).unwrap(), "below");
    assert!(!root.directory.join("boot/kernel").exists(), "another file system shows");
    assert!(fs::read_dir(root.directory.join("usr")).unwrap().next().is_none(), "another file system shows");
    assert_eq!(fs::read_to_string(boot.directory.join("kernel")).unwrap(), "kernel");
    let written = fs::write(root.directory.join("new"), "");
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    fs::write("/written-elsewhere", "").unwrap();
    assert!(root.directory.join("written-elsewhere").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let gone = root.directory.clone();
    drop(view);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts, "a mount is left");
    assert!(!gone.exists());
}

fn plan(disk: &Loop) -> DiskPlan {
    let fs = |partition, kind, label: Option<&str>, mount_point: Option<&str>| FileSystemPlan {
        label: label.map(str::to_owned),
        mount_point: mount_point.map(str::to_owned),
        ..FileSystemPlan::new(partition, kind)
    };
    DiskPlan {
        file_systems: vec![
            fs(1, FileSystemKind::Ext4, None, Some("/boot")),
            fs(2, FileSystemKind::Ext4, Some("my system"), Some("/")),
            fs(3, FileSystemKind::Swap, None, None),
        ],
        ..DiskPlan::new(disk.node().into(), Description::parse(DESC, "desc").unwrap())
    }
}
