//! Volume groups are made by lvm2 on a kernel with a device mapper, in a virtual machine with stage2's tools and modules,
//! and judged by LVM, e2fsck, and the scan that reads a golden node's.
//!
//! Needs root, QEMU, lvm2, and the example `groups`, which `cargo test` builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka_tests::guest::{Guest, stage2_root_of};
use ka_tests::{kernel, root, succeed};

const INIT: &str = "#!/bin/sh
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
cd /stage2 && mkdir -p dev proc sys run tmp
mount -t proc p /stage2/proc; mount -t sysfs s /stage2/sys; mount -t devtmpfs d /stage2/dev
mount -t tmpfs t /stage2/run; mount -t tmpfs t /stage2/tmp
for module in virtio_pci virtio_blk loop; do /sbin/modprobe $module; done
until [ -b /dev/vda ]; do sleep 0.1; done
PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /stage2 /usr/sbin/ka-agent 2>&1
echo THE PROGRAM HAS ENDED
poweroff -f
";

/// The program without what a debugger wants of it: the machine has it in its memory.
fn program(folder: &Path) -> PathBuf {
    let built = root().join("target/debug/examples/groups");
    assert!(built.exists(), "{} is missing: run `cargo build -p ka-tests --examples`", built.display());
    let stripped = folder.join("groups");
    succeed(Command::new("strip").arg("-o").args([&stripped, &built]));
    stripped
}

#[test]
fn every_layout_is_made_by_lvm_and_read_back() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let disk = folder.path().join("disk");
    let image = fs::File::create(&disk).expect("a temporary file");
    image.set_len(2200 << 20).expect("a hole takes no room");
    let program = program(folder.path());
    let initrd = stage2_root_of(&kernel, folder.path(), INIT, &[], &program);
    let guest =
        Guest { kernel: &kernel.image, initrd: &initrd, words: "quiet", memory: 1536, disk: Some(&disk) };
    let console = guest.boot("THE PROGRAM HAS ENDED");
    assert!(console.contains("GROUPS ALL RIGHT"), "{console}");
}
