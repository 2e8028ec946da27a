//! Configuration that matches a card's hardware address, when this node has no such card.
//!
//! It would apply to nothing or, with the address simply removed, to everything. So it matches the golden
//! interface's name instead, which may or may not exist on the node.

use ka::mac::Mac;

/// How a file selects its card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// netplan's YAML: `match:` with `macaddress:`.
    Netplan,
    /// networkd's `[Match]`.
    Network,
    /// udev's `[Match]`, only for cards.
    Link,
    /// NetworkManager's `mac-address=`.
    Keyfile,
    /// `HWADDR=`.
    Ifcfg,
    /// By name only.
    Other,
}

/// The prefix of a file that is disabled.
const LEFT_OUT: &str = "# ka: no such card on this node: ";

/// `text` without its match for the golden card `mac`, whose name was `interface`.
pub(super) fn rewrite(kind: Kind, text: &str, interface: &str, mac: Mac) -> String {
    if !names(text, mac) {
        return text.to_owned();
    }
    match kind {
        Kind::Netplan => netplan(text, interface, mac),
        Kind::Network => network(text, interface, mac),
        Kind::Link => {
            // Its sections configure only this card.
            if matches(text, mac, &["MACAddress", "PermanentMACAddress"]) {
                text.split_inclusive('\n').map(|line| format!("{LEFT_OUT}{line}")).collect()
            } else {
                text.to_owned()
            }
        }
        Kind::Keyfile => keyfile(text, interface, mac),
        Kind::Ifcfg => ifcfg(text, interface, mac),
        Kind::Other => text.to_owned(),
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['#', ';'])
}

fn names(line: &str, mac: Mac) -> bool {
    let line = line.to_ascii_lowercase();
    let text = mac.to_string();
    line.contains(&text) || line.contains(&text.replace(':', "-"))
}

fn key(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}

/// Whether a line with one of these keys selects the card.
fn matches(text: &str, mac: Mac, keys: &[&str]) -> bool {
    text.lines().any(|line| !is_comment(line) && keys.contains(&key(line)) && names(line, mac))
}

fn network(text: &str, interface: &str, mac: Mac) -> String {
    let mut section = "";
    let has_name = text.lines().any(|line| key(line) == "Name");
    let lines = text.split_inclusive('\n').map(|line| {
        if line.starts_with('[') {
            section = line.trim();
        }
        let looks = matches!(key(line), "MACAddress" | "PermanentMACAddress") && section == "[Match]";
        if !looks || is_comment(line) || !names(line, mac) {
            return line.to_owned();
        }
        let others: Vec<&str> = line
            .split_once('=')
            .map_or("", |(_, value)| value)
            .split_whitespace()
            .filter(|word| !names(word, mac))
            .collect();
        match others.as_slice() {
            [] if has_name => String::new(),
            [] => format!("Name={interface}\n"),
            others => format!("{}={}\n", key(line), others.join(" ")),
        }
    });
    lines.collect()
}

fn keyfile(text: &str, interface: &str, mac: Mac) -> String {
    if !matches(text, mac, &["mac-address"]) {
        return text.to_owned();
    }
    let has_name = text.lines().any(|line| key(line) == "interface-name");
    let lines = text.split_inclusive('\n').map(|line| match key(line) {
        "mac-address" if names(line, mac) => String::new(),
        "[connection]" if !has_name => format!("{}\ninterface-name={interface}\n", line.trim_end()),
        _ => line.to_owned(),
    });
    lines.collect()
}

fn ifcfg(text: &str, interface: &str, mac: Mac) -> String {
    let has_name = text.lines().any(|line| key(line) == "DEVICE");
    let lines = text.split_inclusive('\n').map(|line| match key(line) {
        "HWADDR" if names(line, mac) && has_name => String::new(),
        "HWADDR" if names(line, mac) => format!("DEVICE={interface}\n"),
        _ => line.to_owned(),
    });
    lines.collect()
}

fn netplan(text: &str, interface: &str, mac: Mac) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut new: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    for (at, line) in lines.iter().enumerate() {
        if is_comment(line) || !names(line, mac) || !line.contains("macaddress:") {
            continue;
        }
        // The nearest line above with less indentation is the parent.
        let above = lines.iter().enumerate().take(at).rev();
        let parent =
            above.clone().find(|(_, other)| !other.trim().is_empty() && indent(other) < indent(line));
        let parent = parent.filter(|(_, parent)| parent.trim_start().starts_with("match:")).map(|(at, _)| at);
        let Some(matching) = parent.or(Some(at).filter(|_| line.contains("match:"))) else { continue };
        if let Some(slot) = new.get_mut(at) {
            *slot = with_name(line, interface);
        }
        // The configuration would assign a name that the card already has, and the address no longer
        // identifies it.
        let level = lines.get(matching).map_or(0, |line| indent(line));
        let of_device = |other: &&(usize, &&str)| other.1.trim().is_empty() || indent(other.1) >= level;
        let behind: Vec<_> = lines.iter().enumerate().skip(matching).collect();
        let before: Vec<_> = lines.iter().enumerate().take(matching).rev().collect();
        for (other, candidate) in
            behind.iter().take_while(of_device).chain(before.iter().take_while(of_device))
        {
            if candidate.trim_start().starts_with("set-name:")
                && indent(candidate) == level
                && let Some(slot) = new.get_mut(*other)
            {
                slot.clear();
            }
        }
    }
    new.concat()
}

/// The line with `name:` in place of `macaddress:`, in braces or alone.
fn with_name(line: &str, interface: &str) -> String {
    let Some((before, rest)) = line.split_once("macaddress:") else { return line.to_owned() };
    let end = rest.find([',', '}', '\n', '#']).unwrap_or(rest.len());
    let tail = rest.get(end..).unwrap_or_default();
    format!("{before}name: \"{interface}\"{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_by_address_is_looked_for_by_name() {
        for (kind, old, new) in [
            (
                Kind::Netplan,
                "    lan:\n      match:\n        macaddress: \"52:54:00:00:00:02\"\n      set-name: ens4\n      dhcp4: true\n    other:\n      set-name: x\n",
                "    lan:\n      match:\n        name: \"ens4\"\n      dhcp4: true\n    other:\n      set-name: x\n",
            ),
            (
                Kind::Netplan,
                "    lan:\n      set-name: ens4\n      match: {macaddress: 52:54:00:00:00:02}\n",
                "    lan:\n      match: {name: \"ens4\"}\n",
            ),
            // The address is assigned, not matched.
            (
                Kind::Netplan,
                "    br0:\n      macaddress: 52:54:00:00:00:02\n",
                "    br0:\n      macaddress: 52:54:00:00:00:02\n",
            ),
            (
                Kind::Network,
                "[Match]\nMACAddress=52:54:00:00:00:02\n[Network]\nDHCP=yes\n",
                "[Match]\nName=ens4\n[Network]\nDHCP=yes\n",
            ),
            (
                Kind::Network,
                "[Match]\nMACAddress=52:54:00:00:00:02 52:54:00:00:00:03\nName=lan*\n",
                "[Match]\nMACAddress=52:54:00:00:00:03\nName=lan*\n",
            ),
            (
                Kind::Network,
                "[Match]\nName=ens4\n[Link]\nMACAddress=52:54:00:00:00:02\n",
                "[Match]\nName=ens4\n[Link]\nMACAddress=52:54:00:00:00:02\n",
            ),
            (
                Kind::Link,
                "[Match]\nMACAddress=52-54-00-00-00-02\n[Link]\nName=lan\n",
                "# ka: no such card on this node: [Match]\n# ka: no such card on this node: MACAddress=52-54-00-00-00-02\n# ka: no such card on this node: [Link]\n# ka: no such card on this node: Name=lan\n",
            ),
            (
                Kind::Keyfile,
                "[connection]\nid=x\n[ethernet]\nmac-address=52:54:00:00:00:02\n",
                "[connection]\ninterface-name=ens4\nid=x\n[ethernet]\n",
            ),
            (Kind::Ifcfg, "DEVICE=ens4\nHWADDR=\"52:54:00:00:00:02\"\n", "DEVICE=ens4\n"),
            (Kind::Ifcfg, "NAME=x\nHWADDR=52:54:00:00:00:02\n", "NAME=x\nDEVICE=ens4\n"),
        ] {
            let mac = "52:54:00:00:00:02".parse().unwrap();
            assert_eq!(rewrite(kind, old, "ens4", mac), new, "{kind:?}");
        }
    }
}
