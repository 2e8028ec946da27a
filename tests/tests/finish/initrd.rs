//! The initrd of each distribution.

use ka::plan::{Kernels, Loader};
use ka_agent::finish::Machine;
use std::fs;
use std::os::unix::fs::symlink;

use super::copied::{Copied, plan};

/// Arch's and Red Hat's old tools: listings as theirs, and what is asked for is in.
const MKINITCPIO: &str = r#"#!/bin/sh
set -e
[ "$1" = -p ]
{ echo usr/lib/modules/6/ext4.ko.zst; sed -n 's/^MODULES+=(\(.*\))/\1/p' /etc/mkinitcpio.conf | sed 's/ /\n/g' | sed 's|.*|usr/lib/modules/6/&.ko.zst|'; } > "/boot/initramfs-$2.img"
"#;
const MKINITRD: &str = r#"#!/bin/sh
set -e
for word; do case $word in --with=*) list="$list ${word#--with=}" ;; -*) ;; *) [ -n "$image" ] || image=$word ;; esac; done
mkdir -p /boot/tree/lib
for module in ext4 $list; do echo > "/boot/tree/lib/$module.ko"; done
cd /boot/tree
find . | cpio -o -H newc | gzip > "$image"
rm -r /boot/tree
"#;

#[test]
fn every_distributions_tool_builds_the_initrd() {
    let other = |tools: &[(&str, &str)]| {
        let copied = Copied::new();
        for old in ["update-initramfs", "lsinitramfs"] {
            fs::remove_file(copied.root().join("usr/sbin").join(old)).unwrap();
        }
        fs::remove_file(copied.root().join("boot/initrd.img-6")).unwrap();
        tools.iter().for_each(|(name, script)| copied.tool(name, script));
        copied
    };
    let arch = other(&[("mkinitcpio", MKINITCPIO), ("lsinitcpio", "#!/bin/sh\ncat $1\n")]);
    fs::rename(arch.root().join("boot/vmlinuz-6"), arch.root().join("boot/vmlinuz-linux")).unwrap();
    fs::write(arch.root().join("lib/modules/6/pkgbase"), "linux\n").unwrap();
    fs::create_dir_all(arch.root().join("etc/mkinitcpio.d")).unwrap();
    fs::write(arch.root().join("etc/mkinitcpio.d/linux.preset"), "").unwrap();
    fs::write(arch.root().join("etc/mkinitcpio.conf"), "MODULES=()\n").unwrap();
    arch.finish(&["nvme"]).unwrap();
    assert!(arch.read("boot/initramfs-linux.img").contains("nvme.ko.zst"));
    assert!(arch.read("etc/mkinitcpio.conf").ends_with("MODULES+=(nvme)\n"));
    // Its disk, of which a process has one at a time.
    drop(arch);

    let red_hat = other(&[("mkinitrd", MKINITRD)]);
    for tool in ["find", "cpio", "gzip"] {
        symlink("busybox", red_hat.root().join("bin").join(tool)).unwrap();
    }
    red_hat.finish(&["nvme"]).unwrap();
    let initrd = red_hat.root().join("boot/initrd-6.img");
    let list = ka_tests::tool::tool("sh", ["-c", "gzip -dc \"$0\" | cpio -it", initrd.to_str().unwrap()]);
    assert!(list.lines().any(|line| line.ends_with("lib/nvme.ko")), "{list}");
}

#[test]
fn only_the_default_kernel_is_rebuilt_when_that_is_asked_for() {
    let copied = Copied::new();
    fs::create_dir_all(copied.root().join("lib/modules/5")).unwrap();
    fs::write(copied.root().join("boot/vmlinuz-5"), "").unwrap();
    let mut plan = plan(Loader::None);
    plan.boot.kernels = Kernels::Default;
    copied.finish_as(&plan, &Machine::default()).unwrap();
    assert!(!copied.root().join("boot/initrd.img-5").exists());
    plan.boot.kernels = Kernels::All;
    copied.finish_as(&plan, &Machine::default()).unwrap();
    assert!(copied.root().join("boot/initrd.img-5").exists());
}
