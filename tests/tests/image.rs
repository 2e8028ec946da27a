//! `all.rdz`, built from Debian's kernels by the scripts of `initramfs/`, as seen by GNU cpio, kmod and the
//! kernel itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ka_tests::guest::Guest;
use ka_tests::kernel::{self, Kernel};
use ka_tests::{root, static_agent, succeed};

const KEY: &[u8] = b"ka-join-key-1 not a real one\n";

/// An image, and the files that GNU cpio extracted from it.
struct Image {
    _folder: tempfile::TempDir,
    out: PathBuf,
    /// The contents of the first archive.
    stage1: PathBuf,
    kernel: Kernel,
}

impl Image {
    fn make(meta_package: &str) -> Self {
        let kernel = kernel::debian(meta_package);
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (out, key) = (folder.path().join("out"), folder.path().join("join.key"));
        fs::write(&key, KEY).expect("a temporary file");
        succeed(&mut make_rdz(&kernel, &static_agent(), &key, &out));
        let stage1 = folder.path().join("stage1");
        fs::create_dir(&stage1).expect("a temporary directory");
        // Two archives, one after the other, in the format that the kernel accepts.
        let unpack = "xz -dcq ../out/stage1.rdz | { cpio --quiet -idm; cpio --quiet -idmu; }";
        succeed(Command::new("sh").args(["-c", unpack]).current_dir(&stage1));
        Self { out, stage1, kernel, _folder: folder }
    }

    fn modules(&self) -> PathBuf {
        self.stage1.join("lib/modules").join(self.kernel.modules.file_name().expect("a version"))
    }

    /// `modules.dep`: the dependencies of a module, by path.
    fn dependencies(&self) -> BTreeMap<String, Vec<String>> {
        let text =
            fs::read_to_string(self.modules().join("modules.dep")).expect("modules.dep is in the image");
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(m, deps)| (m.to_owned(), deps.split_whitespace().map(str::to_owned).collect())).collect()
    }
}

fn make_rdz(kernel: &Kernel, agent: &Path, key: &Path, out: &Path) -> Command {
    let mut command = Command::new(root().join("initramfs/make-rdz"));
    command.args([&kernel.image, &kernel.modules, Path::new("/"), agent, key, out]);
    command
}

static CLOUD: LazyLock<Image> = LazyLock::new(|| Image::make("linux-image-cloud-amd64"));
static FULL: LazyLock<Image> = LazyLock::new(|| Image::make("linux-image-amd64"));

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).len()
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let list = succeed(Command::new("find").args([".", "-type", "f", "-printf", "%P\n"]).current_dir(folder));
    list.lines().map(str::to_owned).collect()
}

/// Every machine loads both by itself, so they cost time in proportion to the number of machines, unlike
/// everything else.
#[test]
fn kernel_and_image_are_small_enough_for_many_machines_at_once() {
    let both = |image: &Image| size(&image.out.join("all.rdz")) + size(&image.out.join("vmlinuz"));
    let cloud = both(&CLOUD);
    assert!(cloud <= 17_000_000, "vmlinuz and all.rdz of the cloud kernel have {cloud} bytes together");
    let full = size(&FULL.out.join("all.rdz"));
    assert!(full <= 20_000_000, "all.rdz of the full kernel has {full} bytes");
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (agent, key, out) = (folder.path().join("a"), folder.path().join("k"), folder.path().join("again"));
    // Other names and times, another host name, language, time zone and umask.
    fs::copy(static_agent(), &agent).expect("a temporary file");
    fs::write(&key, KEY).expect("a temporary file");
    let make = make_rdz(&CLOUD.kernel, &agent, &key, &out);
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--uts", "sh", "-c", "hostname elsewhere; umask 077; exec \"$@\"", "sh"]);
    elsewhere
        .arg(make.get_program())
        .args(make.get_args())
        .envs([("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")]);
    succeed(&mut elsewhere);
    for name in ["all.rdz", "stage1.rdz", "vmlinuz"] {
        succeed(Command::new("cmp").args([CLOUD.out.join(name), out.join(name)]));
    }
}

#[test]
fn the_key_is_an_archive_of_its_own_behind_stage1() {
    let (stage1, all) = (fs::read(CLOUD.out.join("stage1.rdz")), fs::read(CLOUD.out.join("all.rdz")));
    let (stage1, all) = (stage1.expect("stage1.rdz"), all.expect("all.rdz"));
    let appended = all.strip_prefix(stage1.as_slice()).expect("all.rdz begins with stage1.rdz");
    let padding = stage1.len().next_multiple_of(4) - stage1.len();
    let folder = tempfile::tempdir().expect("a temporary directory");
    fs::write(folder.path().join("key.cpio"), &appended[padding..]).expect("a temporary file");
    succeed(Command::new("sh").args(["-c", "cpio --quiet -idm <key.cpio"]).current_dir(folder.path()));
    let key = folder.path().join("etc/ka/join.key");
    assert_eq!(fs::read(&key).expect("the key is in it"), KEY);
    assert_eq!(fs::metadata(&key).expect("the key is in it").permissions().mode() & 0o777, 0o600);
    assert!(!CLOUD.stage1.join("etc/ka/join.key").exists(), "the key is in the first archive too");
}

#[test]
fn init_is_the_agent() {
    succeed(Command::new("cmp").args([static_agent(), CLOUD.stage1.join("init")]));
    assert_eq!(size(&CLOUD.out.join("vmlinuz")), size(&CLOUD.kernel.image));
    let node = succeed(Command::new("stat").args(["-c", "%F %t:%T"]).arg(CLOUD.stage1.join("dev/console")));
    assert_eq!(node.trim(), "character special file 5:1");
}

#[test]
fn every_ethernet_driver_is_in_the_image_with_what_it_needs() {
    for image in [&*CLOUD, &*FULL] {
        let there = files_below(&image.modules());
        let all = files_below(&image.kernel.modules);
        let missing: Vec<_> = all
            .iter()
            .filter(|m| m.starts_with("kernel/drivers/net/ethernet/") && !there.contains(*m))
            .collect();
        assert!(missing.is_empty(), "not in the image: {missing:?}");
        for (module, needs) in image.dependencies() {
            assert!(there.contains(&module), "modules.dep names {module}, which is not there");
            let lacks: Vec<_> = needs.iter().filter(|m| !there.contains(*m)).collect();
            assert!(lacks.is_empty(), "{module} lacks {lacks:?}");
        }
        let wireless = there.iter().find(|m| m.contains("/wireless/") || m.ends_with("/cfg80211.ko"));
        assert_eq!(wireless, None, "wireless modules only cost room");
    }
}

/// Drivers that no directory identifies, and the buses of their devices.
#[test]
fn drivers_outside_of_the_ethernet_folder_are_found() {
    let has = |image: &Image, name: &str| {
        let file = format!("/{name}.ko");
        image.dependencies().keys().any(|m| m.ends_with(&file))
    };
    for name in ["virtio_net", "virtio_pci", "vmxnet3", "hv_netvsc", "hv_vmbus", "xen-netfront", "pci-hyperv"]
    {
        assert!(has(&CLOUD, name) && has(&FULL, name), "{name}");
    }
    for name in ["r8152", "asix", "cdc_ether", "cdc_ncm", "xhci-pci", "ehci-pci", "thunderbolt-net", "qlge"] {
        assert!(has(&FULL, name), "{name}");
    }
    // PHY drivers, one requested by another driver, and keyboard drivers.
    for name in ["realtek", "marvell", "mlx4_en", "usbhid", "hid-generic"] {
        assert!(has(&FULL, name), "{name}");
    }
}

/// A kernel as in other distributions, with modules in every compression format, and a driver built by DKMS.
#[test]
fn compressed_drivers_and_those_built_outside_of_the_kernel_are_found() {
    let real = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let modules = folder.path().join("6.1.0-other");
    let lay = "mkdir -p $2/updates/dkms $2/kernel/drivers/net/ethernet; cp $1/modules.* $2; cd $1/kernel/drivers
        cp net/ethernet/intel/e1000/e1000.ko $2/kernel/drivers/net/ethernet; cp net/usb/r8152.ko $2/updates/dkms
        cp net/mii.ko net/tun.ko usb/core/usbcore.ko usb/common/usb-common.ko $2/kernel; rm -f $2/modules.dep*
        zstd -q --rm $2/kernel/drivers/net/ethernet/e1000.ko; xz $2/updates/dkms/r8152.ko; xz $2/kernel/mii.ko";
    succeed(Command::new("sh").args(["-euc", lay, "sh"]).args([&real.modules, &modules]));
    let out = folder.path().join("out");
    fs::write(folder.path().join("join.key"), KEY).expect("a temporary file");
    let kernel = Kernel { image: real.image, modules };
    succeed(&mut make_rdz(&kernel, &static_agent(), &folder.path().join("join.key"), &out));
    let list = "xz -dcq stage1.rdz | { cpio --quiet -t; cpio --quiet -t; } | grep -o '[^/]*[.]ko.*' | sort | tr '\\n' ' '";
    let found = succeed(Command::new("sh").args(["-c", list]).current_dir(&out));
    assert_eq!(found.trim(), "e1000.ko mii.ko r8152.ko usb-common.ko usbcore.ko");
}

#[test]
fn an_alias_leads_to_its_module() {
    let aliases =
        fs::read_to_string(FULL.modules().join("modules.alias")).expect("modules.alias is in the image");
    for alias in ["alias virtio:d00000001v* virtio_net", "alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000"] {
        assert!(aliases.lines().any(|line| line == alias), "no line {alias}");
    }
}

#[test]
fn firmware_that_the_golden_node_has_comes_along_plain_and_the_rest_is_named() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (golden, work) = (folder.path().join("golden"), folder.path().join("work"));
    let firmware = golden.join("lib/firmware");
    fs::create_dir_all(firmware.join("bnx2")).expect("a temporary directory");
    fs::create_dir_all(&work).expect("a temporary directory");
    // modinfo's list for bnx2: one file compressed, one plain; the others do not exist.
    fs::write(firmware.join("bnx2/bnx2-mips-06-6.2.3.fw"), "one").expect("a temporary file");
    fs::write(firmware.join("bnx2/bnx2-rv2p-06-6.0.15.fw"), "two").expect("a temporary file");
    succeed(Command::new("xz").arg(firmware.join("bnx2/bnx2-rv2p-06-6.0.15.fw")));
    fs::create_dir_all(golden.join("etc/ka/modprobe.d")).expect("a temporary directory");
    fs::write(golden.join("etc/ka/modprobe.d/site.conf"), "blacklist x\n").expect("a temporary file");
    let script = ". ./common.sh; . ./firmware.sh; . ./modules.sh; work=$1; open_kernel \"$2\"
        mkdir \"$1/tree\" \"$1/tree/lib\"; echo bnx2 | stage_modules \"$1/tree\" \"$3\"; cat \"$1/missing-firmware\"";
    let mut stage = Command::new("bash");
    stage
        .args(["-euc", script, "sh"])
        .args([&work, &kernel.modules, &golden])
        .current_dir(root().join("initramfs"));
    let missing = succeed(&mut stage);
    assert!(missing.contains("bnx2.ko bnx2/bnx2-mips-09-6.2.1b.fw\n"), "{missing}");
    assert!(!missing.contains("bnx2-mips-06-6.2.3.fw"), "{missing}");
    let read =
        |name: &str| fs::read_to_string(work.join("tree/lib/firmware/bnx2").join(name)).unwrap_or_default();
    assert_eq!(read("bnx2-mips-06-6.2.3.fw"), "one");
    assert_eq!(read("bnx2-rv2p-06-6.0.15.fw"), "two");
    let settings = work.join("tree/etc/modprobe.d/site.conf");
    assert_eq!(
        fs::read_to_string(settings).unwrap_or_default(),
        "blacklist x\n",
        "the site's settings for its nodes"
    );
}

/// Boots the image on a machine without a disk.
fn boot(words: &str, end: &str) -> String {
    let (kernel, initrd) = (CLOUD.out.join("vmlinuz"), CLOUD.out.join("all.rdz"));
    Guest { kernel: &kernel, initrd: &initrd, words, memory: 512, disk: None }.boot(end)
}

#[test]
fn the_kernel_unpacks_the_image_and_its_modules_drive_the_card() {
    let look = "mount -t proc p /proc; mount -t sysfs s /sys; cat /etc/ka/join.key; modprobe virtio_pci; \
        modprobe virtio_net; echo cards: /sys/class/net/*; poweroff -f";
    let console = boot(&format!("rdinit=/bin/sh -- -c \"{look}\""), "Power down");
    assert!(
        console.contains(std::str::from_utf8(KEY).expect("text").trim()),
        "the key is not there:\n{console}"
    );
    assert!(console.contains("cards: /sys/class/net/eth0 /sys/class/net/lo"), "no network card:\n{console}");
}

#[test]
fn the_kernel_starts_the_agent_as_init() {
    let started = "Run /init as init process";
    let console = boot("kamethod", started);
    assert!(console.contains(started), "{console}");
}
