//! Parses iptables' rules as iptables-save(8) prints them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Action, Chain, Owner, Packet, Rule, Table, Truth};

/// The chains that a packet to this machine passes, by table.
const BASES: [(&str, &[&str]); 3] =
    [("raw", &["PREROUTING"]), ("mangle", &["PREROUTING", "INPUT"]), ("filter", &["INPUT"])];

/// Targets after which a packet continues through the chain.
const GOING_ON: [&str; 8] = ["LOG", "NFLOG", "MARK", "CONNMARK", "CT", "NOTRACK", "TRACE", "SET"];

/// The tables, as they apply to a packet.
pub(super) fn tables(text: &str, packet: &Packet<'_>) -> Vec<Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            current = name.trim_end().to_owned();
            continue;
        }
        let Some((_, bases)) = BASES.iter().find(|(name, _)| *name == current) else { continue };
        let table = tables.entry(current.clone()).or_default();
        table.owner = Owner::Iptables(current.clone());
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let policy = match policy {
                "DROP" => Action::Drop,
                "ACCEPT" => Action::Accept,
                _ => Action::Return,
            };
            if bases.contains(&name) {
                table.bases.push(name.to_owned());
            }
            table.chains.insert(name.to_owned(), Chain { policy, rules: Vec::new() });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words = words(rule);
            let Some((chain, words)) = words.split_first() else { continue };
            if let Some(chain) = table.chains.get_mut(chain) {
                chain.rules.push(rule_of(words, packet));
            }
        }
    }
    tables.into_values().collect()
}

/// The words of a line. A comment is in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn rule_of(words: &[String], packet: &Packet<'_>) -> Rule {
    let mut rule = Rule { applies: Truth::Yes, action: Action::Continue };
    let mut words = words.iter().map(String::as_str).peekable();
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        // The values of an option, up to the next option.
        let mut values = Vec::new();
        while let Some(value) = words.next_if(|word| !word.starts_with('-') && *word != "!") {
            values.push(value);
        }
        let value = values.first().copied().unwrap_or_default();
        match word {
            "-j" | "-g" => rule.action = action(word, value, &mut rule.applies),
            // What the options after it test.
            "-m" | "--match" | "--comment" | "--reject-with" | "--log-prefix" | "--log-level" | "--limit"
            | "--limit-burst" | "--nflog-group" | "--nflog-prefix" => {}
            _ => {
                let truth = test(word, value, packet);
                rule.applies = rule.applies.and(if negated { truth.not() } else { truth });
            }
        }
        negated = false;
    }
    rule
}

fn action(option: &str, target: &str, applies: &mut Truth) -> Action {
    match target {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        name if GOING_ON.contains(&name) => Action::Continue,
        // A program decides.
        "QUEUE" | "NFQUEUE" => {
            *applies = applies.and(Truth::Unknown);
            Action::Accept
        }
        name if option == "-g" => Action::Goto(name.to_owned()),
        name => Action::Jump(name.to_owned()),
    }
}

fn test(option: &str, value: &str, packet: &Packet<'_>) -> Truth {
    match option {
        "-i" => match value.strip_suffix('+') {
            Some(start) => Truth::of(packet.interface.starts_with(start)),
            None => Truth::of(packet.interface == value),
        },
        "-p" => Truth::of(value == packet.protocol() || value == "all"),
        "-s" => network(value, packet.source),
        "-d" => network(value, packet.destination),
        "--dport" | "--dports" | "--destination-port" | "--destination-ports" => ports(value, packet.port),
        "--ctstate" | "--state" => {
            Truth::of(value.split(',').any(|state| state.eq_ignore_ascii_case(packet.state)))
        }
        "--dst-type" => {
            let kind = if packet.is_broadcast() { "BROADCAST" } else { "LOCAL" };
            Truth::of(value.split(',').any(|name| name == kind))
        }
        "--pkt-type" => Truth::of((value == "broadcast") == packet.is_broadcast() && value != "multicast"),
        "--icmp-type" => Truth::No,
        "--syn" => Truth::of(packet.protocol() == "tcp"),
        _ => Truth::Unknown,
    }
}

/// `10.0.0.0/8`, or a list of networks.
fn network(text: &str, address: Ipv4Addr) -> Truth {
    let one = |text: &str| {
        let (network, mask) = text.split_once('/').unwrap_or((text, "32"));
        let mask = match mask.parse::<u32>() {
            Ok(length) => u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0),
            Err(_) => mask.parse::<Ipv4Addr>().ok()?.to_bits(),
        };
        Some((network.parse::<Ipv4Addr>().ok()?.to_bits() ^ address.to_bits()) & mask == 0)
    };
    let all: Option<Vec<bool>> = text.split(',').map(one).collect();
    all.map_or(Truth::Unknown, |all| Truth::of(all.contains(&true)))
}

/// `22`, `30764:30767`, or a list of ports.
fn ports(text: &str, port: u16) -> Truth {
    let one = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let number =
            |text: &str, otherwise| if text.is_empty() { Some(otherwise) } else { text.parse().ok() };
        Some((number(first, 0)?..=number(last, u16::MAX)?).contains(&port))
    };
    let all: Option<Vec<bool>> = text.split(',').map(one).collect();
    all.map_or(Truth::Unknown, |all| Truth::of(all.contains(&true)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::packets;
    use super::*;

    fn dropped(policy: &str, rules: &[&str]) -> [bool; 2] {
        let rules: String = rules.iter().map(|rule| format!("-A {rule}\n")).collect();
        let text = format!(
            "# Generated by iptables-save v1.8.9\n*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n:INPUT {policy} [0:0]\n\
             :FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:site - [0:0]\n{rules}COMMIT\n"
        );
        packets().map(|packet| tables(&text, &packet).iter().any(|table| table.dropped_by().is_some()))
    }

    #[test]
    fn rules_of_every_kind_are_read_as_the_kernel_does() {
        for (policy, rules, expected) in [
            ("ACCEPT", &[][..], [false, false]),
            (
                "DROP",
                &["INPUT -i lo -j ACCEPT", "INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"],
                [true, true],
            ),
            ("DROP", &["INPUT -i eth1 -j ACCEPT"], [false, false]),
            ("DROP", &["INPUT -i eth+ -j ACCEPT"], [false, false]),
            ("DROP", &["INPUT ! -i eth1 -j ACCEPT"], [true, true]),
            ("DROP", &["INPUT -p udp -m udp --dport 67 -j ACCEPT"], [false, true]),
            ("DROP", &["INPUT -p udp -m multiport --dports 67,69,4011 -j ACCEPT"], [false, true]),
            (
                "DROP",
                &[
                    "INPUT -p tcp -m tcp --dport 30764:30767 -m comment --comment \"for ka -j DROP\" -j ACCEPT",
                ],
                [true, false],
            ),
            ("DROP", &["INPUT -s 10.0.0.0/8 -j ACCEPT"], [true, false]),
            ("DROP", &["INPUT -d 255.255.255.255/32 -j ACCEPT"], [false, true]),
            ("DROP", &["INPUT -m addrtype --dst-type LOCAL -j ACCEPT"], [true, false]),
            ("DROP", &["INPUT -j site", "site -p tcp -j ACCEPT"], [true, false]),
            ("DROP", &["INPUT -g site", "INPUT -j ACCEPT"], [true, true]),
            ("DROP", &["INPUT -m mark --mark 0x1 -j ACCEPT"], [false, false]),
            (
                "ACCEPT",
                &["INPUT -j LOG --log-prefix \"a b\"", "INPUT -j REJECT --reject-with icmp-port-unreachable"],
                [true, true],
            ),
            (
                "ACCEPT",
                &["INPUT -p udp -m limit --limit 5/sec -j ACCEPT", "INPUT -p udp -j DROP"],
                [false, false],
            ),
        ] {
            assert_eq!(dropped(policy, rules), expected, "{policy} {rules:?}");
        }
    }
}
