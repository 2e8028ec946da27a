//! The stage2 tree, built from this machine's tools and Debian's cloud kernel: it must be self-contained.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ka_tests::{kernel, root, static_agent, succeed};

struct Stage2 {
    _folder: tempfile::TempDir,
    tree: PathBuf,
}

static STAGE2: LazyLock<Stage2> = LazyLock::new(|| {
    let kernel = kernel::debian("linux-image-cloud-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let tree = folder.path().join("stage2");
    let mut make = Command::new(root().join("initramfs/make-stage2"));
    succeed(make.args([&kernel.modules, Path::new("/"), &static_agent(), &tree]));
    Stage2 { tree, _folder: folder }
});

/// Runs a program inside the tree, without access to this machine's files.
fn inside(program: &str, args: &[&str]) -> String {
    let mut command = Command::new("chroot");
    command.arg(&STAGE2.tree).arg(program).args(args);
    succeed(command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
}

fn version() -> String {
    let mut versions = fs::read_dir(STAGE2.tree.join("lib/modules")).expect("modules are in the tree");
    let version = versions.next().expect("one kernel's modules").expect("a directory can be read");
    version.file_name().into_string().expect("a version is text")
}

#[test]
fn every_program_and_library_finds_its_libraries_in_the_tree() {
    let list = succeed(
        Command::new("find").args(["usr", "-type", "f", "!", "-name", "*.ko"]).current_dir(&STAGE2.tree),
    );
    let mut dynamic = 0;
    for file in list.lines() {
        let header = Command::new("readelf").args(["--dynamic", file]).current_dir(&STAGE2.tree).output();
        let header = header.expect("readelf runs");
        if !String::from_utf8_lossy(&header.stdout).contains("NEEDED") {
            continue;
        }
        dynamic += 1;
        // The tree's own loader, without a cache of this machine's libraries; it fails if one is missing.
        inside("/lib64/ld-linux-x86-64.so.2", &["--list", &format!("/{file}")]);
    }
    assert!(dynamic > 20, "only {dynamic} dynamic programs and libraries were found");
}

#[test]
fn the_tools_that_every_node_needs_run() {
    for tool in [
        "mkfs.ext2",
        "mkfs.ext3",
        "mkfs.ext4",
        "e2fsck",
        "blkid",
        "mkswap",
        "modprobe",
        "lsblk",
        "wipefs",
        "mount",
    ] {
        inside(tool, &["-V"]);
    }
    inside("sfdisk", &["--version"]);
    for applet in ["sh", "vi", "less", "dmesg", "ip", "ping", "ls", "ps", "tar", "hexdump", "umount"] {
        inside("sh", &["-c", &format!("command -v {applet}")]);
    }
    succeed(Command::new("cmp").args([static_agent(), STAGE2.tree.join("usr/sbin/ka-agent")]));
}

/// Without mke2fs.conf, mkfs.ext4 would create a file system without a journal or extents.
#[test]
fn a_file_system_is_made_as_on_the_golden_node() {
    let made_inside = STAGE2.tree.join("tmp/inside");
    let here = tempfile::NamedTempFile::new().expect("a temporary file");
    succeed(Command::new("truncate").args(["-s", "64M"]).args([made_inside.as_path(), here.path()]));
    inside("mkfs.ext4", &["-q", "/tmp/inside"]);
    succeed(Command::new("mkfs.ext4").arg("-q").arg(here.path()));
    let features = |file: &Path| {
        let text = succeed(Command::new("dumpe2fs").arg("-h").arg(file));
        let line = text.lines().find(|line| line.starts_with("Filesystem features:")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("dumpe2fs shows no features:\n{text}"))
    };
    assert_eq!(features(&made_inside), features(here.path()));
    assert!(features(&made_inside).contains("has_journal"));
    succeed(Command::new("e2fsck").arg("-fn").arg(&made_inside));
    fs::remove_file(made_inside).expect("it is there");
}

#[test]
fn modprobe_finds_disks_and_file_systems_with_all_that_they_need() {
    let version = version();
    let modules = [
        "virtio_blk",
        "virtio_scsi",
        "nvme",
        "ata_piix",
        "sd_mod",
        "xen-blkfront",
        "hv_storvsc",
        "dm-mod",
        "raid1",
    ];
    let systems = ["ext4", "xfs", "btrfs", "vfat", "squashfs", "overlay", "nls_cp437"];
    let mut needed = BTreeSet::new();
    for name in modules.iter().chain(&systems) {
        let list = inside("modprobe", &["-S", &version, "--show-depends", name]);
        needed.extend(
            list.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|p| p.trim().to_owned()),
        );
    }
    assert!(needed.len() > modules.len(), "{needed:?}");
    for path in needed {
        let path = path.split_whitespace().next().unwrap_or_default();
        assert!(STAGE2.tree.join(path.trim_start_matches('/')).exists(), "{path} is not in the tree");
    }
    // A driver is found by its device's modalias: virtio's disk, and the IDE controller that QEMU emulates.
    for alias in ["virtio:d00000002v00001AF4", "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80"] {
        inside("modprobe", &["-S", &version, "--resolve-alias", alias]);
    }
}

#[test]
fn the_tree_leaves_room_in_a_small_machine() {
    let size =
        succeed(Command::new("du").args(["-s", "--apparent-size", "--block-size=1M"]).arg(&STAGE2.tree));
    let megabytes: u64 =
        size.split_whitespace().next().and_then(|n| n.parse().ok()).expect("du prints a number");
    assert!(megabytes <= 80, "{megabytes} MiB unpacked");
}

#[test]
fn a_tree_is_not_made_over_another() {
    let kernel = kernel::debian("linux-image-cloud-amd64");
    let mut make = Command::new(root().join("initramfs/make-stage2"));
    make.args([&kernel.modules, Path::new("/"), &static_agent(), &STAGE2.tree]);
    let output = make.output().expect("the script runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists already"));
}
