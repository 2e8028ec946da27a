//! Parses nftables' rules as `nft --json` lists them; see libnftables-json(5).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Action, Chain, Owner, Packet, Rule, Table, Truth};

/// Families whose chains see IPv4 packets to this machine.
const FAMILIES: [&str; 2] = ["inet", "ip"];
/// The hooks that a packet to this machine passes.
const HOOKS: [&str; 2] = ["prerouting", "input"];

/// Statements that do not affect whether a rule matches.
const SIDE_EFFECTS: [&str; 9] =
    ["counter", "log", "limit", "mangle", "notrack", "ct helper", "ct timeout", "quota", "comment"];

/// A table's family and name.
type Key<'a> = (&'a str, &'a str);

/// The tables, as they apply to a packet.
pub(super) fn tables(text: &str, packet: &Packet<'_>) -> Vec<Table> {
    let list: Value = match serde_json::from_str(text) {
        Ok(list) => list,
        Err(error) => {
            log::debug!("cannot parse nft's list of rules: {error}");
            return Vec::new();
        }
    };
    let objects = || list["nftables"].as_array().into_iter().flatten();
    let sets: BTreeMap<(Key<'_>, &str), &Value> = objects()
        .filter_map(|object| object.get("set").or_else(|| object.get("map")))
        .filter_map(|set| Some(((key(set)?, set["name"].as_str()?), &set["elem"])))
        .collect();
    let mut tables: BTreeMap<Key<'_>, Table> = BTreeMap::new();
    for chain in objects().filter_map(|object| object.get("chain")) {
        let (Some(key), Some(name)) = (key(chain), chain["name"].as_str()) else { continue };
        let table = tables.entry(key).or_default();
        table.owner = Owner::Nftables(format!("{} {}", key.0, key.1));
        let is_base = is(&chain["hook"], &HOOKS) && chain["type"] == "filter";
        let policy = match (is_base, chain["policy"].as_str()) {
            (true, Some("drop")) => Action::Drop,
            (true, _) => Action::Accept,
            (false, _) => Action::Return,
        };
        if is_base {
            table.bases.push(name.to_owned());
        }
        table.chains.insert(name.to_owned(), Chain { policy, rules: Vec::new() });
    }
    for rule in objects().filter_map(|object| object.get("rule")) {
        let (Some(key), Some(name)) = (key(rule), rule["chain"].as_str()) else { continue };
        let Some(chain) = tables.get_mut(&key).and_then(|table| table.chains.get_mut(name)) else { continue };
        let reader = Reader { packet, sets: &sets, key };
        chain.rules.extend(reader.rule(&rule["expr"]));
    }
    tables.into_values().collect()
}

fn key(object: &Value) -> Option<Key<'_>> {
    let family = object["family"].as_str().filter(|family| FAMILIES.contains(family))?;
    Some((family, object["table"].as_str()?))
}

fn is(value: &Value, names: &[&str]) -> bool {
    value.as_str().is_some_and(|value| names.contains(&value))
}

/// The value of an expression for the packet.
enum Field {
    Text(&'static str),
    Interface,
    Number(u64),
    Address(Ipv4Addr),
    /// The packet has no such field.
    Absent,
    Unknown,
}

struct Reader<'a> {
    packet: &'a Packet<'a>,
    sets: &'a BTreeMap<(Key<'a>, &'a str), &'a Value>,
    key: Key<'a>,
}

impl Reader<'_> {
    /// A rule; several for a verdict map.
    fn rule(&self, statements: &Value) -> Vec<Rule> {
        let mut applies = Truth::Yes;
        for statement in statements.as_array().into_iter().flatten() {
            let Some((name, content)) = statement.as_object().and_then(|object| object.iter().next()) else {
                continue;
            };
            let action = match name.as_str() {
                "match" => {
                    applies = applies.and(self.matches(content));
                    continue;
                }
                "vmap" => return self.verdicts(applies, content),
                name if SIDE_EFFECTS.contains(&name) => continue,
                name => action(name, content),
            };
            match action {
                Some(action) => return vec![Rule { applies, action }],
                None => applies = applies.and(Truth::Unknown),
            }
        }
        Vec::new()
    }

    fn verdicts(&self, applies: Truth, map: &Value) -> Vec<Rule> {
        let field = self.field(&map["key"]);
        let pairs = match map["data"].as_str().and_then(|name| name.strip_prefix('@')) {
            Some(name) => {
                self.sets.get(&(self.key, name)).map(|elements| (*elements).clone()).unwrap_or_default()
            }
            None => map["data"]["set"].clone(),
        };
        let rule = |pair: &Value| {
            let (name, content) = pair.get(1)?.as_object()?.iter().next()?;
            let applies = applies.and(self.equals(&field, pair.get(0)?));
            Some(Rule { applies, action: action(name, content)? })
        };
        pairs.as_array().into_iter().flatten().filter_map(rule).collect()
    }

    fn matches(&self, content: &Value) -> Truth {
        let found = self.equals(&self.field(&content["left"]), &content["right"]);
        match content["op"].as_str() {
            Some("==" | "in") => found,
            Some("!=") => match self.field(&content["left"]) {
                // A packet without the field does not differ in it.
                Field::Absent => Truth::No,
                _ => found.not(),
            },
            _ => Truth::Unknown,
        }
    }

    fn field(&self, left: &Value) -> Field {
        let packet = self.packet;
        if let Some(meta) = left.get("meta") {
            return match meta["key"].as_str() {
                Some("iifname" | "iif") => Field::Interface,
                Some("l4proto") => Field::Text(packet.protocol()),
                Some("protocol") => Field::Text("ip"),
                Some("nfproto") => Field::Text("ipv4"),
                Some("pkttype") => Field::Text(if packet.is_broadcast() { "broadcast" } else { "host" }),
                _ => Field::Unknown,
            };
        }
        if let Some(payload) = left.get("payload") {
            let field = payload["field"].as_str().unwrap_or_default();
            return match (payload["protocol"].as_str().unwrap_or_default(), field) {
                ("ip", "saddr") => Field::Address(packet.source),
                ("ip", "daddr") => Field::Address(packet.destination),
                ("ip", "protocol") => Field::Text(packet.protocol()),
                ("ip", "version") => Field::Number(4),
                ("ip" | "ether" | "vlan", _) => Field::Unknown,
                (protocol, field) if protocol == packet.protocol() || protocol == "th" => match field {
                    "dport" => Field::Number(packet.port.into()),
                    _ => Field::Unknown,
                },
                ("", _) => Field::Unknown,
                // It belongs to another protocol.
                _ => Field::Absent,
            };
        }
        if left.get("ct").is_some_and(|ct| ct["key"] == "state") {
            return Field::Text(self.packet.state);
        }
        if let Some(fib) = left.get("fib")
            && fib["result"] == "type"
            && fib["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "daddr"))
        {
            return Field::Text(if packet.is_broadcast() { "broadcast" } else { "local" });
        }
        Field::Unknown
    }

    /// Whether the field has this value, or one of these.
    fn equals(&self, field: &Field, value: &Value) -> Truth {
        if let Field::Absent = field {
            return Truth::No;
        }
        if let Some(list) = value.as_array().or_else(|| value["set"].as_array()) {
            return self.any(field, list);
        }
        if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
            // An empty set is listed without elements. A dynamic set may gain elements later.
            return match self.sets.get(&(self.key, name)).map(|elements| elements.as_array()) {
                Some(Some(list)) => self.any(field, list),
                _ => Truth::Unknown,
            };
        }
        if let Some(element) = value.get("elem") {
            return self.equals(field, &element["val"]);
        }
        match field {
            Field::Absent => Truth::No,
            Field::Unknown => Truth::Unknown,
            Field::Interface => match value.as_str().map(|text| text.strip_suffix('*').ok_or(text)) {
                Some(Ok(start)) => Truth::of(self.packet.interface.starts_with(start)),
                Some(Err(name)) => Truth::of(self.packet.interface == name),
                None => Truth::Unknown,
            },
            // Names of protocols and states may be given as numbers.
            Field::Text(text) => value.as_str().map_or(Truth::Unknown, |value| Truth::of(value == *text)),
            Field::Number(number) => match (value.as_u64(), value["range"].as_array()) {
                (Some(value), _) => Truth::of(value == *number),
                (None, Some(range)) => {
                    match (range.first().and_then(Value::as_u64), range.get(1).and_then(Value::as_u64)) {
                        (Some(first), Some(last)) => Truth::of((first..=last).contains(number)),
                        _ => Truth::Unknown,
                    }
                }
                (None, None) => Truth::Unknown,
            },
            Field::Address(address) => in_network(*address, value),
        }
    }

    fn any(&self, field: &Field, list: &[Value]) -> Truth {
        let all: Vec<_> = list.iter().map(|value| self.equals(field, value)).collect();
        match all.iter().find(|truth| **truth == Truth::Yes) {
            Some(_) => Truth::Yes,
            None if all.contains(&Truth::Unknown) => Truth::Unknown,
            None => Truth::No,
        }
    }
}

fn in_network(address: Ipv4Addr, value: &Value) -> Truth {
    let ipv4 = |value: &Value| value.as_str()?.parse::<Ipv4Addr>().ok();
    if let Some(one) = ipv4(value) {
        return Truth::of(one == address);
    }
    if let Some(range) = value["range"].as_array()
        && let (Some(first), Some(last)) = (range.first().and_then(ipv4), range.get(1).and_then(ipv4))
    {
        return Truth::of((first..=last).contains(&address));
    }
    if let (Some(network), Some(length)) = (ipv4(&value["prefix"]["addr"]), value["prefix"]["len"].as_u64())
        && length <= 32
    {
        let mask = u32::try_from(u64::from(u32::MAX) << (32 - length) & u64::from(u32::MAX)).unwrap_or(0);
        return Truth::of((network.to_bits() ^ address.to_bits()) & mask == 0);
    }
    Truth::Unknown
}

/// A statement that ends a rule; `None` if it is unknown here.
fn action(name: &str, content: &Value) -> Option<Action> {
    let target = || content["target"].as_str().map(str::to_owned);
    match name {
        "accept" => Some(Action::Accept),
        "drop" | "reject" => Some(Action::Drop),
        "return" => Some(Action::Return),
        "continue" => Some(Action::Continue),
        "jump" => target().map(Action::Jump),
        "goto" => target().map(Action::Goto),
        // A program decides.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::packets;
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// The rules as nft lists them, in a network namespace of the test's own.
    fn listed(rules: &str) -> String {
        let mut nft = Command::new("unshare")
            .args(["--net", "sh", "-c", "nft -f - && exec nft --json list ruleset"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        let output = nft.wait_with_output().unwrap();
        assert!(output.status.success(), "nft and root are needed; nft refused {rules}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn table(policy: &str, rules: &str) -> String {
        format!(
            "table inet filter {{
                set ports {{ type inet_service; flags interval; elements = {{ 67-69, 30766 }} }}
                set cards {{ type ifname; elements = {{ \"eth0\" }} }}
                chain allowed {{ tcp dport 30766 accept; udp dport 67 accept; }}
                chain input {{ type filter hook input priority 0; policy {policy}; {rules};
 }}
            }}"
        )
    }

    #[test]
    fn rules_of_every_kind_are_read_as_the_kernel_does() {
        // The rules, and whether they drop a DISCOVER and a connection for HTTP.
        for (policy, rules, dropped) in [
            ("accept", "", [false, false]),
            ("drop", "", [true, true]),
            ("drop", "iif lo accept; ct state established,related accept; tcp dport 22 accept", [true, true]),
            ("drop", "iifname \"eth1\" accept", [false, false]),
            ("drop", "iifname \"eth*\" accept", [false, false]),
            ("drop", "iifname != \"eth1\" accept", [true, true]),
            ("drop", "iifname @cards accept", [true, true]),
            ("drop", "iifname { \"eth0\", \"eth1\" } udp dport 67 accept", [false, true]),
            ("drop", "udp dport { 67, 69 } accept; tcp dport 30000-31000 accept", [false, false]),
            ("drop", "meta l4proto { tcp, udp } th dport @ports accept", [false, false]),
            ("drop", "ip saddr 10.0.0.0/8 accept", [true, false]),
            ("drop", "ip saddr { 10.0.0.0/25, 192.0.2.1 } accept", [true, false]),
            ("drop", "ip daddr 10.0.0.1 accept", [true, false]),
            ("drop", "meta pkttype broadcast accept", [false, true]),
            ("drop", "fib daddr type local accept", [true, false]),
            ("drop", "jump allowed", [false, false]),
            ("drop", "iifname vmap { \"eth1\" : jump allowed }", [false, false]),
            ("drop", "iifname vmap { \"eth0\" : jump allowed }", [true, true]),
            ("drop", "ct state vmap { established : accept, new : goto allowed }", [false, false]),
            ("drop", "meta mark 1 accept", [false, false]),
            ("drop", "tcp sport 1024-65535 accept", [true, false]),
            ("drop", "icmp type echo-request accept; meta nfproto ipv6 accept", [true, true]),
            ("drop", "limit rate 5/second counter log accept", [false, false]),
            ("accept", "iifname \"eth1\" ip protocol udp reject", [true, false]),
            ("accept", "tcp dport != 22 drop", [false, true]),
            ("accept", "meta mark 1 drop", [false, false]),
            (
                "accept",
                "ct state invalid drop; tcp flags syn counter; tcp dport 30766 reject with tcp reset",
                [false, true],
            ),
        ] {
            let text = listed(&table(policy, rules));
            let found =
                packets().map(|packet| tables(&text, &packet).iter().any(|t| t.dropped_by().is_some()));
            assert_eq!(found, dropped, "{policy} {rules}: {text}");
        }
    }

    #[test]
    fn every_base_chain_has_to_accept() {
        let rules = "table ip a {\n chain b { type filter hook input priority 0; accept; }\n }
                     table inet c {\n chain d { type filter hook prerouting priority -300; udp dport 67 drop; }\n }
                     table inet e {\n chain f { type filter hook forward priority 0; policy drop; }\n }
                     table ip6 g {\n chain h { type filter hook input priority 0; policy drop; }\n }\n";
        let text = listed(rules);
        let [dhcp, http] = packets();
        let by: Vec<_> =
            tables(&text, &dhcp).iter().filter_map(|t| Some(t.dropped_by()?.to_string())).collect();
        assert_eq!(by, ["nftables: table inet c, chain d"]);
        assert!(tables(&text, &http).iter().all(|t| t.dropped_by().is_none()));
        assert!(tables("no JSON", &http).is_empty());
    }
}
