//! GRUB 0.97.

use ka::plan::Loader;
use ka_agent::finish::Machine;
use std::fs;

use super::copied::{Copied, NEW, plan};

/// Understands `setup`, and tells of errors as the real one does: by text alone.
const GRUB: &str = r#"#!/bin/sh
map=${3#--device-map=}
read -r root && read -r setup
disk=$(sed -n 's/^(hd0)[ \t]*//p' "$map")
echo "grub> $root"
case $setup in 'setup (hd0)') ;; *) printf '\nError 27: Unrecognized command\n'; exit 0 ;; esac
[ -b "$disk" ] || { printf '\nError 21: Selected disk does not exist\n'; exit 0; }
echo ' Running "install /boot/grub/stage1 (hd0) /boot/grub/stage2"... succeeded'
printf '\353\110GRUB' | dd of="$disk" conv=notrunc 2>/dev/null
"#;

#[test]
fn grub_legacy_is_embedded_and_handed_back() {
    let copied = Copied::new();
    copied.tool("grub", GRUB);
    let menu = "# kopt=root=/dev/sda1 ro\n# groot=(hd0,0)\ntitle x\nroot (hd0,0)\nkernel /boot/vmlinuz-6 root=/dev/sda1 ro\n";
    fs::write(copied.root().join("boot/grub/menu.lst"), menu).unwrap();
    fs::write(copied.root().join("boot/grub/device.map"), "(hd0) /dev/sda\n").unwrap();

    let last = copied.finish_as(&plan(Loader::GrubLegacy), &Machine::default()).unwrap();

    assert_eq!(copied.read("boot/grub/menu.lst"), menu.replace("/dev/sda1", &format!("UUID={NEW}")));
    assert_eq!(&last.boot_code.unwrap().0[2..6], b"GRUB");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");

    copied.tool("grub", "#!/bin/sh\necho; echo 'Error 15: File not found'\n");
    let error = copied.finish_as(&plan(Loader::GrubLegacy), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("Error 15: File not found"), "{error}");
}
