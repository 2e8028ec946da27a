//! The proof through the kernel's own device, in a virtual machine with stage2's tools and modules and an emulated TPM.
//!
//! Needs root, QEMU, swtpm, and the example `tpm`, which `cargo test` builds.

use std::fs;
use std::path::Path;
use std::process::Command;

use ka_tests::guest::{Guest, stage2_root_of};
use ka_tests::swtpm::Swtpm;
use ka_tests::{kernel, root, succeed};

const INIT: &str = "#!/bin/sh
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
cd /stage2 && mkdir -p dev proc sys run tmp
mount -t proc p /stage2/proc; mount -t sysfs s /stage2/sys; mount -t devtmpfs d /stage2/dev
for module in tpm_tis tpm_crb; do /sbin/modprobe $module; done
PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /stage2 /usr/sbin/ka-agent 2>&1
echo THE PROGRAM HAS ENDED
poweroff -f
";

/// The program without debug information: the machine keeps it in memory.
fn program(folder: &Path) -> std::path::PathBuf {
    let built = root().join("target/debug/examples/tpm");
    assert!(built.exists(), "{} is missing: run `cargo build -p ka-tests --examples`", built.display());
    let stripped = folder.join("tpm");
    succeed(Command::new("strip").arg("-o").args([&stripped, &built]));
    stripped
}

#[test]
fn the_kernels_device_proves_the_same_key_each_time() {
    let kernel = kernel::debian("linux-image-amd64");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let initrd = stage2_root_of(&kernel, folder.path(), INIT, &[], &program(folder.path()));
    let swtpm = Swtpm::for_qemu();
    let guest = Guest { kernel: &kernel.image, initrd: &initrd, words: "quiet", memory: 1024, disk: None };
    let console = guest.boot_with_tpm(&swtpm.control(), "THE PROGRAM HAS ENDED");
    fs::remove_file(initrd).expect("it is there");
    assert!(console.contains("ALL RIGHT"), "{console}");
    let mut proven: Vec<&str> = console.lines().filter(|line| line.contains("TPM PROVEN Some(")).collect();
    assert_eq!(proven.len(), 4, "{console}");
    proven.dedup();
    assert_eq!(proven.len(), 1, "{console}");
}
