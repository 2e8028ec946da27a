//! A golden machine for `kactl run`: a disk with a root file system, and a chroot in it. The nodes are the
//! test's own threads, which report disks that they do not have.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `ip`.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use ka::disk::description::Description;
use ka::inventory::identity::DiskIdentity;
use ka::inventory::{Card, Content, Disk, Firmware, Inventory};
use ka::keys::{JoinKey, KeyPair};
use ka::plan::{BootPlan, DiskPlan, FileSystemKind, FileSystemPlan, FinalAction, Loader, Storage};
use ka::wire::control::Hello;
use ka_agent::disk::{confirm_now, prepare};
use ka_agent::session::{Endorse, JoinError, Session};
use kactl::golden::plan::{Request, WantedDisk};

use crate::chroot::in_chroot;
use crate::loop_device::{Loop, MIB};
use crate::process::{program, wait_until};
use crate::succeed;
use crate::tool::run;

/// A request for a plan with these disks of a machine that has no kernel.
#[must_use]
pub fn plan_request(disks: &[WantedDisk]) -> Request<'_> {
    Request {
        run: "r1",
        disks,
        exclude_dirs: &[],
        exclude_disks: &[],
        own_dirs: Vec::new(),
        raw: &[],
        boot_code: &[],
        scale: false,
        keep_uuids: false,
        sizes: &[],
        stage2: None,
        boot: BootPlan::new(Loader::None, Firmware::Bios),
        after: FinalAction::Reboot,
    }
}

/// Runs an ignored test of this binary on such a machine.
///
/// # Panics
/// When it fails.
pub fn on_a_golden_machine(test: &str) {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let mut fs = FileSystemPlan::new(FileSystemKind::Ext4);
    fs.mount_point = Some("/".into());
    let desc = Description::parse("linux fill\nswap 16\n", "desc").unwrap();
    let storage = Storage::of(DiskPlan::new(disk.node().into(), desc), [(1, fs)]);
    prepare(&confirm_now(&storage).unwrap(), root).unwrap().unmount().unwrap();
    run("mount", [&format!("{}p1", disk.node()), root.to_str().unwrap()]);
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("kactl"), "").unwrap();
    let mounts = format!("mount --bind {:?} \"$1/kactl\"", program("kactl"));
    let inner = in_chroot(root, &disk, &mounts, test);
    run("umount", [root.to_str().unwrap()]);
    assert!(inner, "the test in the chroot failed: see above");
}

/// Creates the files that `kactl init` and `kactl image` would make.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn set_up() -> JoinKey {
    let dirs =
        "[directories]\nstate = \"/ka/state\"\nlog = \"/ka/log\"\nrun = \"/ka/run\"\nkeys = \"/ka/keys\"\n";
    fs::create_dir_all("/ka/state/boot").unwrap();
    fs::create_dir_all("/ka/state/stage2").unwrap();
    fs::write("/ka/ka.toml", dirs).unwrap();
    succeed(kactl().arg("init"));
    fs::write("/ka/state/boot/vmlinuz", "").unwrap();
    fs::copy("/ka/keys/join.key", "/ka/state/boot/all.rdz").unwrap();
    JoinKey::from_text(&fs::read_to_string("/ka/keys/join.key").unwrap()).unwrap()
}

/// `kactl` with this configuration.
#[must_use]
pub fn kactl() -> Command {
    let mut command = Command::new("/kactl");
    command.args(["--config", "/ka/ka.toml"]);
    command
}

/// `kactl run` for two nodes. The golden disk does not have the requested name, so it is the one with the
/// root, which has no kernel.
#[must_use]
pub fn kactl_run(more: &[&str]) -> Command {
    kactl_run_for(2, more)
}

/// The same for this many nodes.
#[must_use]
pub fn kactl_run_for(nodes: usize, more: &[&str]) -> Command {
    let mut command = kactl();
    command.args(["run", "-n", &nodes.to_string(), "-p", "sda:size=1G", "-r", "none", "--json"]).args(more);
    command.stdin(Stdio::null());
    command
}

/// Starts it.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn start_run(more: &[&str]) -> JoinHandle<Output> {
    let mut command = kactl_run(more);
    thread::spawn(move || command.output().unwrap())
}

/// Joins as a node with one disk of `size` bytes, as soon as `kactl` listens.
///
/// # Panics
/// When it is refused.
#[must_use]
pub fn join(join: &JoinKey, number: u8, size: u64) -> Session {
    join_with(join, number, size, &format!("SERIAL-{number}"), 1)
}

/// The same with a serial number of the disk, which may be empty, and the number of the boot.
///
/// # Panics
/// When it is refused.
#[must_use]
pub fn join_with(join: &JoinKey, number: u8, size: u64, serial: &str, boot: u64) -> Session {
    join_endorsed(join, &inventory(number, size, serial, boot), None).unwrap()
}

/// The inventory of the node with this number, and one disk.
#[must_use]
pub fn arriving(number: u8, size: u64) -> Inventory {
    inventory(number, size, &format!("SERIAL-{number}"), 1)
}

fn inventory(number: u8, size: u64, serial: &str, boot: u64) -> Inventory {
    let mac = format!("52:54:00:00:00:{number:02x}");
    let old =
        Content { device: "sda1".into(), size: 1 << 20, kind: Some("xfs".into()), label: Some("old".into()) };
    let disk = Disk {
        name: "sda".into(),
        size,
        sector_size: 512,
        bus: "ata".into(),
        table: Some("gpt".into()),
        contents: vec![old],
        identity: DiskIdentity {
            size,
            sector_size: 512,
            serial: serial.into(),
            boot: boot.to_string(),
            sequence: Some(1),
            ..DiskIdentity::default()
        },
        ..Disk::default()
    };
    Inventory {
        cards: vec![Card { name: "eth0".into(), mac, ..Card::default() }],
        disks: vec![disk],
        ..Inventory::default()
    }
}

/// Joins as this machine with its TPM, as soon as `kactl` listens.
///
/// # Errors
/// The reason for which it is refused.
///
/// # Panics
/// If `kactl` does not listen.
pub fn join_endorsed(
    join: &JoinKey,
    inventory: &Inventory,
    mut tpm: Option<&mut dyn Endorse>,
) -> Result<Session, String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = KeyPair::generate().unwrap();
    let hello = Hello {
        session: "kainstall".into(),
        version: String::new(),
        key: own.public,
        data_port: listener.local_addr().unwrap().port(),
        window: 8 << 20,
        inventory: inventory.clone(),
        erasable: true,
        place: 0,
        resume: None,
    };
    let mut outcome = None;
    wait_until("kactl listens", || {
        let address = SocketAddr::from(([127, 0, 0, 1], 30765));
        let (listener, hello) = (listener.try_clone().unwrap(), hello.clone());
        let tpm = tpm.as_mut().map(|tpm| &mut **tpm as &mut dyn Endorse);
        match Session::join_endorsed(address, (join, &own), hello, listener, tpm) {
            Ok(joined) => outcome = Some(Ok(joined)),
            // An earlier run's port may still be closing.
            Err(JoinError::Unreachable { .. } | JoinError::Channel { .. }) => {}
            Err(e) => outcome = Some(Err(e.to_string())),
        }
        outcome.is_some()
    });
    outcome.unwrap()
}
