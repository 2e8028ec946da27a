//! EXTLINUX, and no loader at all.

use ka::plan::Loader;
use ka_agent::finish::Machine;
use std::fs;

use super::copied::{Copied, GOLDEN, NEW, plan};

#[test]
fn extlinux_starts_from_the_disks_code() {
    let copied = Copied::new();
    copied.tool("extlinux", "#!/bin/sh\n[ \"$1\" = --install ] && echo x > \"$2/ldlinux.sys\"\n");
    fs::create_dir_all(copied.root().join("boot/extlinux")).unwrap();
    fs::create_dir_all(copied.root().join("usr/lib/EXTLINUX")).unwrap();
    fs::write(copied.root().join("usr/lib/EXTLINUX/mbr.bin"), [0x33; 440]).unwrap();
    let configuration = copied.root().join("boot/extlinux/extlinux.conf");
    fs::write(&configuration, format!("append root=UUID={GOLDEN} ro\n")).unwrap();

    let last = copied.finish_as(&plan(Loader::Extlinux), &Machine::default()).unwrap();

    assert_eq!(copied.read("boot/extlinux/extlinux.conf"), format!("append root=UUID={NEW} ro\n"));
    assert_eq!(last.boot_code.unwrap().0, [0x33; 440]);
    copied.tool("extlinux", "#!/bin/sh\nexit 0\n");
    fs::remove_file(copied.root().join("boot/extlinux/ldlinux.sys")).unwrap();
    let error = copied.finish_as(&plan(Loader::Extlinux), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("ldlinux.sys is missing, though extlinux succeeded"), "{error}");
}

#[test]
fn without_a_loader_nothing_is_written_to_the_disk() {
    let copied = Copied::new();
    let last = copied.finish_as(&plan(Loader::None), &Machine::default()).unwrap();
    assert_eq!(last.boot_code, None);
    assert_eq!(copied.read("etc/fstab"), format!("UUID={NEW} / ext4 defaults 0 1\n"));
    assert!(copied.disk.read(0, 4096).iter().all(|byte| *byte == 0));
}
