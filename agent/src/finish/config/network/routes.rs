//! Route and rule files of Red Hat and SUSE: lines of ip-route(8), and older forms.

use std::net::IpAddr;

use ka::plan::NodeAddress;

/// `text` with the node's address in place of the golden node's, and the node's gateway in default routes.
pub(super) fn rewrite(text: &str, golden: IpAddr, own: &NodeAddress) -> String {
    text.split_inclusive('\n').map(|line| rewrite_line(text, line, golden, own)).collect()
}

fn rewrite_line(text: &str, line: &str, golden: IpAddr, own: &NodeAddress) -> String {
    if line.trim_start().starts_with('#') {
        return line.to_owned();
    }
    let mut new = String::with_capacity(line.len());
    let mut rest = line;
    let (mut words, mut before) = (0, "");
    let is_default = leads_everywhere(text, line);
    while let Some(at) = rest.find(|c: char| !c.is_whitespace()) {
        let (blank, tail) = rest.split_at(at);
        let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
        new.push_str(blank);
        // After `via`, in SUSE's second column, or in a separate variable.
        let is_gateway =
            before == "via" || words == 1 && !line.contains(" via ") || word.starts_with("GATEWAY");
        new.push_str(&with_address(word, golden, own, is_gateway && is_default));
        (words, before, rest) = (words + 1, word, tail);
    }
    new + rest
}

/// Whether a line is the default route.
fn leads_everywhere(text: &str, line: &str) -> bool {
    let is_everywhere = |word: &str| matches!(word, "default" | "0.0.0.0/0" | "::/0" | "0/0");
    let first = line.split_whitespace().next().unwrap_or_default();
    // `GATEWAY0=` belongs to `ADDRESS0=`.
    let number = first.strip_prefix("GATEWAY").and_then(|rest| rest.split('=').next());
    let listed = |number: &str| {
        let key = format!("ADDRESS{number}=");
        text.lines()
            .filter_map(|line| line.trim().strip_prefix(&key))
            .any(|value| value.trim_matches('"') == "0.0.0.0")
    };
    is_everywhere(first) || number.is_some_and(listed)
}

fn with_address(word: &str, golden: IpAddr, own: &NodeAddress, is_gateway: bool) -> String {
    let (key, value) = word.split_once('=').map_or(("", word), |(key, value)| (key, value));
    let bare = value.trim_matches(['"', '\'']);
    let (address, prefix) =
        bare.split_once('/').map_or((bare, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(found) = address.parse::<IpAddr>() else { return word.to_owned() };
    let new = match own.gateway {
        Some(gateway) if is_gateway && gateway.is_ipv4() == found.is_ipv4() => gateway,
        _ if found == golden && !is_gateway => own.address,
        _ => return word.to_owned(),
    };
    let new = prefix.map_or_else(|| new.to_string(), |prefix| format!("{new}/{prefix}"));
    if key.is_empty() {
        value.replacen(bare, &new, 1)
    } else {
        format!("{key}={}", value.replacen(bare, &new, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_the_nodes_source_and_gateway() {
        let own = NodeAddress {
            address: "10.0.0.7".parse().unwrap(),
            prefix: Some(24),
            gateway: Some("10.0.0.253".parse().unwrap()),
        };
        for (old, new) in [
            (
                "10.9.0.0/16 via 10.0.0.254 dev eth0 src 10.0.0.1\n",
                "10.9.0.0/16 via 10.0.0.254 dev eth0 src 10.0.0.7\n",
            ),
            (
                "default via 10.0.0.254 dev eth0 src 10.0.0.1 table 5\n",
                "default via 10.0.0.253 dev eth0 src 10.0.0.7 table 5\n",
            ),
            ("from 10.0.0.1/32 table 100\n", "from 10.0.0.7/32 table 100\n"),
            ("from 10.0.0.10 table 100\n# src 10.0.0.1\n", "from 10.0.0.10 table 100\n# src 10.0.0.1\n"),
            ("default 10.0.0.254 - -\n", "default 10.0.0.253 - -\n"),
            (
                "ADDRESS0=0.0.0.0\nGATEWAY0=10.0.0.254\nADDRESS1=10.9.0.0\nGATEWAY1=\"10.0.0.1\"\n",
                "ADDRESS0=0.0.0.0\nGATEWAY0=10.0.0.253\nADDRESS1=10.9.0.0\nGATEWAY1=\"10.0.0.7\"\n",
            ),
        ] {
            assert_eq!(rewrite(old, "10.0.0.1".parse().unwrap(), &own), new);
        }
    }
}
