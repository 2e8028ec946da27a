//! Whether this machine's firewall accepts what booting machines send.
//!
//! The rules are evaluated as the kernel would for the first packet of each kind. A condition that cannot be
//! judged here, such as a packet mark, counts as unknown: only packets that are certainly dropped are
//! reported.

mod iptables;
mod nft;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use ka::wire;

use super::Findings;
use crate::config::Ports;
use crate::pxe::service::{Dhcp, Service};
use ka_host::ports::Transport;

/// A kind of packet.
#[derive(Clone, Debug)]
struct Packet<'a> {
    interface: &'a str,
    transport: Transport,
    port: u16,
    /// The last port of a range.
    last: u16,
    /// The state in the kernel's connection tracking, in lower case.
    state: &'static str,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    what: &'static str,
}

/// A condition's value: true, false or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    No,
    Unknown,
    Yes,
}

/// What a rule does with a packet that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A rule, evaluated for one packet.
#[derive(Debug)]
struct Rule {
    applies: Truth,
    action: Action,
}

#[derive(Debug)]
struct Chain {
    /// The policy of a base chain: what happens to a packet that reaches its end.
    policy: Action,
    rules: Vec<Rule>,
}

/// The tool that manages a table, with the table's name there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    #[default]
    Unknown,
    /// Family and name.
    Nftables(String),
    Iptables(String),
}

/// A chain that drops packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dropper {
    owner: Owner,
    chain: String,
}

impl fmt::Display for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Unknown => write!(f, "chain {}", self.chain),
            Owner::Nftables(table) => write!(f, "nftables: table {table}, chain {}", self.chain),
            Owner::Iptables(table) => write!(f, "iptables: table {table}, chain {}", self.chain),
        }
    }
}

/// The chains, which may call each other, and the base chains at which a packet enters.
#[derive(Debug, Default)]
struct Table {
    owner: Owner,
    chains: BTreeMap<String, Chain>,
    bases: Vec<String>,
}

/// The maximum nesting depth of chains (NFT_JUMP_STACK_SIZE).
const DEPTH: usize = 16;

impl Packet<'_> {
    fn is_broadcast(&self) -> bool {
        self.destination.is_broadcast()
    }

    fn ports(&self, separator: char) -> String {
        if self.last == self.port {
            self.port.to_string()
        } else {
            format!("{}{separator}{}", self.port, self.last)
        }
    }

    fn protocol(&self) -> &'static str {
        match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

impl Truth {
    fn of(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
            Self::Yes => Self::No,
        }
    }

    /// Whether both hold; an unknown one makes the result unknown unless the other is false.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

impl Table {
    /// The base chain that certainly drops the packet, if any. All base chains have to accept it.
    fn dropped_by(&self) -> Option<Dropper> {
        let drops = |base: &&String| self.walk(base, DEPTH) == Some(Action::Drop);
        let chain = self.bases.iter().find(drops)?.clone();
        Some(Dropper { owner: self.owner.clone(), chain })
    }

    /// What happens to the packet in a chain: Accept, Drop, or Return at its end; `None` if unknown.
    fn walk(&self, name: &str, depth: usize) -> Option<Action> {
        let chain = self.chains.get(name)?;
        let depth = depth.checked_sub(1)?;
        for rule in &chain.rules {
            let outcome = match &rule.action {
                Action::Continue => continue,
                Action::Accept | Action::Drop => Some(rule.action.clone()),
                Action::Return => Some(chain.policy.clone()),
                Action::Jump(to) => self.walk(to, depth),
                Action::Goto(to) => match self.walk(to, depth) {
                    Some(Action::Return) => Some(chain.policy.clone()),
                    other => other,
                },
            };
            match (rule.applies, outcome) {
                (Truth::No, _) => {}
                (Truth::Yes | Truth::Unknown, Some(Action::Return))
                    if matches!(rule.action, Action::Jump(_)) => {}
                (Truth::Yes, outcome) => return outcome,
                // It may be dropped here. Whether it is dropped in any case depends on the rules that follow.
                (Truth::Unknown, Some(Action::Drop)) => {}
                (Truth::Unknown, _) => return None,
            }
        }
        Some(chain.policy.clone())
    }
}

/// Inspects nftables and iptables. nft shows the latter's rules in a form of its own.
pub(super) fn check(service: &Service, ports: &Ports, findings: &mut Findings) {
    let nft = output(Command::new("nft").args(["--json", "list", "ruleset"]));
    let iptables: Vec<_> = ["iptables-save", "iptables-legacy-save"]
        .into_iter()
        .filter_map(|program| output(&mut Command::new(program)))
        .collect();
    let mut dropped: BTreeMap<Dropper, Vec<Packet<'_>>> = BTreeMap::new();
    for packet in packets(service, ports) {
        let tables = nft.iter().flat_map(|text| nft::tables(text, &packet));
        let mut tables = tables.chain(iptables.iter().flat_map(|text| iptables::tables(text, &packet)));
        if let Some(by) = tables.find_map(|table| table.dropped_by()) {
            dropped.entry(by).or_default().push(packet);
        }
    }
    for (by, packets) in dropped {
        findings.warn(message(&service.interface, &by, &packets));
    }
}

/// A program's output, if the program exists and prints anything.
fn output(command: &mut Command) -> Option<String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => {
            log::debug!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
            None
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                log::debug!("{command:?}: {error}");
            }
            None
        }
    }
}

/// What machines send first to each port, of `kactl pxe` and of a run here.
fn packets<'a>(service: &'a Service, ports: &Ports) -> Vec<Packet<'a>> {
    let own = service.address();
    let node = match &service.dhcp {
        Dhcp::Full(networks) => networks.first().map(|network| network.range.first),
        Dhcp::Proxy(_) | Dhcp::Site => None,
    };
    // Any other host of the network.
    let node = node.unwrap_or_else(|| Ipv4Addr::from_bits(own.to_bits() ^ 2));
    let packet = |what, transport, port| Packet {
        interface: &service.interface,
        transport,
        port,
        last: port,
        state: "new",
        source: node,
        destination: own,
        what,
    };
    let broadcast = |source, packet| Packet { source, destination: Ipv4Addr::BROADCAST, ..packet };
    let udp = |what, port| packet(what, Transport::Udp, port);
    let tcp = |what, port| packet(what, Transport::Tcp, port);
    let dhcp = broadcast(Ipv4Addr::UNSPECIFIED, udp("DHCP", 67));
    let mut packets = match service.dhcp {
        Dhcp::Full(_) => vec![dhcp],
        Dhcp::Proxy(_) => vec![dhcp, udp("PXE", 4011)],
        Dhcp::Site => Vec::new(),
    };
    let (first, last) = ephemeral_ports();
    packets.extend([
        udp("TFTP", 69),
        // The acknowledgements: replies, for a stateful firewall.
        Packet { last, state: "established", ..udp("TFTP's transfers", first) },
        tcp("HTTP", ports.http),
        broadcast(node, udp("discovery", wire::DISCOVERY_PORT)),
        tcp("control", ports.control),
        tcp("data", ports.data),
        tcp("first boots", ports.booted),
    ]);
    packets
}

/// The range from which the kernel picks ephemeral ports.
fn ephemeral_ports() -> (u16, u16) {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = range.split_whitespace().filter_map(|port| port.parse().ok());
    ports.next().zip(ports.next()).unwrap_or((32768, 60999))
}

fn message(interface: &str, by: &Dropper, packets: &[Packet<'_>]) -> String {
    let name = |packet: &Packet<'_>| {
        format!("{} {} ({})", packet.protocol().to_uppercase(), packet.ports('-'), packet.what)
    };
    let all: Vec<_> = packets.iter().map(name).collect();
    format!(
        "{interface}: the firewall ({by}) drops what machines send to {}: open these ports{}",
        all.join(", "),
        remedy(interface, by, packets)
    )
}

/// A command that opens the ports, for the tool that manages these rules.
fn remedy(interface: &str, by: &Dropper, packets: &[Packet<'_>]) -> String {
    let separator = if let Owner::Iptables(_) = by.owner { ':' } else { '-' };
    let of = |transport| {
        let ports: Vec<_> =
            packets.iter().filter(|p| p.transport == transport).map(|p| p.ports(separator)).collect();
        (!ports.is_empty()).then(|| ports.join(","))
    };
    let each = |command: &dyn Fn(&str, String) -> String| {
        let commands = [("udp", of(Transport::Udp)), ("tcp", of(Transport::Tcp))];
        let commands: Vec<_> =
            commands.into_iter().filter_map(|(name, ports)| Some(command(name, ports?))).collect();
        format!(", for example with `{}`", commands.join("; "))
    };
    match &by.owner {
        // firewalld removes what another tool puts into its table.
        Owner::Nftables(table) if table.contains("firewalld") => {
            format!(", for example with `firewall-cmd --zone=trusted --change-interface={interface}`")
        }
        Owner::Nftables(table) => each(&|protocol, ports| {
            let chain = &by.chain;
            format!(
                "nft insert rule {table} {chain} iifname {interface} {protocol} dport {{ {ports} }} accept"
            )
        }),
        Owner::Iptables(_) => each(&|protocol, ports| {
            format!("iptables -I INPUT -i {interface} -p {protocol} -m multiport --dports {ports} -j ACCEPT")
        }),
        Owner::Unknown => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DISCOVER, and the first packet of a connection.
    pub(super) fn packets() -> [Packet<'static>; 2] {
        let node = Ipv4Addr::new(10, 0, 0, 50);
        let http = Packet {
            interface: "eth1",
            transport: Transport::Tcp,
            port: 30766,
            last: 30766,
            state: "new",
            source: node,
            destination: Ipv4Addr::new(10, 0, 0, 1),
            what: "HTTP",
        };
        let dhcp = Packet {
            transport: Transport::Udp,
            port: 67,
            last: 67,
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            what: "DHCP",
            ..http.clone()
        };
        [dhcp, http]
    }

    fn chain(policy: Action, rules: Vec<(Truth, Action)>) -> Chain {
        Chain { policy, rules: rules.into_iter().map(|(applies, action)| Rule { applies, action }).collect() }
    }

    #[test]
    fn only_what_is_certainly_dropped_counts() {
        use Action::{Accept, Drop, Return};
        use Truth::{No, Unknown, Yes};
        let jump = || Action::Jump("other".into());
        let goto = || Action::Goto("other".into());
        for (policy, rules, other, dropped) in [
            (Drop, vec![], vec![], true),
            (Accept, vec![], vec![], false),
            (Drop, vec![(No, Accept)], vec![], true),
            (Drop, vec![(Yes, Accept)], vec![], false),
            (Drop, vec![(Unknown, Accept)], vec![], false),
            (Accept, vec![(Unknown, Drop)], vec![], false),
            (Accept, vec![(Yes, Drop)], vec![], true),
            (Accept, vec![(Unknown, Drop), (Yes, Drop)], vec![], true),
            (Drop, vec![(Yes, jump())], vec![(Yes, Accept)], false),
            (Drop, vec![(Yes, jump())], vec![(Yes, Return), (Yes, Accept)], true),
            (Drop, vec![(Unknown, jump())], vec![(Yes, Accept)], false),
            (Accept, vec![(Unknown, jump())], vec![(Yes, Drop)], false),
            (Accept, vec![(Yes, jump()), (Yes, Drop)], vec![], true),
            (Drop, vec![(Yes, goto()), (Yes, Accept)], vec![], true),
            (Accept, vec![(Yes, goto())], vec![(Yes, Drop)], true),
        ] {
            let said = format!("{policy:?} {rules:?} {other:?}");
            let chains = [("base".into(), chain(policy, rules)), ("other".into(), chain(Return, other))];
            let table = Table { owner: Owner::Unknown, chains: chains.into(), bases: vec!["base".into()] };
            assert_eq!(table.dropped_by().is_some(), dropped, "{said}");
        }
    }

    #[test]
    fn chains_without_end_are_left() {
        let endless = chain(Action::Return, vec![(Truth::Yes, Action::Jump("a".into()))]);
        let table =
            Table { owner: Owner::Unknown, chains: [("a".into(), endless)].into(), bases: vec!["a".into()] };
        assert_eq!(table.dropped_by(), None);
    }

    #[test]
    fn the_remedy_is_for_who_has_the_rules() {
        let packets = packets();
        let nftables = |table: &str| Owner::Nftables(table.into());
        for (owner, chain, part) in [
            (
                nftables("inet filter"),
                "input",
                "`nft insert rule inet filter input iifname eth1 udp dport { 67 } accept; nft insert rule inet filter \
                 input iifname eth1 tcp dport { 30766 } accept`",
            ),
            (
                Owner::Iptables("filter".into()),
                "INPUT",
                "iptables -I INPUT -i eth1 -p udp -m multiport --dports 67 -j",
            ),
            (nftables("inet firewalld"), "filter_INPUT", "--change-interface=eth1`"),
        ] {
            let message = message("eth1", &Dropper { owner, chain: chain.into() }, &packets);
            assert!(
                message.contains("UDP 67 (DHCP), TCP 30766 (HTTP)") && message.contains(part),
                "{message}"
            );
        }
    }
}
