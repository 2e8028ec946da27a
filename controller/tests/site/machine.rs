//! Virtual machines on the client's side of the wire.

use std::fs;
use std::process::{Child, Stdio};

use super::{Site, done, end};

/// A virtual machine, which ends when it is dropped.
pub struct Machine(Child);

impl Machine {
    /// Starts a machine with one card on the client's side of the wire, which is its first boot device.
    pub fn start(site: &Site, mac: &str, more: &[&str]) -> Self {
        let mut qemu = site.in_client(&["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults"]);
        qemu.args(["-display", "none", "-no-reboot"]);
        qemu.args(["-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device"]);
        qemu.arg(format!("virtio-net-pci,netdev=n,mac={mac},bootindex=0")).args(more);
        let log = fs::File::create(site.directory.path().join("qemu")).unwrap();
        Self(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("QEMU is needed"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// A wire with a virtual machine as the client.
pub fn site_for_a_machine(name: &str) -> Site {
    let site = Site::new(name);
    for line in [
        "ip link add br0 type bridge",
        "ip link set cli master br0",
        "ip link set br0 up",
        "ip tuntap add tap0 mode tap",
        "ip link set tap0 master br0 up",
    ] {
        done(&mut site.in_client(&line.split(' ').collect::<Vec<_>>()));
    }
    site
}
