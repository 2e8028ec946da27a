//! Nodes behind routers: `kactl pxe` gives them addresses through a relay, they find the controller without a broadcast, and
//! one chain crosses the networks. Needs root, iproute2, dnsmasq, BusyBox, and the boot loaders' packages.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use ka::cmdline;
use ka::keys::JoinKey;
use ka_agent::boot::find::Search;
use ka_agent::boot::network::bring_up;
use ka_tests::netns::NetNs;
use ka_tests::process::{Process, program, wait_until};
use ka_tests::site::{MIB, Site};
use ka_tests::succeed;
use kactl::rendezvous::lease::{Allowed, HeldLease, Lease};

/// Two networks of nodes behind one router, which relays DHCP.
const CONFIG: &str = r#"
[pxe]
interface = "eth0"
range = "10.77.0.100,10.77.0.109"
router = "10.77.0.254"
[[pxe.subnet]]
range = "10.78.0.100,10.78.0.109"
netmask = "255.255.255.0"
router = "10.78.0.1"
[[pxe.subnet]]
range = "10.79.0.100,10.79.0.109"
netmask = "255.255.255.0"
router = "10.79.0.1"
"#;

/// The golden node, a router, and a node in each network: that of the golden node, and two others.
struct Campus {
    golden: NetNs,
    router: NetNs,
    nodes: [NetNs; 3],
}

impl Campus {
    fn new() -> Self {
        let [golden, router] = ["golden", "router"].map(|name| NetNs::new(&format!("r-{name}")));
        let nodes = [0, 1, 2].map(|number| NetNs::new(&format!("r-node{number}")));
        // A switch in the router's namespace joins its own card, the golden node, and the first node.
        router.ip(&["link", "add", "r0", "type", "bridge"]);
        for (card, host) in [("golden0", &golden), ("node0", &nodes[0])] {
            router.cable(card, host, "eth0");
            router.ip(&["link", "set", card, "master", "r0", "up"]);
        }
        for (card, host) in [("r1", &nodes[1]), ("r2", &nodes[2])] {
            router.cable(card, host, "eth0");
        }
        for (card, address) in [("r0", "10.77.0.254/24"), ("r1", "10.78.0.1/24"), ("r2", "10.79.0.1/24")] {
            router.ip(&["addr", "add", address, "dev", card]);
            router.ip(&["link", "set", card, "up"]);
        }
        succeed(router.command("sysctl").args(["-qw", "net.ipv4.ip_forward=1"]));
        golden.ip(&["link", "set", "lo", "up"]);
        golden.ip(&["link", "set", "eth0", "up"]);
        golden.ip(&["addr", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0"]);
        for network in ["10.78.0.0/24", "10.79.0.0/24"] {
            golden.ip(&["route", "add", network, "via", "10.77.0.254"]);
        }
        Self { golden, router, nodes }
    }

    /// dnsmasq as a relay.
    fn relay(&self, site: &Site) -> Process {
        let mut relay = self.router.command("dnsmasq");
        relay.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file=",
        ]);
        relay.args([
            "--log-facility=-",
            "--dhcp-relay=10.78.0.1,10.77.0.1",
            "--dhcp-relay=10.79.0.1,10.77.0.1",
        ]);
        Process::start(&mut relay, "relay", &site.path(""))
    }

    fn kactl(&self, site: &Site, args: &[&str]) -> Command {
        let mut command = self.golden.command(program("kactl").to_str().unwrap());
        command.arg("--config").arg(site.path("ka.toml")).args(args);
        command
    }
}

#[test]
fn one_chain_crosses_the_networks_behind_a_router() {
    let (site, campus) = (Site::new(), Campus::new());
    let boot = site.path("state/boot");
    fs::create_dir_all(&boot).unwrap();
    let kernel = fs::read(site.noise("kernel", 3 * MIB, 7)).unwrap();
    fs::write(boot.join("vmlinuz"), &kernel).unwrap();
    fs::write(boot.join("all.rdz"), "stage1").unwrap();
    let config = fs::read_to_string(site.path("ka.toml")).unwrap();
    fs::write(site.path("ka.toml"), format!("{config}{CONFIG}")).unwrap();

    let lease = Lease::new("kainstall", Allowed::Any);
    let _run = HeldLease::take(&site.path("run/runs"), "here", lease).unwrap();
    let mut pxe = Process::start(&mut campus.kactl(&site, &["pxe"]), "pxe", &site.path(""));
    pxe.wait_for("boots kamethod for session kainstall", 1);
    let _relay = campus.relay(&site);

    let file = site.noise("file", 24 * MIB, 3);
    let mut send = campus.kactl(&site, &["send", "--json", "--session", "kainstall", "-n", "3", "--file"]);
    let mut sender = Process::start(send.arg(&file), "send", &site.path(""));
    sender.wait_for("waits for", 1);

    let join = JoinKey::from_text(&fs::read_to_string(site.path("keys/join.key")).unwrap()).unwrap();
    let mut receivers = Vec::new();
    for (number, node) in campus.nodes.iter().enumerate() {
        let line = cmdline::parse("automatic=method:ka,interface:auto,network:dhcp kamethod").unwrap();
        let network = node.enter(|| bring_up(&line, || ())).unwrap();
        let third = 77 + u8::try_from(number).unwrap();
        assert_eq!(network.address.octets()[..3], [10, third, 0], "{network:?}");
        let router = if number == 0 { [10, 77, 0, 254] } else { [10, third, 0, 1] };
        assert_eq!(network.gateway, Some(Ipv4Addr::from(router)), "{network:?}");

        // What its boot loader reads, over both protocols.
        let mut menu = String::new();
        wait_until("TFTP through the router", || {
            let copy = tempfile::NamedTempFile::new().unwrap();
            let mut tftp = node.command("busybox");
            tftp.args(["tftp", "-g", "-r", "pxelinux.cfg/default", "-l"]).arg(copy.path()).arg("10.77.0.1");
            let done = tftp.output().unwrap().status.success();
            menu = fs::read_to_string(copy.path()).unwrap();
            done
        });
        let url = menu.lines().find_map(|line| line.trim().strip_prefix("KERNEL http")).expect(&menu);
        let wget = node.command("busybox").args(["wget", "-q", "-O", "-"]).arg(format!("http{url}")).output();
        assert!(wget.unwrap().stdout == kernel, "the kernel over HTTP");

        // A broadcast does not get through: the boot server's menu names the controller.
        let words = menu.lines().find_map(|line| line.trim().strip_prefix("APPEND ")).expect(&menu);
        let line = cmdline::parse(words).unwrap();
        let mut search = Search::new(&line.session, &join, "eth0");
        search.server = line.server.as_ref();
        let controller =
            node.enter(|| search.find(|address| TcpStream::connect(address).map(|_| address))).unwrap();
        assert_eq!(controller.to_string(), "10.77.0.1:30765");

        let mut receive = node.command(program("ka-agent").to_str().unwrap());
        receive.args(["receive", "--session", "kainstall", "--window", "8M", "--controller"]);
        receive.arg(controller.to_string()).arg("--key").arg(site.path("keys/join.key"));
        receive.arg("--file").arg(site.path(&format!("out-{number}")));
        receivers.push(Process::start(&mut receive, &format!("node-{number}"), &site.path("")));
        sender.wait_for("has joined", number + 1);
    }
    assert_eq!(sender.end(), 0, "{}", sender.said());
    for (number, receiver) in receivers.iter_mut().enumerate() {
        assert_eq!(receiver.end(), 0, "{}", receiver.said());
        assert!(site.holds(&format!("out-{number}"), &[&file]), "node {number}");
    }
}
