//! A golden node on two networks: with a known interface, nothing is sent to the other network. Needs root
//! and iproute2.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ka::wire::discovery::{DiscoveryKey, Request};
use ka::wire::{CONTROL_PORT, DATA_PORT, DISCOVERY_PORT};
use ka_net::listen::Side;
use ka_tests::netns::NetNs;
use ka_tests::process::{Process, program, wait_until};
use ka_tests::site::{MIB, Site};
use kactl::config::keys;
use kactl::rendezvous::discovery::Responder;

const GOLDEN: [&str; 2] = ["10.77.1.1", "10.77.2.1"];
const NODES: [&str; 2] = ["10.77.1.2", "10.77.2.2"];

/// A golden node with a cable to a node on `eth0`, and one to a stranger on `eth1`.
struct Networks {
    golden: NetNs,
    node: NetNs,
    stranger: NetNs,
}

impl Networks {
    fn new(name: &str) -> Self {
        let [golden, node, stranger] = ["g", "n", "s"].map(|host| NetNs::new(&format!("if{host}-{name}")));
        golden.ip(&["link", "set", "lo", "up"]);
        for (host, card, here, there) in
            [(&node, "eth0", GOLDEN[0], NODES[0]), (&stranger, "eth1", GOLDEN[1], NODES[1])]
        {
            golden.cable(card, host, "eth0");
            for (side, device, address) in [(&golden, card, here), (host, "eth0", there)] {
                side.ip(&["addr", "add", &format!("{address}/24"), "brd", "+", "dev", device]);
                side.ip(&["link", "set", device, "up"]);
            }
        }
        // The stranger has a route to the other network.
        stranger.ip(&["route", "add", "10.77.1.0/24", "via", GOLDEN[1]]);
        Self { golden, node, stranger }
    }

    fn kactl(&self, site: &Site, args: &[&str]) -> Command {
        let mut command = self.golden.command(program("kactl").to_str().unwrap());
        command.arg("--config").arg(site.path("ka.toml")).args(args);
        command
    }
}

/// The outcome of a connection to the golden node.
fn knock(from: &NetNs, to: &str, port: u16) -> io::Result<()> {
    let address: SocketAddr = format!("{to}:{port}").parse().unwrap();
    from.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)).map(drop))
}

fn refused(outcome: &io::Result<()>) -> bool {
    outcome.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn control_and_data_are_open_on_the_nodes_interface_only() {
    let site = Site::new();
    let networks = Networks::new("a");
    let (gate, part) = (site.gate("gate"), site.noise("part", 4 * MIB, 1));
    let source = format!("cat {} {}", part.display(), gate.path().display());
    let mut command = networks
        .kactl(&site, &["send", "--session", "a", "-n", "1", "--command", &source, "--interface", "eth0"]);
    let mut sender = Process::start(&mut command, "sender", site.path("").as_path());
    sender.wait_for("waits for", 1);
    assert!(knock(&networks.node, GOLDEN[0], CONTROL_PORT).is_ok());
    for address in GOLDEN {
        let outcome = knock(&networks.stranger, address, CONTROL_PORT);
        assert!(refused(&outcome), "the stranger reaches {address}: {outcome:?}");
    }
    let mut receive = networks.node.command(program("ka-agent").to_str().unwrap());
    receive.args(["receive", "--session", "a", "--window", "8M", "--controller", GOLDEN[0]]);
    receive.arg("--key").arg(site.path("keys/join.key")).arg("--file").arg(site.path("out"));
    let mut receiver = Process::start(&mut receive, "receiver", site.path("").as_path());
    site.wait_for_partial("out", MIB);
    assert!(knock(&networks.node, GOLDEN[0], DATA_PORT).is_ok());
    for address in GOLDEN {
        let outcome = knock(&networks.stranger, address, DATA_PORT);
        assert!(refused(&outcome), "the stranger reaches {address}: {outcome:?}");
    }
    gate.open();
    assert_eq!((receiver.end(), sender.end()), (0, 0), "{}\n{}", receiver.said(), sender.said());
    assert!(site.holds("out", &[&part]));
}

#[test]
fn the_configuration_names_the_interface_too_and_one_that_is_not_there_is_an_error() {
    let site = Site::new();
    let networks = Networks::new("b");
    let part = site.noise("part", 10, 1);
    let text = std::fs::read_to_string(site.path("ka.toml")).unwrap();
    std::fs::write(site.path("ka.toml"), format!("{text}[net]\ninterface = \"eth0\"\n")).unwrap();
    let args = |file: &Path| {
        ["send", "--session", "a", "-n", "1", "--file"]
            .map(str::to_owned)
            .into_iter()
            .chain([file.display().to_string()])
    };
    let mut command = networks.kactl(&site, &[]);
    command.args(args(&part));
    let mut sender = Process::start(&mut command, "sender", site.path("").as_path());
    sender.wait_for("waits for", 1);
    assert!(knock(&networks.node, GOLDEN[0], CONTROL_PORT).is_ok());
    assert!(refused(&knock(&networks.stranger, GOLDEN[1], CONTROL_PORT)));
    let mut command = networks.kactl(&site, &[]);
    command.args(args(&part)).args(["--interface", "eth7"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("there is no interface eth7"), "{said}");
}

#[test]
fn discovery_answers_on_the_nodes_interface_only() {
    let site = Site::new();
    let networks = Networks::new("c");
    let keys = keys::load(&site.path("keys")).unwrap();
    let side = Side { address: None, interface: Some("eth0".into()) };
    let responder = networks.golden.enter(|| Responder::start(&keys.joins(), &side)).unwrap();
    responder.announce("a", 4711);
    let key = DiscoveryKey::new(&keys.join);
    // By broadcast, and to each of the golden node's addresses.
    let ask = |from: &NetNs, to: &str, nonce: u8| {
        from.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let request = Request::new(&key, "a", [nonce; 16]);
            let _ = socket.send_to(request.packet(), (to, DISCOVERY_PORT));
            let mut reply = [0; 256];
            let length = socket.recv(&mut reply).ok()?;
            request.answered_by(&key, &reply[..length])
        })
    };
    for (nonce, to) in [(1, "10.77.2.255"), (2, GOLDEN[1]), (3, GOLDEN[0])] {
        assert_eq!(ask(&networks.stranger, to, nonce), None, "the stranger asks {to}");
    }
    let mut nonce = 10;
    for to in ["10.77.1.255", GOLDEN[0]] {
        wait_until(&format!("the node asks {to}"), || {
            nonce += 1;
            ask(&networks.node, to, nonce) == Some(4711)
        });
    }
}
