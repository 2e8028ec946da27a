//! LILO.

use ka::plan::Loader;
use ka_agent::finish::Machine;
use ka_tests::loop_device::MIB;
use std::fs;

use super::copied::{Copied, GOLDEN, NEW, plan};

/// Reads lilo.conf by its manual: `boot`, and for each `image` a `root` (its own or the global one), an `initrd` if one
/// is named, and a `label`. What is named must be there. Then the boot sector is written, with the name where
/// LILO's is.
const LILO: &str = r#"#!/bin/sh
set -e
[ "$*" = -v ]
sed -e 's/#.*//' -e 's/^[ \t]*//' -e 's/[ \t]*$//' -e 's/[ \t]*=[ \t]*/=/' -e '/^$/d' /etc/lilo.conf > /boot/parsed
boot= root= image=
while IFS= read -r line; do
    key=${line%%=*} value=${line#*=}
    case $value in '"'*'"') value=${value#?} value=${value%?} ;; esac
    case $key in
    boot) boot=$value; [ -b "$boot" ] || { echo "Fatal: open $boot: No such device" >&2; exit 1; } ;;
    root) root=$value ;;
    image) image=$value; [ -f "$image" ] || { echo "Fatal: open $image" >&2; exit 1; } ;;
    initrd) [ -f "$value" ] || { echo "Fatal: open $value" >&2; exit 1; } ;;
    label) [ -n "$image" ] && echo "Added $value" ;;
    lba32|prompt|read-only|append|timeout|default|install|map|vga|compact) ;;
    *) echo "Unrecognized token \"$key\"" >&2; exit 1 ;;
    esac
done < /boot/parsed
rm /boot/parsed
case $root in
/dev/*) [ -b "$root" ] || { echo "Fatal: open $root" >&2; exit 1; } ;;
UUID=*) [ -e "/dev/disk/by-uuid/${root#UUID=}" ] || { echo "Fatal: $root" >&2; exit 1; } ;;
esac
printf 'map' > /boot/map
printf '\372\353\041\001\264\001LILO' | dd of="$boot" conv=notrunc
"#;

const LILO_CONF: &str = "\
# LILO configuration file
boot = /dev/sda
lba32
prompt
timeout=50
root=\"UUID=aaaaaaaa-0000-4000-8000-000000000001\"

image=/boot/vmlinuz-6
\tlabel=\"Linux 6\"
\tinitrd=/boot/initrd.img-6
\tappend=\"root=/dev/sda1 quiet\"
\tread-only
";

#[test]
fn lilo_is_made_anew_and_handed_back() {
    let copied = Copied::new();
    copied.tool("lilo", LILO);
    fs::write(copied.root().join("etc/lilo.conf"), LILO_CONF).unwrap();

    let last = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap();

    let node = copied.disk.node();
    let expected = LILO_CONF
        .replace("/dev/sda\n", &format!("{node}\n"))
        .replace("root=/dev/sda1", &format!("root=UUID={NEW}"))
        .replace(GOLDEN, NEW);
    assert_eq!(copied.read("etc/lilo.conf"), expected);
    assert_eq!(&last.boot_code.unwrap().0[6..10], b"LILO");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0), "boot code before the last write");

    // A disk of which nothing was cloned.
    let foreign = copied.disk.another(MIB, 512);
    let other = LILO_CONF.replace("/dev/sda\n", &format!("{}\n", foreign.node()));
    fs::write(copied.root().join("etc/lilo.conf"), other).unwrap();
    let error = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("which is neither this node's disk"), "{error}");
    assert!(foreign.read(0, 512).iter().all(|byte| *byte == 0));
    drop(foreign);

    fs::write(copied.root().join("etc/lilo.conf"), LILO_CONF.replace("vmlinuz-6", "vmlinuz-5")).unwrap();
    let error = copied.finish_as(&plan(Loader::Lilo), &Machine::default()).unwrap_err().to_string();
    assert!(error.contains("lilo -v: exit status: 1") && error.contains("open /boot/vmlinuz-5"), "{error}");
    assert!(copied.disk.read(0, 440).iter().all(|byte| *byte == 0));
}
