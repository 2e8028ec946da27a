//! A node on a cable to a golden node, each in a network namespace, with DHCP servers by others. Needs root,
//! iproute2, dnsmasq, BusyBox, scapy and Kea.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a helper of tests fails as a test does")]

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ka::cmdline;
use ka_agent::boot::network::{Network, NetworkError, bring_up};

use crate::netns::NetNs;

/// Two hosts with a cable: `eth0` of the node is unconfigured, `eth0` of the golden node is 10.77.0.1/24.
pub struct Wire {
    /// The golden node, with 10.77.0.1/24 on `eth0`.
    pub golden: NetNs,
    /// The node, with an unconfigured `eth0`.
    pub node: NetNs,
}

impl Wire {
    /// Creates both.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (golden, node) = (NetNs::new(&format!("g-{name}")), NetNs::new(&format!("n-{name}")));
        golden.cable("eth0", &node, "eth0");
        golden.ip(&["link", "set", "lo", "up"]);
        golden.ip(&["link", "set", "eth0", "up"]);
        golden.ip(&["addr", "add", "10.77.0.1/24", "brd", "+", "dev", "eth0"]);
        Self { golden, node }
    }

    /// Whether the output of `ip ARGS` on the node contains this text.
    #[must_use]
    pub fn node_is(&self, args: &[&str], part: &str) -> bool {
        let output = Command::new("ip").args(["-n", self.node.name()]).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains(part)
    }

    /// Sets the node's address by hand.
    pub fn node_address(&self, address: &str) {
        self.node.ip(&["link", "set", "eth0", "up"]);
        self.node.ip(&["addr", "add", address, "dev", "eth0"]);
    }

    /// Brings up the node's network.
    #[must_use]
    pub fn bring_up(&self, command_line: &str) -> Network {
        self.try_to_bring_up(command_line).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Brings up the node's network, or returns why it cannot.
    ///
    /// # Errors
    /// The agent's error.
    pub fn try_to_bring_up(&self, command_line: &str) -> Result<Network, NetworkError> {
        let line = cmdline::parse(command_line).unwrap();
        self.node.enter(|| bring_up(&line, || ()))
    }

    /// Another cable between the two, up at the golden node's end.
    pub fn second_cable(&self, golden: &str, node: &str) {
        self.golden.cable(golden, &self.node, node);
        self.golden.ip(&["link", "set", golden, "up"]);
    }
}

/// A DHCP server, ended with the test.
pub struct Server(Child);

impl Server {
    /// dnsmasq with these settings.
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

    /// With one address to assign, for ten seconds at a time.
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

    /// Kea, with a subnet of this JSON text.
    #[must_use]
    pub fn kea(wire: &Wire, folder: &Path, subnet: &str) -> Self {
        let conf = folder.join("kea.json");
        let text = format!(
            r#"{{ "Dhcp4": {{
                "interfaces-config": {{ "interfaces": ["eth0"] }},
                "lease-database": {{ "type": "memfile", "persist": false }},
                "option-def": [{{ "name": "routes", "code": 121, "space": "dhcp4", "type": "binary" }}],
                "loggers": [{{ "name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 40,
                    "output_options": [{{ "output": "stderr" }}] }}],
                "subnet4": [{subnet}] }} }}"#
        );
        std::fs::write(&conf, text).unwrap();
        let mut command = wire.golden.command("kea-dhcp4");
        command.env("KEA_PIDFILE_DIR", folder).env("KEA_LOCKFILE_DIR", "none").arg("-c").arg(conf);
        Self::start(wire, folder, command)
    }

    /// systemd-networkd, started by hand and without systemd: with its own `/run` and a read-only `/sys`,
    /// which shows it that there is no udev to wait for. It grants addresses for `lease` seconds.
    #[must_use]
    pub fn networkd(wire: &Wire, folder: &Path, lease: u32) -> Self {
        const START: &str = "mount --make-rprivate /; mount -t tmpfs tmpfs /run
            mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/network
            cp \"$1\" /run/systemd/network/10.network; chown -R systemd-network: /run/systemd/netif
            mount --bind /sys /sys; mount -o remount,bind,ro /sys
            SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec /lib/systemd/systemd-networkd";
        let network = folder.join("10.network");
        // Its option 26 is the MTU, and its router is an address that it does not have itself.
        let text = format!(
            "[Match]\nName=eth0\n[Network]\nAddress=10.77.0.1/24\nDHCPServer=yes\nIPv6AcceptRA=no\n\
             [DHCPServer]\nPoolOffset=100\nPoolSize=50\nDefaultLeaseTimeSec={lease}\nMaxLeaseTimeSec={lease}\n\
             EmitRouter=yes\nRouter=10.77.0.254\nSendOption=26:uint16:1400\n"
        );
        std::fs::write(&network, text).unwrap();
        let mut command = wire.golden.command("unshare");
        command.args(["--mount", "sh", "-euc", START, "sh"]).arg(&network);
        let mut server = Self::spawn(folder, command);
        server.wait(folder, || log_of(folder).contains("DHCPv4 server: STARTED"));
        server
    }

    /// The scapy server: see `judges/dhcp_server.py` for its options.
    #[must_use]
    pub fn scapy(wire: &Wire, folder: &Path, card: &str, servers: &serde_json::Value) -> Self {
        let script = crate::root().join("tests/src/judges/dhcp_server.py");
        let settings = serde_json::json!({ "card": card, "servers": servers }).to_string();
        // Debian's Python, which has Debian's scapy.
        let mut command = wire.golden.command("/usr/bin/python3");
        command.arg(script).arg(settings);
        command.stdout(std::fs::File::create(folder.join("heard")).unwrap());
        let mut server = Self::spawn(folder, command);
        server.wait(folder, || std::fs::read_to_string(folder.join("heard")).unwrap().starts_with("ready"));
        server
    }

    fn start(wire: &Wire, folder: &Path, command: Command) -> Self {
        let mut server = Self::spawn(folder, command);
        // It is ready once it has bound the port.
        server.wait(folder, || {
            let sockets = wire.golden.command("cat").arg("/proc/net/udp").output().unwrap();
            String::from_utf8_lossy(&sockets.stdout).contains(":0043 ")
        });
        server
    }

    fn spawn(folder: &Path, mut command: Command) -> Self {
        let log = std::fs::File::create(folder.join("log")).unwrap();
        Self(command.stderr(log).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    fn wait(&mut self, folder: &Path, mut ready: impl FnMut() -> bool) {
        wait_until(
            || format!("the server is ready: {}", log_of(folder)),
            || {
                assert!(self.0.try_wait().unwrap().is_none(), "the server has ended: {}", log_of(folder));
                ready()
            },
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The output of the server in that directory.
#[must_use]
pub fn log_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Captures the agent's log in this process from now on.
pub fn keep_log() {
    // Another test in this process may have done so already.
    drop(log::set_logger(&Lines));
    log::set_max_level(log::LevelFilter::Info);
}

/// Whether the agent has logged a line that contains all of these.
#[must_use]
pub fn logged(parts: &[&str]) -> bool {
    LINES.lock().unwrap().iter().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Waits for a condition, for at most a minute.
///
/// # Panics
/// When it does not become true.
pub fn wait_until(what: impl Fn() -> String, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "gave up: {}", what());
        std::thread::yield_now();
    }
}

/// A message that the scapy server received.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Heard {
    /// `discover`, `request`, `decline`, `other`.
    pub kind: String,
    /// The time, in seconds of the system's clock.
    pub time: f64,
    /// The size of the datagram in bytes.
    pub length: usize,
    /// The sender has an address.
    pub renews: bool,
    /// The options in hexadecimal digits, by code.
    pub options: std::collections::BTreeMap<u8, String>,
}

/// All messages that the scapy server in that directory received.
#[must_use]
pub fn heard(folder: &Path) -> Vec<Heard> {
    let text = std::fs::read_to_string(folder.join("heard")).unwrap();
    // The last line may be incomplete.
    text.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect()
}
