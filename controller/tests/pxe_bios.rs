//! A BIOS machine that boots from `kactl pxe`: SeaBIOS and a network ROM in QEMU. Needs root, iproute2,
//! dnsmasq, nftables, qemu-system-x86, and the boot loaders' packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

mod site;

use std::fs;
use std::path::Path;

use kactl::rendezvous::lease::{Allowed, HeldLease};
use site::machine::{Machine, site_for_a_machine};
use site::{Site, done, lease, wait_until};

/// Starts a machine that boots from the network first, and then from its disk.
fn with_disk(site: &Site, mac: &str, disk: &Path, serial: &Path) -> Machine {
    let disk = format!("file={},format=raw,if=virtio", disk.display());
    let serial = format!("file:{}", serial.display());
    Machine::start(site, mac, &["-boot", "order=nc", "-drive", &disk, "-serial", &serial])
}

/// Starts a machine without a disk.
fn without_disk(site: &Site) -> Machine {
    Machine::start(site, "52:54:00:77:00:01", &["-boot", "n"])
}

/// The text that the disk's boot code writes to the serial port.
const BOOTED: &str = "the disk has booted";

/// A boot sector that writes [`BOOTED`] to the first serial port, and halts.
fn boot_sector() -> Vec<u8> {
    let code: &[&[u8]] = &[
        &[0xfa],                         // cli
        &[0xea, 0x06, 0x7c, 0x00, 0x00], // jmp 0:0x7c06
        &[0x31, 0xc0],                   // xor ax, ax
        &[0x8e, 0xd8],                   // mov ds, ax
        &[0xfc],                         // cld
        &[0xbe, 0x28, 0x7c],             // mov si, text
        &[0xac],                         // next: lodsb
        &[0x84, 0xc0],                   // test al, al
        &[0x74, 0x12],                   // jz end
        &[0x88, 0xc3],                   // mov bl, al
        &[0xba, 0xfd, 0x03],             // mov dx, the line's status
        &[0xec],                         // busy: in al, dx
        &[0xa8, 0x20],                   // test al, 0x20
        &[0x74, 0xfb],                   // jz busy
        &[0xba, 0xf8, 0x03],             // mov dx, the line's data
        &[0x88, 0xd8],                   // mov al, bl
        &[0xee],                         // out dx, al
        &[0xeb, 0xe9],                   // jmp next
        &[0xf4],                         // end: hlt
        &[0xeb, 0xfd],                   // jmp end
        BOOTED.as_bytes(),               // text
    ];
    let mut sector = code.concat();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// Each method of returning from a boot loader to the disk, on QEMU's firmware and ROM.
#[test]
fn a_bios_machine_boots_its_disk_in_each_way_that_can_be_set() {
    let site = site_for_a_machine("local");
    let ways = [
        ("52:54:00:77:00:11", "bios = \"lpxelinux\"\nlocal_pxelinux = \"LOCALBOOT 0\""),
        ("52:54:00:77:00:12", "bios = \"pxelinux\"\nlocal_pxelinux = \"LOCALBOOT -1\""),
        ("52:54:00:77:00:13", "bios = \"lpxelinux\"\nlocal_pxelinux = \"chain.c32 hd0\""),
        ("52:54:00:77:00:14", "bios = \"undionly\"\nlocal_ipxe = \"exit 1\""),
        ("52:54:00:77:00:15", "bios = \"undionly\"\nlocal_ipxe = \"exit 0\""),
        ("52:54:00:77:00:16", "bios = \"undionly\"\nlocal_ipxe = \"sanboot\""),
    ];
    for (mac, settings) in ways {
        site.configure(&format!("[pxe.machine.\"{mac}\"]\n{settings}\n"));
    }
    let pxe = site.start_pxe(&["--interface", "srv"]);
    pxe.wait_for_line("serving on srv");
    for (mac, settings) in ways {
        let at = |name: &str| site.directory.path().join(name);
        let (disk, serial) = (at("disk"), at("serial"));
        let mut image = boot_sector();
        image.resize(1 << 20, 0);
        fs::write(&disk, image).unwrap();
        fs::write(&serial, "").unwrap();
        let _machine = with_disk(&site, mac, &disk, &serial);
        wait_until(&format!("the disk of {mac}, with {settings}"), || {
            fs::read(&serial).is_ok_and(|said| String::from_utf8_lossy(&said).contains(BOOTED))
        });
        // Only the loader's method led there: the machine has read its boot configuration.
        let menu = mac.replace(':', "-");
        let read = format!("01-{menu} to 10.77.0.");
        pxe.wait_for_line(&read);
    }
}

#[test]
fn a_bios_machine_loads_over_http_and_over_tftp_where_that_fails() {
    let site = site_for_a_machine("bios");
    // A kernel, as far as boot loaders can tell.
    fs::copy("/usr/lib/ipxe/ipxe.lkrn", site.boot().join("vmlinuz")).unwrap();
    fs::write(site.boot().join("all.rdz"), vec![7; 3 << 20]).unwrap();
    let _run = HeldLease::take(&site.runs(), "here", lease(Allowed::Any)).unwrap();
    let pxe = site.start_pxe(&["--interface", "srv"]);
    pxe.wait_for_line("boots kamethod");
    {
        let _machine = without_disk(&site);
        pxe.wait_for_line("HTTP 200 OK /all.rdz to 10.77.0.");
        let log = pxe.log();
        assert!(
            log.contains("/lpxelinux.0 to 10.77.0.") && log.contains("HTTP 200 OK /vmlinuz to 10.77.0."),
            "{log}"
        );
        assert!(!log.contains("boot/vmlinuz to 10.77.0."), "not over TFTP: {log}");
    }
    let rules =
        "table inet wall { chain in { type filter hook input priority 0; tcp dport 30766 reject; }; }";
    done(&mut site.in_server(&["nft", rules]));
    let _machine = without_disk(&site);
    wait_until("kernel and initrd over TFTP", || {
        let log = pxe.log();
        log.contains("boot/vmlinuz to 10.77.0.") && log.contains("boot/all.rdz to 10.77.0.")
    });
}
