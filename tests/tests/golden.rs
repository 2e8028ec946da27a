//! The golden node's disk: scanned, described, planned and viewed.
//!
//! Needs root, a loop device, `unshare`, `chroot`, `blkid`, `sfdisk`, `sgdisk`, `partx`, `fsfreeze`, and the
//! tools of every file system.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use ka::disk::description::Description;
use ka::disk::kind::TableKind;
use ka::plan::{BootPlan, Covered, DiskPlan, FileSystemKind, FileSystemPlan, Loader, Storage};
use ka_agent::disk::{confirm_now, prepare};
use ka_tests::chroot::in_chroot;
use ka_tests::golden_machine::plan_request;
use ka_tests::loop_device::{Loop, MIB};
use ka_tests::tool::{run, tool};
use kactl::commands::desc::{DescArgs, DescCommandError, DescFormat};
use kactl::golden::plan::{PlanError, Planned, Request, WantedBootCode, WantedDisk, make};
use kactl::golden::scan::{GoldenDisk, Usage, scan};
use kactl::golden::view::View;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DESC: &str = "linux 64\nlinux fill\nswap 16\n";

#[test]
fn a_disk_is_scanned_and_described() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let prepared = prepare(&confirm_now(&plan(&disk)).unwrap(), work.path()).unwrap();
    fs::write(work.path().join("file"), vec![1; 3 << 20]).unwrap();

    let golden = scan(disk.node()).unwrap();

    assert!(golden.table.as_ref().unwrap().partition(3).unwrap().kind.is_swap());
    let [boot, root, swap] = golden.partitions.as_slice() else { panic!("{golden:?}") };
    assert_eq!(boot.contents.uuid.as_ref(), Some(&prepared.made[0].uuid));
    assert_eq!(boot.contents.partuuid.as_ref(), Some(&prepared.made[0].partuuid));
    assert_eq!(root.contents.label.as_deref(), Some("my system"));
    let Usage::Mounted { at, used, read_only: false, .. } = &root.usage else { panic!("{root:?}") };
    assert_eq!(at, work.path());
    assert!((3 << 20..5 << 20).contains(used), "{used} bytes in use");
    assert_eq!(swap.usage, Usage::Unused);

    let text = describe(disk.name(), None).unwrap();
    assert_eq!(without_comments(&text), DESC);
    assert!(
        text.contains(&format!("{}p2: 119 MB, ext4 \"my system\", mounted at {}", disk.node(), at.display())),
        "{text}"
    );
}

/// sfdisk judges its own format, and reads it for a disk of another size.
#[test]
fn a_gpt_is_described_in_sfdisks_form() {
    let disk = Loop::new(64 * MIB, 512);
    run(
        "sgdisk",
        [
            "-n",
            "1:0:+8M",
            "-t",
            "1:ef00",
            "-c",
            "1:EFI system",
            "-n",
            "4:0:+16M",
            "-t",
            "4:8200",
            "-n",
            "7:0:0",
            disk.node(),
        ],
    );
    run("partx", ["-a", disk.node()]);
    let text = describe(disk.name(), None).unwrap();
    let read = Description::parse(&text, "desc").unwrap();
    assert_eq!(read.table(), TableKind::Gpt);
    let found: Vec<_> = read.entries().iter().map(|e| (e.number, e.name.as_str(), e.is_fill())).collect();
    assert_eq!(found, [(1, "EFI system", false), (4, "", false), (7, "", true)]);
    assert_eq!(text, describe(disk.name(), Some(DescFormat::Sfdisk)).unwrap());
    assert!(describe(disk.name(), Some(DescFormat::Desc)).unwrap().contains("# NOTE: "));

    let work = tempfile::tempdir().unwrap();
    let (script, image) = (work.path().join("script"), work.path().join("image"));
    fs::write(&script, &text).unwrap();
    fs::File::create(&image).unwrap().set_len(128 * MIB).unwrap();
    run("sh", ["-c", "sfdisk -q \"$1\" <\"$2\"", "sh", image.to_str().unwrap(), script.to_str().unwrap()]);
    let made = tool("sfdisk", ["-d", image.to_str().unwrap()]);
    assert!(
        made.contains("name=\"EFI system\"") && made.contains("image4") && made.contains("image7"),
        "{made}"
    );
}

#[test]
fn what_cannot_be_described_is_told() {
    let disk = Loop::new(64 * MIB, 512);
    let error = describe(disk.name(), None).unwrap_err();
    assert!(matches!(error, DescCommandError::Describe(_)), "{error}");
    let error = describe("sdzz", None).unwrap_err();
    assert!(error.to_string().starts_with("this machine has no disk sdzz"), "{error}");
}

/// A table that the kernel has not read does not match the mounts: the contents of the new table's partitions
/// are unknown.
#[test]
fn a_table_that_the_kernel_has_not_read_is_told() {
    let disk = Loop::new(64 * MIB, 512);
    let write = |script: &str| {
        let sfdisk = "printf \"$2\" | sfdisk -q --no-reread --no-tell-kernel \"$1\"";
        run("sh", ["-c", sfdisk, "sh", disk.node(), script]);
    };
    write("d1: size=8M\\nd2: size=40M, type=5\\nd5: size=8M\\nd6: size=8M\\n");
    run("partx", ["-a", disk.node()]);
    assert_eq!(scan(disk.node()).unwrap().partitions.len(), 4);
    write("d1: size=8M\\nd2: size=40M, type=5\\nd5: size=4M\\nd6: size=8M\\n");
    let error = scan(disk.node()).unwrap_err().to_string();
    assert!(error.contains("p5: the kernel has it") && error.contains("partprobe"), "{error}");
}

/// A machine whose root is the loop device: this test's binary, run again in a chroot on it.
#[test]
fn a_machine_is_planned_and_viewed() {
    let disk = Loop::new(200 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let mut prepared = prepare(&confirm_now(&plan(&disk)).unwrap(), root).unwrap();
    // Below the mount point of /boot, where only a view of the root file system itself shows it.
    fs::write(root.join("boot/kernel"), "kernel").unwrap();
    prepared.unmount().unwrap();
    run("mount", [&format!("{}p2", disk.node()), root.to_str().unwrap()]);
    fs::write(root.join("boot/hidden"), "below").unwrap();
    for dir in ["scratch", "tmp"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("scratch/large"), vec![1; 20 << 20]).unwrap();
    fs::write(root.join("desc"), DESC).unwrap();
    run("chmod", ["1751", text(&root.join("boot"))]);
    run("chown", ["7:8", text(&root.join("boot"))]);
    run("setfattr", ["-n", "user.beneath", "-v", "yes", text(&root.join("boot"))]);
    run("touch", ["-d", "@1234567890.123456789", text(&root.join("boot"))]);
    drop(prepared);

    let inner = in_chroot(root, &disk, "mount \"$2p1\" \"$1/boot\"", "plan_and_view_this_machine");
    run("umount", [root.to_str().unwrap()]);
    assert!(inner, "the test in the chroot failed: see above");
}

#[test]
#[ignore = "run by a_machine_is_planned_and_viewed"]
fn plan_and_view_this_machine() {
    let disk = std::env::var("KA_TEST_DISK").unwrap();
    let planned = make_plan(&disk, Some("/desc"), &["/scratch"]).unwrap();
    check_plan(&planned, &disk);
    let elsewhere = make_plan("sdzz", Some("/desc"), &[]).unwrap();
    assert_eq!(elsewhere.plan.storage.disks[0].disk, "sdzz".into(), "other name on the nodes");
    let started = BootPlan::new(Loader::Grub, ka::inventory::Firmware::Bios);
    let refused = make(&Request { boot: started, ..request(&[wanted(&disk, None)]) }).unwrap_err();
    assert!(refused.to_string().contains("no kernel in /boot"), "{refused}");
    assert_eq!(elsewhere.notes[0], format!("this machine has no sdzz: its disk {disk} is copied"));
    check_choices(&disk);
    check_refusals(&disk);
    check_own_description(&disk, &planned);
    check_view(&planned);
}

fn wanted(disk: &str, desc: Option<&str>) -> WantedDisk {
    WantedDisk { disk: disk.parse().unwrap(), desc: desc.map(PathBuf::from) }
}

fn request(disks: &[WantedDisk]) -> Request<'_> {
    Request { own_dirs: vec!["/var/lib/ka".into()], ..plan_request(disks) }
}

fn make_plan(disk: &str, desc: Option<&str>, exclude: &[&str]) -> Result<Planned, PlanError> {
    let exclude: Vec<_> = exclude.iter().map(Into::into).collect();
    make(&Request { exclude_dirs: &exclude, ..request(&[wanted(disk, desc)]) })
}

fn check_plan(planned: &Planned, disk: &str) {
    let file_systems = file_systems(planned);
    let mounts: Vec<_> =
        file_systems.iter().map(|(number, fs)| (*number, fs.mount_point.as_deref())).collect();
    assert_eq!(mounts, [(1, Some("/boot")), (2, Some("/")), (3, None)]);
    assert!(file_systems[1].1.used < 5 << 20, "what is left out counts: {} bytes", file_systems[1].1.used);
    assert_eq!(file_systems[1].1.golden.as_ref().unwrap().devices[0], format!("/dev/{disk}p2"));
    assert!(file_systems[1].1.shape.features.as_ref().unwrap().contains(&"extent".to_owned()));
    let beneath = Covered {
        mount_point: "/boot".into(),
        mode: 0o1751,
        uid: 7,
        gid: 8,
        mtime: (1_234_567_890, 123_456_789),
        xattrs: vec![(b"user.beneath".to_vec(), b"yes".to_vec())],
        traits: ka::archive::Traits::default(),
    };
    assert_eq!(file_systems[0].1.covered, [beneath]);
    assert_eq!(file_systems[1].1.covered, [], "nothing is beneath the root");
    assert_eq!(planned.exclude, [Path::new("/scratch"), Path::new("/var/lib/ka")]);
    let sources: Vec<_> = planned.sources.iter().map(|s| s.mount_point.as_path()).collect();
    assert_eq!(sources, [Path::new("/"), Path::new("/boot")]);
}

/// Valid and invalid names for `-p`.
fn check_choices(disk: &str) {
    let auto = make_plan("auto", Some("/desc"), &[]).unwrap();
    let expected = ka::disk::choice::DiskChoice::Auto { bus: "loop".into(), size: 200 << 20, except: vec![] };
    assert_eq!(auto.plan.storage.disks[0].disk, expected, "auto looks for the like of the golden disk");
    make_plan("by-id:ata-NODES_*", Some("/desc"), &[]).unwrap();
    for (disks, error) in [
        ([wanted(disk, None), wanted("auto", None)], "-p auto: which disk of this machine"),
        ([wanted("sdzz", None), wanted("auto", None)], "-p auto: "),
    ] {
        let found = make(&request(&disks)).unwrap_err().to_string();
        assert!(found.starts_with(error), "{found}");
    }
    let one = [wanted(disk, Some("/desc"))];
    let excluded = make(&Request { exclude_disks: &[disk.to_owned()], ..request(&one) }).unwrap_err();
    assert!(matches!(excluded, PlanError::Excluded(_)), "{excluded}");
    let code = [WantedBootCode { disk: disk.to_owned(), file: None }];
    let boot = BootPlan::new(Loader::None, ka::inventory::Firmware::Bios);
    let planned = make(&Request { boot_code: &code, boot, ..request(&one) }).unwrap();
    assert_eq!(planned.plan.storage.disks[0].boot_code.as_ref().map(Vec::len), Some(446));
}

fn check_refusals(disk: &str) {
    let refuse = |desc: &str| {
        fs::write("/tmp/desc", desc).unwrap();
        make_plan(disk, Some("/tmp/desc"), &[]).unwrap_err().to_string()
    };
    assert!(refuse("linux 64\nlinux\n").starts_with("/tmp/desc:2:6: expected a size"));
    assert!(
        refuse("linux 64\nlinux 10\nswap fill\n").contains("/tmp/desc:2: partition 2 has 10 MB, too small")
    );
    let error = make_plan(disk, Some("/none"), &[]).unwrap_err().to_string();
    assert!(error.starts_with("/none: No such file"), "{error}");
    let error = make_plan(disk, Some("/desc"), &["/nowhere"]).unwrap_err().to_string();
    assert_eq!(error, "-x /nowhere: expected a directory of this machine");
}

/// A run without a description uses the output of `kactl desc`.
fn check_own_description(disk: &str, planned: &Planned) {
    let own = make_plan(disk, None, &["/scratch"]).unwrap();
    let made = |planned: &Planned| -> Vec<_> {
        let file_systems = file_systems(planned).into_iter();
        file_systems.map(|(number, fs)| (number, fs.kind, fs.label.clone(), fs.mount_point.clone())).collect()
    };
    assert_eq!(made(&own), made(planned));
    let rendered = own.plan.storage.disks[0].desc.render(ka::disk::description::Format::Desc);
    assert_eq!(without_comments(&rendered.text), DESC);
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

/// A machine with logical partitions and every type of file system: those that this kernel supports are
/// mounted, in a root that is a subvolume.
#[test]
fn a_machine_with_every_kind_is_planned() {
    let disk = Loop::new(1100 * MIB, 512);
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let setup =
        Command::new("sh").args(["-ec", EVERY_KIND, "sh", root.to_str().unwrap(), disk.node()]).output();
    let setup = setup.unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));

    let mounts = "mount \"$2p1\" \"$1/boot\"
        mount -o noatime \"$2p2\" \"$1/srv\"
        mount \"$2p3\" \"$1/srv/data\"
        mount -o subvol=@home \"$2p6\" \"$1/home\"
        mount --bind \"$1/home/user\" \"$1/mnt\"";
    let inner = in_chroot(root, &disk, mounts, "plan_every_kind");
    run("umount", [root.to_str().unwrap()]);
    assert!(inner, "the test in the chroot failed: see above");
}

/// Partitions `$2p1` and following, and below `$1` the root of the machine that they form.
const EVERY_KIND: &str = "
    sfdisk -q \"$2\" <<END
label: dos
start=1MiB, size=40MiB, type=83, bootable
size=330MiB, type=83
size=40MiB, type=83
type=5
size=16MiB, type=82
size=300MiB, type=83
size=20MiB, type=83
size=40MiB, type=83
size=40MiB, type=83
size=40MiB, type=c
END
    partx -a \"$2\"
    mkfs.ext2 -q -L boot -I 128 -m 1 \"$2p1\"
    mkfs.xfs -q -i size=1024 -m reflink=1 \"$2p2\"
    mkfs.ext3 -q -b 2048 \"$2p3\"
    mkswap -q -L paging \"$2p5\"
    mkfs.btrfs -q -L top -O ^no-holes \"$2p6\" >/dev/null
    printf 'LUKS\\272\\276\\000\\001' | dd of=\"$2p7\" status=none
    mkfs.jfs -q \"$2p8\" >/dev/null
    mkfs.reiserfs -qf \"$2p9\" >/dev/null 2>&1
    mkfs.vfat -F 16 -n EFI \"$2p10\" >/dev/null
    mount \"$2p6\" \"$1\"
    for volume in @ @home @home/cache unmounted; do btrfs -q subvolume create \"$1/$volume\" >/dev/null; done
    mkdir -p \"$1/@/var/lib\" \"$1/@home/user\"
    for dir in boot srv home mnt tmp; do mkdir \"$1/@/$dir\"; done
    btrfs -q subvolume create \"$1/@/var/lib/machines\" >/dev/null
    echo inside >\"$1/@/var/lib/machines/file\"
    echo cached >\"$1/@home/cache/file\"
    btrfs -q subvolume snapshot -r \"$1/@\" \"$1/@/before\" >/dev/null
    btrfs -q subvolume set-default \"$1/@\"
    umount \"$1\"
    mount \"$2p2\" \"$1\"
    mkdir \"$1/data\"
    yes | head -c 12M >\"$1/shared1\"
    for copy in 2 3 4 5; do cp --reflink=always \"$1/shared1\" \"$1/shared$copy\"; done
    umount \"$1\"
    mount -o compress=zstd \"$2p6\" \"$1\"
";

#[test]
#[ignore = "run by a_machine_with_every_kind_is_planned"]
fn plan_every_kind() {
    let disk = std::env::var("KA_TEST_DISK").unwrap();
    let golden = scan(&disk).unwrap();
    check_shapes(&golden);
    let planned = make_plan(&disk, None, &[]).unwrap();
    check_every_kind(&planned, &disk);
    check_raw(&disk);
    check_subvolumes(&planned);
}

fn check_shapes(golden: &GoldenDisk) {
    let of = |number| golden.partitions.iter().find(|p| p.number() == Some(number)).unwrap();
    let (boot, srv, data) = (&of(1).made.shape, &of(2).made.shape, &of(3).made.shape);
    assert_eq!((boot.inode_size, boot.reserved), (Some(128), Some(1000)));
    assert_eq!((srv.inode_size, data.block_size), (Some(1024), Some(2048)));
    let has = |features: &Option<Vec<String>>, name: &str| features.iter().flatten().any(|f| f == name);
    assert!(has(&srv.features, "reflink") && has(&data.features, "has_journal"));
    assert!(!has(&of(6).made.shape.features, "no-holes"));
    assert_eq!(of(10).made.shape.fat_bits, Some(16));
    let Usage::Mounted { used, .. } = of(2).usage else { panic!("{golden:?}") };
    assert!(used < 52 << 20, "what XFS sets aside counts as used: {used}");
    let kinds: Vec<_> = golden.partitions.iter().map(|p| p.contents.kind.as_deref().unwrap_or("")).collect();
    let expected = ["ext2", "xfs", "ext3", "", "swap", "btrfs", "crypto_LUKS", "jfs", "reiserfs", "vfat"];
    assert_eq!(kinds, expected);
}

fn check_every_kind(planned: &Planned, disk: &str) {
    let storage = &planned.plan.storage;
    let file_systems = file_systems(planned);
    let made: Vec<_> =
        file_systems.iter().map(|(number, fs)| (*number, fs.kind, fs.mount_point.as_deref())).collect();
    assert_eq!(
        made,
        [
            (1, FileSystemKind::Ext2, Some("/boot")),
            (2, FileSystemKind::Xfs, Some("/srv")),
            (3, FileSystemKind::Ext3, Some("/srv/data")),
            (5, FileSystemKind::Swap, None),
            (6, FileSystemKind::Btrfs, None),
            (8, FileSystemKind::Jfs, None),
            (9, FileSystemKind::Reiserfs, None),
            (10, FileSystemKind::Vfat, None),
        ]
    );
    let (shared, compressed) = (file_systems[1].1, file_systems[4].1);
    assert!(shared.used >= 60 << 20, "five files, of which the copies share nothing: {}", shared.used);
    assert!(compressed.compress.as_deref().is_some_and(|option| option.starts_with("compress=zstd")));
    assert!((10..1000).contains(&file_systems[0].1.inodes) && shared.inodes == 0, "{storage:?}");
    let raw = storage.partitions(0).filter_map(|(number, volume)| Some((number, volume.raw()?.size)));
    assert_eq!(raw.collect::<Vec<_>>(), [(7, 20 << 20)]);
    assert_eq!(planned.raw[0].device, Path::new(&format!("/dev/{disk}p7")));
    let fills: Vec<u32> =
        storage.disks[0].desc.entries().iter().filter(|e| e.is_fill()).map(|e| e.number).collect();
    assert_eq!(fills, [4, 6], "the last file system in use fills the disk");
    let subvolumes: Vec<_> = file_systems[4]
        .1
        .subvolumes
        .iter()
        .map(|s| (s.path.as_str(), s.mount_point.as_deref(), s.default))
        .collect();
    assert_eq!(
        subvolumes,
        [
            ("@", Some("/"), true),
            ("@home", Some("/home"), false),
            ("unmounted", None, false),
            ("@home/cache", None, false),
            ("@/var/lib/machines", None, false),
        ]
    );
    for note in
        ["subvolume unmounted is created empty", "1 snapshots are not copied: @/before", "is jfs, not in use"]
    {
        assert!(planned.notes.iter().any(|n| n.contains(note)), "{note}: {:?}", planned.notes);
    }
}

/// A mounted partition is copied byte by byte if it cannot be written to.
fn check_raw(disk: &str) {
    let disks = [wanted(disk, None)];
    let raw = |part: String| make(&Request { raw: &[part], ..request(&disks) });
    let data = format!("{disk}p3");
    let error = raw(data.clone()).unwrap_err().to_string();
    assert!(
        error.contains("it is mounted at /srv/data") && error.contains("fsfreeze -f /srv/data"),
        "{error}"
    );
    run("fsfreeze", ["--freeze", "/srv/data"]);
    let frozen = raw(format!("/dev/{data}"));
    run("fsfreeze", ["--unfreeze", "/srv/data"]);
    assert_eq!(frozen.unwrap().raw[0].name, data);
    run("mount", ["-o", "remount,ro", "/srv/data"]);
    let planned = raw(data).unwrap();
    assert!(planned.sources.iter().all(|s| s.mount_point != Path::new("/srv/data")));
    for (part, expected) in [
        (format!("{disk}p4"), "logical partitions"),
        (disk.to_owned(), "expected a partition of a disk"),
        ("sdzz9".to_owned(), "no such partition"),
    ] {
        let error = raw(part).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn check_subvolumes(planned: &Planned) {
    let view = View::open(&planned.sources).unwrap();
    let read = |mount_point: &str, file: &str| {
        let source = view.sources().iter().find(|s| s.mount_point == Path::new(mount_point)).unwrap();
        fs::read_to_string(source.directory.join(file)).unwrap()
    };
    assert_eq!(read("/var/lib/machines", "file"), "inside\n");
    assert_eq!(read("/home/cache", "file"), "cached\n");
    let mut archive = Vec::new();
    kactl::golden::pack::pack(view.sources(), &kactl::golden::pack::Options::default(), &mut archive)
        .unwrap();
    fs::write("/tmp/archive.tar", archive).unwrap();
    let listed = tool("tar", ["-tf", "/tmp/archive.tar"]);
    for (name, times) in
        [("./home/cache/file", 1), ("./var/lib/machines/file", 1), ("./before/", 1), ("./srv/data/", 1)]
    {
        assert_eq!(listed.lines().filter(|line| *line == name).count(), times, "{name}: {listed}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn describe(disk: &str, format: Option<DescFormat>) -> Result<String, DescCommandError> {
    let mut text = Vec::new();
    kactl::commands::desc::run(&DescArgs { disk: disk.to_owned(), format }, &mut text)?;
    Ok(String::from_utf8(text).unwrap())
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The file systems of the first disk by their partition numbers.
fn file_systems(planned: &Planned) -> Vec<(u32, &FileSystemPlan)> {
    let volumes = planned.plan.storage.partitions(0);
    volumes.filter_map(|(number, volume)| Some((number, volume.file_system()?))).collect()
}

fn plan(disk: &Loop) -> Storage {
    let fs = |kind, label: Option<&str>, mount_point: Option<&str>| FileSystemPlan {
        label: label.map(str::to_owned),
        mount_point: mount_point.map(str::to_owned),
        ..FileSystemPlan::new(kind)
    };
    Storage::of(
        DiskPlan::new(disk.node().into(), Description::parse(DESC, "desc").unwrap()),
        [
            (1, fs(FileSystemKind::Ext4, None, Some("/boot"))),
            (2, fs(FileSystemKind::Ext4, Some("my system"), Some("/"))),
            (3, fs(FileSystemKind::Swap, None, None)),
        ],
    )
}
