//! A BIOS machine in front of `kactl pxe`: SeaBIOS and a network ROM in QEMU. Needs root, iproute2, dnsmasq, nftables,
//! qemu-system-x86, and the boot loaders' packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

mod site;

use std::fs;
use std::process::{Child, Stdio};

use kactl::rendezvous::lease::{Allowed, HeldLease};
use site::{Site, done, end, lease, wait_until};

/// A machine on the client's side of the wire, which boots from the network only.
struct Machine(Child);

impl Machine {
    fn start(site: &Site) -> Self {
        let tap = "netdev=n,mac=52:54:00:77:00:01";
        let mut qemu = site.in_client(&["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults"]);
        qemu.args(["-display", "none", "-no-reboot", "-boot", "n", "-device"]);
        qemu.arg(format!("virtio-net-pci,{tap}"));
        qemu.args(["-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no"]);
        let log = fs::File::create(site.directory.path().join("qemu")).unwrap();
        Self(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("QEMU is needed"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn a_bios_machine_loads_over_http_and_over_tftp_where_that_fails() {
    let site = Site::new("bios");
    for line in [
        "ip link add br0 type bridge",
        "ip link set cli master br0",
        "ip link set br0 up",
        "ip tuntap add tap0 mode tap",
        "ip link set tap0 master br0 up",
    ] {
        done(&mut site.in_client(&line.split(' ').collect::<Vec<_>>()));
    }
    // A kernel as far as boot loaders can see.
    fs::copy("/usr/lib/ipxe/ipxe.lkrn", site.boot().join("vmlinuz")).unwrap();
    fs::write(site.boot().join("all.rdz"), vec![7; 3 << 20]).unwrap();
    let _run = HeldLease::take(&site.runs(), "here", lease(Allowed::Any)).unwrap();
    let pxe = site.start_pxe(&["--interface", "srv"]);
    pxe.wait_for_line("boots kamethod");
    {
        let _machine = Machine::start(&site);
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
    let _machine = Machine::start(&site);
    wait_until("kernel and initrd over TFTP", || {
        let log = pxe.log();
        log.contains("boot/vmlinuz to 10.77.0.") && log.contains("boot/all.rdz to 10.77.0.")
    });
}
