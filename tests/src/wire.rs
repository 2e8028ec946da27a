//! A node on a cable to a golden node, each in a network namespace, and DHCP servers of others. Needs root, iproute2,
//! dnsmasq, BusyBox, scapy and Kea.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of tests fails as a test does")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ka_agent::boot::cmdline;
use ka_agent::boot::network::{Network, NetworkError, bring_up};

use crate::netns::NetNs;

/// Two hosts with a cable: `eth0` of the node has nothing, `eth0` of the golden node is 10.77.0.1/24.
pub struct Wire {
    /// The golden node, with 10.77.0.1/24 on `eth0`.
    pub golden: NetNs,
    /// The node, with a bare `eth0`.
    pub node: NetNs,
}

impl Wire {
    /// See the name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (golden, node) = (NetNs::new(&format!("g-{name}")), NetNs::new(&format!("n-{name}")));
        golden.cable("eth0", &node, "eth0");
        golden.ip(&["link", "set", "lo", "up"]);
        golden.ip(&["link", "set", "eth0", "up"]);
        golden.ip(&["addr", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0"]);
        Self { golden, node }
    }

    /// See the name.
    #[must_use]
    pub fn node_is(&self, args: &[&str], part: &str) -> bool {
        let output = Command::new("ip").args(["-n", self.node.name()]).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(part)
    }

    /// See the name.
    pub fn node_address(&self, address: &str) {
        self.node.ip(&["link", "set", "eth0", "up"]);
        self.node.ip(&["addr", "add", address, "dev", "eth0"]);
    }

    /// See the name.
    #[must_use]
    pub fn bring_up(&self, command_line: &str) -> Network {
        let line = cmdline::parse(command_line).unwrap();
        self.node.enter(|| bring_up(&line, || ())).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// A DHCP server, ended with the test.
pub struct Server(Child);

impl Server {
    /// See the name.
    #[must_use]
    pub fn dnsmasq(wire: &Wire, folder: &Path, more: &[&str]) -> Self {
        let mut command = wire.golden.command("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--interface=eth0",
                "--user=root",
            ])
            .args(["--bind-interfaces", "--no-ping", "--log-dhcp", "--log-facility=-", "--pid-file="])
            .arg(format!("--dhcp-leasefile={}", folder.join("leases").display()))
            .args(more);
        Self::start(wire, folder, command)
    }

    /// With one address to give, for ten seconds at a time.
    /// See the name.
    #[must_use]
    pub fn udhcpd(wire: &Wire, folder: &Path, address: &str) -> Self {
        let (conf, leases) = (folder.join("udhcpd.conf"), folder.join("udhcpd.leases"));
        std::fs::write(&leases, "").unwrap();
        let text = format!(
            "interface eth0\nstart {address}\nend {address}\noption subnet 255.255.255.0\noption lease 10\n\
             lease_file {}\npidfile {}\n",
            leases.display(),
            folder.join("udhcpd.pid").display()
        );
        std::fs::write(&conf, text).unwrap();
        let mut command = wire.golden.command("busybox");
        command.args(["udhcpd", "-f", "-a", "100"]).arg(conf);
        Self::start(wire, folder, command)
    }

    /// See the name.
    #[must_use]
    pub fn start(wire: &Wire, folder: &Path, mut command: Command) -> Self {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = command.stderr(log).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut server = Self(child);
        // It is ready once it holds the port.
        wait_until(
            || format!("{command:?} listens: {}", log_of(folder)),
            || {
                assert!(server.0.try_wait().unwrap().is_none(), "{command:?}: {}", log_of(folder));
                let sockets = wire.golden.command("cat").arg("/proc/net/udp").output().unwrap();
                String::from_utf8_lossy(&sockets.stdout).contains(":0043 ")
            },
        );
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What the server in that folder has written.
#[must_use]
pub fn log_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Waits for a condition, a minute at most.
///
/// # Panics
/// When it does not come.
pub fn wait_until(what: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {}", what());
        std::thread::yield_now();
    }
}

