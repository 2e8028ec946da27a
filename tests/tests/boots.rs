//! A disk that the agent has made, with the true tools of Debian, and a machine that boots it.
//!
//! Needs root, loop devices, `mmdebstrap` with a Debian mirror, `qemu-system-x86_64`, and some minutes, so it
//! runs only when asked for: `cargo test -p ka-tests --test boots -- --ignored`.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use ka::disk::description::Description;
use ka::inventory::Firmware;
use ka::plan::{
    After, BootPlan, DiskPlan, FileSystemKind, FileSystemPlan, FinishPlan, GoldenNames, Loader, Plan,
};
use ka_agent::disk::prepare;
use ka_agent::finish::{Copied, Machine, finish};
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::{run, tool};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

const PACKAGES: &str = "linux-image-cloud-amd64,initramfs-tools,zstd,grub-pc,systemd-sysv,udev,kmod";

/// The machine speaks on its serial line, from the loader on.
const HOOK: &str = r#"echo MODULES=dep > "$1/etc/initramfs-tools/conf.d/dep"
mkdir -p "$1/etc/default/grub.d"
printf 'GRUB_CMDLINE_LINUX=console=ttyS0\nGRUB_TERMINAL=serial\nGRUB_TIMEOUT=1\n' > "$1/etc/default/grub.d/serial.cfg"
printf 'UUID=aaaaaaaa-0000-4000-8000-000000000002 / ext4 defaults 0 1\nUUID=aaaaaaaa-0000-4000-8000-000000000001 /boot ext4 defaults 0 2\n' > "$1/etc/fstab""#;

/// A power cut at any moment before the last write leaves a disk without boot code.
#[test]
#[ignore = "makes a Debian and boots it: minutes"]
fn nothing_boots_before_the_last_write_and_debian_after_it() {
    let work = tempfile::tempdir().unwrap();
    let tree = work.path().join("tree.tar");
    let hook = format!("--customize-hook={HOOK}");
    let include = format!("--include={PACKAGES}");
    run("mmdebstrap", ["--quiet", "--variant=minbase", &include, &hook, "bookworm", path(&tree)]);
    let disk = Loop::new(3000 * MIB, 512);
    let plan = DiskPlan {
        file_systems: vec![file_system(1, "/boot"), file_system(2, "/")],
        ..DiskPlan::new(disk.node().into(), Description::parse("linux 300\nlinux fill\n", "desc").unwrap())
    };
    let mut prepared = prepare(std::slice::from_ref(&plan), &work.path().join("root")).unwrap();
    run("tar", ["--numeric-owner", "-xpf", path(&tree), "-C", path(&prepared.root)]);

    let plan = Plan {
        run: "boots".to_owned(),
        disks: vec![plan],
        boot: BootPlan {
            initrd_modules: vec!["virtio_blk".to_owned()],
            ..BootPlan::new(Loader::Grub, Firmware::Bios)
        },
        finish: FinishPlan::default(),
        after: After::Reboot,
    };
    let machine = Machine { storage_modules: vec!["virtio_pci".to_owned()], ..Machine::default() };
    let copied = Copied {
        root: &prepared.root,
        plan: &plan,
        made: &prepared.made,
        raw: &[],
        disk: &prepared.disk,
        machine: &machine,
    };
    let boot_code = finish(&copied).unwrap().boot_code.unwrap();

    assert_no_boot_code(&disk);
    assert!(disk.read(512, 512).iter().any(|byte| *byte != 0), "no core");
    prepared.unmount().unwrap();
    assert_no_boot_code(&disk);

    prepared.activate(Some(&boot_code)).unwrap();

    assert_eq!(disk.read(0, 440), boot_code.0);
    let dump = tool("sfdisk", ["-d", disk.node()]);
    assert!(dump.lines().any(|line| line.contains("p1 ") && line.contains("bootable")), "{dump}");
    drop(prepared);
    assert_boots(&disk);
    assert_eq!(of_grub_install(&disk, work.path()), boot_code.0, "grub-install would write something else");
}

fn assert_no_boot_code(disk: &Loop) {
    assert!(disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");
    assert!(!tool("sfdisk", ["-d", disk.node()]).contains("bootable"), "active before the last write");
}

/// The boot code that the copied system's own `grub-install` writes when it may.
fn of_grub_install(disk: &Loop, work: &Path) -> Vec<u8> {
    let root = work.join("judged");
    fs::create_dir(&root).unwrap();
    let script = r#"set -e
mount "$1p2" "$2"; mount "$1p1" "$2/boot"; mount --bind /dev "$2/dev"; mount -t proc proc "$2/proc"; mount -t sysfs sys "$2/sys"
chroot "$2" grub-install --target=i386-pc "$1""#;
    // The mounts are the namespace's own, and go with it.
    run("unshare", ["-m", "sh", "-c", script, "sh", disk.node(), path(&root)]);
    disk.read(0, 440)
}

fn assert_boots(disk: &Loop) {
    let drive = format!("file={},format=raw,if=virtio,snapshot=on", disk.node());
    let mut machine = Command::new("timeout")
        .args(["600", "qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-nodefaults", "-display", "none"])
        .args(["-serial", "stdio", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = String::new();
    let mut reader = BufReader::new(machine.stdout.take().unwrap());
    let mut bytes = Vec::new();
    // A prompt ends with a space and no newline.
    while !heard.contains("login:") && reader.read_until(b' ', &mut bytes).unwrap() > 0 {
        heard.push_str(&String::from_utf8_lossy(&bytes));
        bytes.clear();
    }
    // timeout hands the signal on.
    run("kill", [&machine.id().to_string()]);
    machine.wait().unwrap();
    assert!(heard.contains("GRUB") && heard.contains("login:"), "{heard}");
}

fn file_system(partition: u32, mount_point: &str) -> FileSystemPlan {
    let uuid = match partition {
        1 => "aaaaaaaa-0000-4000-8000-000000000001",
        _ => "aaaaaaaa-0000-4000-8000-000000000002",
    };
    FileSystemPlan {
        mount_point: Some(mount_point.to_owned()),
        golden: Some(GoldenNames { uuid: Some(uuid.to_owned()), ..GoldenNames::default() }),
        ..FileSystemPlan::new(partition, FileSystemKind::Ext4)
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
