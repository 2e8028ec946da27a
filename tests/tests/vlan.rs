//! `ka.vlan` on a real kernel: Debian's, with the image that every node boots, at a switch port that passes
//! only tagged frames. This machine's kernel need not support VLANs. Needs root, QEMU, iproute2, dnsmasq and
//! scapy.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as tests do")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use ka::keys::JoinKey;
use ka_tests::guest::Guest;
use ka_tests::netns::NetNs;
use ka_tests::process::Process;
use ka_tests::site::Site;
use ka_tests::wire::{Server, Wire};
use ka_tests::{kernel, root, static_agent, succeed};
use kactl::rendezvous::discovery::Responder;
use serde_json::Value;

const VLAN: &str = "5";
const GOLDEN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The golden node behind the inner side of the switch port; the node itself is a virtual machine.
struct Trunk {
    wire: Wire,
    site: Site,
    port: Process,
}

impl Trunk {
    fn new() -> Self {
        let site = Site::new();
        let wire = Wire { golden: NetNs::new("g-trunk"), node: NetNs::new("n-trunk") };
        let mut port = wire.golden.command("/usr/bin/python3");
        port.arg(root().join("tests/src/judges/vlan_port.py")).args(["eth0", VLAN]);
        port.args([site.path("switch"), site.path("machine")]);
        let port = Process::start(&mut port, "port", &site.path(""));
        ka_tests::process::wait_until("the switch's port", || port.printed().starts_with("ready"));
        for link in ["lo", "eth0"] {
            wire.golden.ip(&["link", "set", link, "up"]);
        }
        wire.golden.ip(&["addr", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0"]);
        Self { wire, site, port }
    }

    /// Boots the image as a node, until `is_over`; returns its console's output.
    fn boot(&self, words: &str, is_over: impl FnMut(&str) -> bool) -> String {
        let kernel = kernel::debian("linux-image-cloud-amd64");
        let out = self.site.path("out");
        let mut make = Command::new(root().join("initramfs/make-rdz"));
        make.arg(&kernel.image).arg(&kernel.modules).arg("/").arg(static_agent());
        succeed(make.arg(self.site.path("keys/join.key")).arg(&out));
        let image = (out.join("vmlinuz"), out.join("all.rdz"));
        let guest = Guest { kernel: &image.0, initrd: &image.1, words, memory: 768, disk: None };
        let netdev = format!(
            "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            self.site.path("machine").display(),
            self.site.path("switch").display()
        );
        guest.boot_on(&netdev, is_over)
    }

    /// The frames that the machine has sent: the tag, and the type.
    fn sent(&self) -> Vec<(Option<u64>, String)> {
        let printed = self.port.printed();
        let frame = |line: &str| {
            let frame: Value = serde_json::from_str(line).ok()?;
            Some((frame["tag"].as_u64(), frame["is"].as_str()?.to_owned()))
        };
        printed.lines().filter_map(frame).collect()
    }
}

#[test]
fn every_frame_of_a_node_in_a_vlan_has_its_tag() {
    let trunk = Trunk::new();
    let folder = tempfile::tempdir().unwrap();
    let range = ["--dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,2m"];
    let _dhcp = Server::dnsmasq(&trunk.wire, folder.path(), &range);
    let join = JoinKey::from_text(&fs::read_to_string(trunk.site.path("keys/join.key")).unwrap()).unwrap();
    let golden = &trunk.wire.golden;
    let listener = golden.enter(|| TcpListener::bind(SocketAddr::from((GOLDEN, 0)))).unwrap();
    let responder = golden.enter(|| Responder::start(&[&join], &ka_net::listen::Side::default())).unwrap();
    responder.announce("getstage2", listener.local_addr().unwrap().port());
    let (found, connected) = channel();
    let listener = Arc::new(listener);
    let controller = Arc::clone(&listener);
    // Ends with the test.
    std::thread::spawn(move || found.send(controller.accept().map(|(_, peer)| peer.ip())));
    let mut node = None;
    let console = trunk.boot(&format!("kamethod ka.vlan={VLAN}"), |_| {
        node = connected.try_recv().ok();
        node.is_some()
    });
    // It has an address from the VLAN's server, has found the controller by broadcast, and reaches it over
    // TCP.
    let node = node.unwrap_or_else(|| panic!("no node came:\n{console}")).unwrap();
    assert!(matches!(node, IpAddr::V4(address) if (100..=150).contains(&address.octets()[3])), "{node}");
    let sent = trunk.sent();
    for kind in ["dhcp", "arp", "ip"] {
        let of_kind = || sent.iter().filter(|(_, is)| is == kind);
        assert!(of_kind().count() > 0, "no {kind}: {sent:?}\n{console}");
        let other = of_kind().find(|(tag, _)| *tag != VLAN.parse().ok());
        assert_eq!(other, None, "of {sent:?}\n{console}");
    }
}
