//! References in a copied system to names that have changed, in a real chroot; judged by the tools of systemd
//! and util-linux.
//!
//! Needs root, loop devices, Debian's busybox-static, systemd-analyze, and findmnt.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use ka::inventory::Firmware;
use ka::notes::NoteKind;
use ka::plan::{
    BootPlan, FileSystemKind, FileSystemPlan, FinalAction, FinishPlan, GoldenCard, GoldenHost, GoldenMachine,
    GoldenNames, Loader, NodeAddress, NodeName, Plan, Storage,
};
use ka_agent::disk::{MadeFileSystem, MadeOn};
use ka_agent::finish::{self, FinishError, Machine};
use ka_host::hardware::SlottedCard;
use ka_tests::loop_device::{Loop, MIB};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use tempfile::TempDir;

const UPDATE_INITRAMFS: &str = "#!/bin/sh\necho kernel/ext4.ko > \"/boot/initrd.img-$3.new\"\nmv \"/boot/initrd.img-$3.new\" \"/boot/initrd.img-$3\"\n";
const LSINITRAMFS: &str = "#!/bin/sh\ncat \"$1\"\n";

/// Notes are kept per process, and so is the disk.
static ALONE: Mutex<()> = Mutex::new(());

/// A golden UUID, and the corresponding one of this node.
fn uuids(number: u32) -> (String, String) {
    (
        format!("aaaaaaaa-0000-4000-8000-00000000000{number}"),
        format!("bbbbbbbb-0000-4000-8000-00000000000{number}"),
    )
}

/// A copied system, unpacked, with a root, an XFS for data, and swap space.
struct Copied {
    directory: TempDir,
    disk: Loop,
    _alone: MutexGuard<'static, ()>,
}

impl Copied {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = ka_agent::notes::take();
        let copied =
            Self { directory: tempfile::tempdir().unwrap(), disk: Loop::new(MIB, 512), _alone: alone };
        fs::create_dir_all(copied.root().join("bin")).unwrap();
        fs::create_dir_all(copied.root().join("data")).unwrap();
        fs::copy("/bin/busybox", copied.root().join("bin/busybox"))
            .expect("busybox-static is needed for this test");
        for tool in ["sh", "cat", "mv", "sed", "cp"] {
            symlink("busybox", copied.root().join("bin").join(tool)).unwrap();
        }
        copied.program("usr/sbin/update-initramfs", UPDATE_INITRAMFS);
        copied.program("usr/sbin/lsinitramfs", LSINITRAMFS);
        for (file, text) in [
            ("boot/vmlinuz-6", ""),
            ("boot/initrd.img-6", "kernel/ext4.ko\n"),
            ("lib/modules/6/modules.dep", "kernel/ext4.ko:\n"),
            ("etc/initramfs-tools/modules", ""),
            ("etc/hostname", "golden\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/fstab", &format!("UUID={} / ext4 defaults 0 1\n", uuids(1).0)),
        ] {
            copied.put(file, text);
        }
        copied
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, file: &str, text: &str) {
        self.put(file, text);
        fs::set_permissions(self.root().join(file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    fn finish(&self) -> Result<(), FinishError> {
        let fs = |number: u32, kind: FileSystemKind, at: Option<&str>, label: &str| MadeFileSystem {
            plan: FileSystemPlan {
                mount_point: at.map(str::to_owned),
                golden: Some(GoldenNames {
                    uuid: Some(uuids(number).0),
                    partuuid: Some(format!("deadbeef-0{number}")),
                    label: None,
                    devices: vec![
                        format!("/dev/sdq{number}"),
                        format!("/dev/disk/by-id/ata-GOLD_1-part{number}"),
                        format!(r"/dev/disk/by-partlabel/{label}"),
                    ],
                    kind: Some(kind.name().to_owned()),
                }),
                ..FileSystemPlan::new(kind)
            },
            device: self.disk.node().into(),
            on: MadeOn::Partition(number),
            uuid: uuids(number).1,
            partuuid: format!("cafe0000-0{number}"),
        };
        let made = [
            fs(1, FileSystemKind::Ext4, Some("/"), "root"),
            fs(2, FileSystemKind::Swap, None, r"Linux\x20swap"),
            fs(3, FileSystemKind::Xfs, Some("/data"), "data"),
        ];
        let card = |interface: &str, last: u8, driver: Option<&str>| GoldenCard {
            interface: interface.to_owned(),
            mac: Some(ka::mac::Mac([0x52, 0x54, 0, 0, 0, last])),
            driver: driver.map(str::to_owned),
            pinned: driver.is_none(),
        };
        let plan = Plan {
            run: "r1".to_owned(),
            storage: Storage::default(),
            boot: BootPlan::new(Loader::None, Firmware::Bios),
            finish: FinishPlan {
                name: Some(NodeName {
                    hostname: "node7".to_owned(),
                    address: Some(NodeAddress { address: [10, 0, 0, 7].into(), prefix: None, gateway: None }),
                    cards: Vec::new(),
                }),
                golden: GoldenHost {
                    address: Some([10, 0, 0, 1].into()),
                    mac: Some(ka::mac::Mac([0x52, 0x54, 0, 0, 0, 1])),
                    interface: Some("ens3".to_owned()),
                    cards: vec![
                        card("ens3", 1, Some("e1000")),
                        card("ens4", 2, Some("e1000")),
                        card("ib0", 3, Some("mlx5")),
                        card("br0", 0xb0, None),
                    ],
                },
                machine: GoldenMachine {
                    hostname: Some("golden".to_owned()),
                    devices: [
                        "/dev/disk/by-id/ata-OTHER_2",
                        "/dev/mapper/old-swap",
                        "/dev/old/swap",
                        "/dev/disk/by-uuid/DEAD-0001",
                    ]
                    .map(str::to_owned)
                    .to_vec(),
                    tables: Vec::new(),
                },
                first_boot: None,
                store_log_password: None,
            },
            after: FinalAction::Reboot,
        };
        let slot = |interface: &str, last: u8| SlottedCard {
            interface: interface.to_owned(),
            mac: Some(ka::mac::Mac([0x52, 0x54, 0, 0, 1, last])),
            driver: "e1000".to_owned(),
        };
        let machine = Machine {
            slots: vec![slot("eth0", 1), slot("eth1", 2)],
            mac: Some(ka::mac::Mac([0x52, 0x54, 0, 0, 1, 1])),
            ..Machine::default()
        };
        let copied = finish::Copied {
            root: self.root(),
            plan: &plan,
            made: &made,
            raw: &[],
            disk: Path::new(self.disk.node()),
            machine: &machine,
        };
        finish::finish(&copied).map(drop)
    }
}

/// systemd's verdict on a unit file.
fn verified(unit: &Path) -> String {
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output();
    let output = output.expect("systemd-analyze is needed for this test");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn swap_by_a_unit_and_a_table_with_the_golden_nodes_options_work_here() {
    let copied = Copied::new();
    let ((golden_root, _), (_, swap), (golden_data, data)) = (uuids(1), uuids(2), uuids(3));
    copied.put("etc/systemd/system/dev-sdq2.swap", "[Unit]\nDescription=Swap\n[Swap]\nWhat=/dev/sdq2\n");
    fs::create_dir_all(copied.root().join("etc/systemd/system/swap.target.wants")).unwrap();
    symlink(
        "/etc/systemd/system/dev-sdq2.swap",
        copied.root().join("etc/systemd/system/swap.target.wants/dev-sdq2.swap"),
    )
    .unwrap();
    let device = format!(r"dev-disk-by\x2duuid-{}.device", golden_data.replace('-', r"\x2d"));
    copied.put(
        "etc/systemd/system/app.service",
        &format!("[Unit]\nRequires={device}\nAfter={device} dev-sdq2.swap\n[Service]\nExecStart=/bin/true\n"),
    );
    copied.put(
        "etc/fstab",
        &format!(
            "UUID={golden_root} / ext4 defaults 0 1\n\
             UUID={golden_data} /data xfs noatime,sunit=128,swidth=512,logdev=/dev/sdq9,x-systemd.requires={device} 0 0\n\
             PARTLABEL=Linux\\040swap none swap sw 0 0\n"
        ),
    );

    copied.finish().unwrap();

    let unit = format!(r"dev-disk-by\x2duuid-{}.swap", swap.replace('-', r"\x2d"));
    let units = copied.root().join("etc/systemd/system");
    let judged = verified(&units.join(&unit));
    assert!(!judged.contains("refusing") && !judged.contains("match"), "{judged}");
    let link = fs::read_link(units.join("swap.target.wants").join(&unit)).unwrap();
    assert!(link.ends_with(&unit));
    let own = format!(r"dev-disk-by\x2duuid-{}.device", data.replace('-', r"\x2d"));
    let app = copied.read("etc/systemd/system/app.service");
    assert!(app.contains(&format!("Requires={own}\nAfter={own} {unit}\n")), "{app}");
    let fstab = copied.read("etc/fstab");
    assert!(
        fstab.contains(&format!("UUID={data} /data xfs noatime,x-systemd.requires={own} 0 0\n")),
        "{fstab}"
    );
    assert!(fstab.contains(&format!("UUID={swap} none swap sw 0 0\n")), "{fstab}");
    let table = copied.root().join("etc/fstab");
    let judged = Command::new("findmnt").args(["--verify", "--tab-file"]).arg(&table).output();
    let judged = judged.expect("findmnt is needed for this test");
    let judged =
        String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
    assert!(judged.contains("0 parse errors"), "{judged}");

    // The judge detects a unit whose name does not match.
    let wrong = units.join("dev-sdq2.swap");
    fs::copy(units.join(&unit), &wrong).unwrap();
    let judged = verified(&wrong);
    assert!(judged.to_lowercase().contains("match"), "systemd-analyze has become blind: {judged}");
}

#[test]
fn names_in_unknown_places_are_told_with_file_and_line() {
    let copied = Copied::new();
    let (golden, _) = uuids(3);
    copied.put("etc/backup/site.conf", &format!("# a comment\nsource = {}\n", golden.to_uppercase()));
    copied.put("etc/smartd.conf", "/dev/disk/by-id/ata-OTHER_2 -a\n");
    copied.put("boot/notes", "swap was /dev/mapper/old-swap\n");
    copied.finish().unwrap();
    let notes = ka_agent::notes::take();
    assert!(notes.count(NoteKind::GoldenName) >= 3, "{notes:?}");
    let (_, counted) = notes.iter().find(|(kind, _)| *kind == NoteKind::GoldenName).unwrap();
    assert!(counted.example.contains("etc/") || counted.example.contains("boot/"), "{}", counted.example);

    let quiet = {
        drop(copied);
        Copied::new()
    };
    quiet.finish().unwrap();
    assert_eq!(ka_agent::notes::take().count(NoteKind::GoldenName), 0, "a plain system names nothing golden");
}

/// Files that a site's own step has written are not rewritten, but still searched.
#[test]
fn a_name_that_the_boot_waits_for_fails_the_node() {
    let copied = Copied::new();
    copied.program(
        "etc/ka/finish.d/10-site",
        "#!/bin/sh\necho 'UUID=dead-0001 /more ext4 defaults 0 2' >> /etc/fstab\n",
    );
    let error = copied.finish().unwrap_err().to_string();
    assert!(
        error.starts_with(
            "Search for the golden node's names: /etc/fstab still names the golden node's file system"
        ) && error.contains("DEAD-0001"),
        "{error}"
    );
    copied.put("etc/fstab", &format!("UUID={} / ext4 defaults 0 1\n", uuids(1).0));
    copied.program(
        "etc/ka/finish.d/10-site",
        "#!/bin/sh\necho 'UUID=dead-0001 /more ext4 nofail 0 2' >> /etc/fstab\n",
    );
    copied.finish().unwrap();
}

#[test]
fn two_cards_on_a_bridge_come_up_on_the_nodes_own() {
    let copied = Copied::new();
    copied.put("usr/lib/systemd/systemd-udevd", "");
    copied.put(
        "etc/netplan/01.yaml",
        "network:\n  ethernets:\n    ens3:\n      match: {macaddress: \"52:54:00:00:00:01\"}\n    ens4:\n      match:\n        macaddress: 52:54:00:00:00:02\n      set-name: ens4\n    ib0:\n      match:\n        macaddress: 52:54:00:00:00:03\n      set-name: ib0\n  bridges:\n    br0:\n      macaddress: 52:54:00:00:00:b0\n      interfaces: [ens3, ens4]\n      addresses: [10.0.0.1/24]\n",
    );
    copied
        .put("etc/sysconfig/network-scripts/route-br0", "10.9.0.0/16 via 10.0.0.254 dev br0 src 10.0.0.1\n");
    copied.put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 golden.example.org golden\n");
    copied.finish().unwrap();

    let plan = copied.read("etc/netplan/01.yaml");
    for part in [
        "match: {macaddress: \"52:54:00:00:01:01\"}",
        "macaddress: 52:54:00:00:01:02\n      set-name: ens4",
        "name: \"ib0\"\n  bridges:",
        "addresses: [10.0.0.7/24]",
    ] {
        assert!(plan.contains(part), "{part} is missing in:\n{plan}");
    }
    assert!(!plan.contains("52:54:00:00:00:"), "{plan}");
    assert!(copied.read("etc/sysconfig/network-scripts/route-br0").ends_with("src 10.0.0.7\n"));
    assert_eq!(copied.read("etc/hosts"), "127.0.0.1 localhost\n10.0.0.7\tnode7.example.org node7\n");
    let link = copied.read("etc/systemd/network/50-ka-ens4.link");
    assert!(link.contains("MACAddress=52:54:00:00:01:02\n") && link.contains("Name=ens4\n"), "{link}");
    assert!(copied.read("etc/systemd/network/50-ka.link").contains("Name=ens3\n"));
    let notes = ka_agent::notes::take();
    assert_eq!(notes.count(NoteKind::GoldenName), 0, "{notes:?}");
    assert!(notes.count(NoteKind::Finish) > 0, "the card that has no other is told");
}

#[test]
fn other_softwares_identity_is_named_in_the_report() {
    let copied = Copied::new();
    copied.put("etc/krb5.keytab", "x");
    copied.put("var/lib/tailscale/tailscaled.state", "x");
    copied.finish().unwrap();
    let notes = ka_agent::notes::take();
    let (_, counted) = notes.iter().find(|(kind, _)| *kind == NoteKind::Identity).expect("it is noted");
    assert!(
        counted.example.contains("kerberos (/etc/krb5.keytab)") && counted.example.contains("tailscale"),
        "{}",
        counted.example
    );
    assert!(copied.root().join("etc/krb5.keytab").exists());
    copied.put("etc/ka/identity.d/site", "enable all\n");
    copied.finish().unwrap();
    assert!(!copied.root().join("etc/krb5.keytab").exists());
    assert_eq!(ka_agent::notes::take().count(NoteKind::Identity), 0);
}
