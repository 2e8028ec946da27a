//! A UEFI machine that boots from `kactl pxe`: OVMF in QEMU. Needs root, iproute2, dnsmasq, nftables,
//! binutils, qemu-system-x86, ovmf, and the boot loaders' packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use site::machine::{Machine, site_for_a_machine};
use site::{Site, done, wait_until};

/// Debian's firmware: its code, and its variables.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// The text that the disk's boot loader writes to the serial port.
const BOOTED: &str = "the disk has booted";

/// A boot loader that writes [`BOOTED`] to the first serial port, and halts. The firmware loads only an image
/// that it can relocate, so there is a table of relocations, without an entry.
const LOADER: &str = "
        .globl start
start:  lea text(%rip), %rsi
        cld
next:   lodsb
        test %al, %al
        jz end
        mov %al, %bl
        mov $0x3fd, %dx
busy:   inb %dx, %al
        test $0x20, %al
        jz busy
        mov $0x3f8, %dx
        mov %bl, %al
        outb %al, %dx
        jmp next
end:    cli
        hlt
        jmp end
text:   .asciz \"the disk has booted\"
        .section .reloc, \"a\"
        .long 0x1000, 12
        .short 0, 0
";

/// The directory of a disk's only file system, which contains the boot loader.
fn disk(site: &Site) -> PathBuf {
    let at = |name: &str| site.directory.path().join(name);
    let loader = at("disk/EFI/BOOT/BOOTX64.EFI");
    fs::create_dir_all(loader.parent().unwrap()).unwrap();
    fs::write(at("loader.s"), LOADER).unwrap();
    done(Command::new("as").arg("--64").arg(at("loader.s")).arg("-o").arg(at("loader.o")));
    done(
        Command::new("ld")
            .args(["-m", "i386pep", "--subsystem", "10", "--dynamicbase", "-e", "start"])
            .arg(at("loader.o"))
            .arg("-o")
            .arg(&loader),
    );
    at("disk")
}

/// Starts a machine that boots from the network first, and then from its disk.
fn start(site: &Site, mac: &str, disk: &Path, serial: &Path) -> Machine {
    let [code, variables] = FIRMWARE;
    let own = site.directory.path().join("variables");
    fs::copy(variables, &own).unwrap();
    let code = format!("if=pflash,format=raw,readonly=on,file={code}");
    let own = format!("if=pflash,format=raw,file={}", own.display());
    let disk = format!("if=none,id=d,format=raw,file=fat:rw:{}", disk.display());
    let serial = format!("file:{}", serial.display());
    let card = ["-drive", &code, "-drive", &own, "-drive", &disk];
    // Without this, it asks for an address by IPv6 for minutes before it turns to the disk.
    let ipv6 = ["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"];
    let more = ["-device", "virtio-blk-pci,drive=d,bootindex=1", "-serial", &serial];
    // The firmware drives the card itself; QEMU's ROM would boot from it a second time.
    Machine::start(site, &format!("{mac},romfile="), &[&card[..], &ipv6[..], &more[..]].concat())
}

/// The methods of returning from iPXE to the disk that QEMU's firmware knows. After `exit 0` it stops at its
/// menu.
#[test]
fn a_uefi_machine_boots_its_disk_in_each_way_that_its_firmware_knows() {
    let site = site_for_a_machine("uefi");
    let disk = disk(&site);
    let ways = [("52:54:00:77:00:21", "exit 1"), ("52:54:00:77:00:22", "sanboot")];
    for (mac, way) in ways {
        site.configure(&format!("[pxe.machine.\"{mac}\"]\nlocal_ipxe = \"{way}\"\n"));
    }
    let pxe = site.start_pxe(&["--interface", "srv"]);
    pxe.wait_for_line("serving on srv");
    for (mac, way) in ways {
        let serial = site.directory.path().join("serial");
        fs::write(&serial, "").unwrap();
        let _machine = start(&site, mac, &disk, &serial);
        wait_until(&format!("the disk of {mac}, with {way}"), || {
            fs::read(&serial).is_ok_and(|said| String::from_utf8_lossy(&said).contains(BOOTED))
        });
        // Only iPXE's script led there.
        pxe.wait_for_line(&format!("ipxe/01-{} to 10.77.0.", mac.replace(':', "-")));
    }
}
