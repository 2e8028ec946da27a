//! The names of nodes: from a table, from DHCP, or numbered.
//!
//! A machine keeps its name for the whole run, in every round: names are stored by hardware address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hostname;
use crate::mac::Mac;
use crate::plan::NodeName;

/// How nodes outside the table are named (`--hostname`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Naming {
    /// By the DHCP server, if it has a name for the machine; otherwise the node keeps the golden node's.
    #[default]
    Dhcp,
    /// Not at all: the node keeps the golden node's name.
    Golden,
    /// By number.
    Pattern(Pattern),
}

/// Parses `dhcp`, `golden`, or a pattern.
impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "dhcp" => Ok(Self::Dhcp),
            "golden" => Ok(Self::Golden),
            _ => Pattern::parse(text).map(Self::Pattern),
        }
    }
}

/// A name pattern with a number: `node%03d`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    before: String,
    width: usize,
    after: String,
}

/// A number wider than this is a mistake.
const WIDEST: usize = 9;

impl Pattern {
    /// Parses `TEXT%dTEXT` or `TEXT%0NdTEXT`.
    ///
    /// # Errors
    /// The problem with the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected dhcp, golden, or a name with a number in it: node%d, or node%03d";
        let (before, rest) = text.split_once('%').ok_or(EXPECTED)?;
        let (width, after) = rest.split_once('d').ok_or(EXPECTED)?;
        let width = match width.strip_prefix('0').map(str::parse) {
            None if width.is_empty() => 0,
            Some(Ok(width @ 1..=WIDEST)) => width,
            _ => return Err(EXPECTED.to_owned()),
        };
        let pattern = Self { before: before.to_owned(), width, after: after.to_owned() };
        let example = pattern.name(1);
        // Leaves space for a number of five digits, even if the pattern is narrower.
        if !hostname::is_valid(&pattern.name(99_999)) {
            return Err(format!(
                "'{example}' is not a valid host name: letters, digits and '-', at most {} in all",
                hostname::MAX_LENGTH
            ));
        }
        Ok(pattern)
    }

    fn name(&self, number: u32) -> String {
        let mut name = self.before.clone();
        // Writing to a String never fails.
        let _ = write!(name, "{number:0width$}{}", self.after, width = self.width);
        name
    }
}

/// How a run's nodes are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    hosts: BTreeMap<Mac, NodeName>,
    naming: Naming,
    /// Names reserved from all other machines, in lower case.
    taken: BTreeSet<String>,
}

/// The name of each machine; `None` if it keeps the golden node's name.
pub type Given = BTreeMap<Mac, Option<NodeName>>;

impl Names {
    /// Names nodes by the table first, and all others by `naming`. The golden node's name is given to no
    /// other machine, except that all may keep it.
    #[must_use]
    pub fn new(hosts: BTreeMap<Mac, NodeName>, naming: Naming, golden: &str) -> Self {
        let mut taken: BTreeSet<String> =
            hosts.values().map(|name| name.hostname.to_ascii_lowercase()).collect();
        taken.extend([golden, golden.split('.').next().unwrap_or_default()].map(str::to_ascii_lowercase));
        Self { hosts, naming, taken }
    }

    /// Names the machines without a name, in this order, each with its name from DHCP (empty if none).
    #[must_use]
    pub fn give<'a>(
        &self,
        given: &Given,
        machines: impl IntoIterator<Item = (Mac, &'a str)>,
    ) -> Vec<(Mac, Option<NodeName>)> {
        let mut taken = self.taken.clone();
        taken.extend(given.values().flatten().map(|name| name.hostname.to_ascii_lowercase()));
        let (mut new, mut counted) = (Vec::<(Mac, Option<NodeName>)>::new(), 0);
        for (mac, told) in machines {
            if given.contains_key(&mac) || new.iter().any(|(known, _)| *known == mac) {
                continue;
            }
            let name = self.hosts.get(&mac).cloned().or_else(|| {
                let hostname = self.find(mac, told, &taken, &mut counted)?;
                Some(NodeName { hostname, address: None, cards: Vec::new() })
            });
            if let Some(name) = &name {
                log::info!("{mac} will be {}", name.hostname);
                taken.insert(name.hostname.to_ascii_lowercase());
            }
            new.push((mac, name));
        }
        new
    }

    fn find(&self, mac: Mac, told: &str, taken: &BTreeSet<String>, counted: &mut u32) -> Option<String> {
        match &self.naming {
            Naming::Golden => None,
            Naming::Dhcp if told.is_empty() => None,
            Naming::Dhcp => {
                let wrong = if !hostname::is_valid(told) {
                    "is not a host name"
                } else if taken.contains(&told.to_ascii_lowercase()) {
                    "is another machine's"
                } else {
                    return Some(told.to_owned());
                };
                log::warn!("{mac} keeps the golden node's name: '{told}', which DHCP has for it, {wrong}");
                None
            }
            Naming::Pattern(pattern) => loop {
                *counted += 1;
                let name = pattern.name(*counted);
                if !taken.contains(&name.to_ascii_lowercase()) {
                    return Some(name);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn hosts(names: &[(u8, &str)]) -> BTreeMap<Mac, NodeName> {
        let name = |hostname: &str| NodeName { hostname: hostname.into(), address: None, cards: Vec::new() };
        names.iter().map(|(last, hostname)| (mac(*last), name(hostname))).collect()
    }

    fn of(given: &Given, last: u8) -> Option<&str> {
        given.get(&mac(last))?.as_ref().map(|name| name.hostname.as_str())
    }

    #[test]
    fn patterns() {
        for (text, first, hundredth) in [
            ("node%d", "node1", "node100"),
            ("n%03d.rack1", "n001.rack1", "n100.rack1"),
            ("%02d", "01", "100"),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!((pattern.name(1).as_str(), pattern.name(100).as_str()), (first, hundredth));
        }
        let long = format!("{}%d", "x".repeat(60));
        for bad in [
            "",
            "node",
            "node%",
            "node%s",
            "node%3d",
            "node%00d",
            "node%0999d",
            "no de%d",
            "-%d",
            &long,
            "a%d%d",
        ] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_follow_the_order_and_stay() {
        let naming = Naming::Pattern(Pattern::parse("node%d").unwrap());
        let mut given = Given::new();
        let names = Names::new(hosts(&[(9, "head"), (8, "node2")]), naming, "golden");
        given.extend(names.give(&given, [(mac(3), "x"), (mac(9), ""), (mac(1), "")]));
        // By the table, number 2 belongs to another machine, although that machine is not here.
        assert_eq!(
            [of(&given, 3), of(&given, 9), of(&given, 1)],
            [Some("node1"), Some("head"), Some("node3")]
        );
        // In a further round, other machines come first.
        given.extend(names.give(&given, [(mac(4), ""), (mac(1), ""), (mac(3), "")]));
        assert_eq!(
            [of(&given, 3), of(&given, 1), of(&given, 4)],
            [Some("node1"), Some("node3"), Some("node4")]
        );
    }

    #[test]
    fn what_dhcp_says_is_looked_at() {
        let mut given = Given::new();
        let names = Names::new(hosts(&[(9, "head")]), Naming::Dhcp, "golden");
        given.extend(names.give(
            &given,
            [(mac(1), "n1"), (mac(2), "N1"), (mac(3), ""), (mac(4), "a b"), (mac(5), "head"), (mac(9), "y")],
        ));
        let found: Vec<_> = [1, 2, 3, 4, 5, 9].iter().map(|last| of(&given, *last)).collect();
        assert_eq!(found, [Some("n1"), None, None, None, None, Some("head")]);
        let mut given = Given::new();
        let names = Names::new(BTreeMap::new(), Naming::Golden, "golden");
        given.extend(names.give(&given, [(mac(1), "n1")]));
        assert_eq!(of(&given, 1), None);
    }
}
