//! Assigns host names to nodes: from a table, from DHCP, or by counting.
//!
//! A machine keeps its name for the whole run, in every round: names are kept by hardware address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::str::FromStr;

use ka::hostname;
use ka::mac::Mac;
use ka::plan::NodeName;

use crate::lists::hosts::Hosts;

/// What names the nodes that the table does not name (`--hostname`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// DHCP, if it has a name for the machine; otherwise the machine keeps the golden node's name.
    #[default]
    Dhcp,
    /// Nothing: the machine keeps the golden node's name.
    Golden,
    /// A counter.
    Pattern(Pattern),
}

/// `dhcp`, `golden`, or a pattern.
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

/// A name with a number in it: `node%03d`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    width: usize,
    after: String,
}

/// Wider numbers make no sense for nodes.
const WIDEST: usize = 9;

impl Pattern {
    /// Parses `TEXT%dTEXT` or `TEXT%0NdTEXT`.
    ///
    /// # Errors
    /// The problem.
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
        // Room for a five-digit number, though the pattern may be narrower.
        if !hostname::is_valid(&pattern.name(99_999)) {
            return Err(format!(
                "'{example}' would be no host name: letters, digits and '-', at most {} in all",
                hostname::LONGEST
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

/// The names of a run's nodes.
#[derive(Clone, Debug, Default)]
pub struct Names {
    hosts: Hosts,
    naming: Naming,
    /// The name of each machine; `None` for one that keeps the golden node's name.
    given: BTreeMap<Mac, Option<NodeName>>,
    /// All names in use or in the table, in lower case.
    taken: BTreeSet<String>,
    /// The last number used.
    counted: u32,
}

impl Names {
    /// Names from the table, and for all others by `naming`. No machine gets the golden node's name, except where all
    /// keep it.
    #[must_use]
    pub fn new(hosts: Hosts, naming: Naming, golden: &str) -> Self {
        let mut taken = hosts.names();
        taken.extend([golden, golden.split('.').next().unwrap_or_default()].map(str::to_ascii_lowercase));
        Self { hosts, naming, given: BTreeMap::new(), taken, counted: 0 }
    }

    /// Names the unnamed machines in this order, each with the name that DHCP has for it (empty if none).
    pub fn give<'a>(&mut self, machines: impl IntoIterator<Item = (Mac, &'a str)>) {
        for (mac, told) in machines {
            if self.given.contains_key(&mac) {
                continue;
            }
            let name = self.hosts.get(mac).cloned().or_else(|| {
                let hostname = self.find(mac, told)?;
                Some(NodeName { hostname, address: None, cards: Vec::new() })
            });
            if let Some(name) = &name {
                log::info!("{mac} will be {}", name.hostname);
                self.taken.insert(name.hostname.to_ascii_lowercase());
            }
            self.given.insert(mac, name);
        }
    }

    /// A machine's name, if it has one of its own.
    #[must_use]
    pub fn of(&self, mac: Mac) -> Option<&NodeName> {
        self.given.get(&mac)?.as_ref()
    }

    fn find(&mut self, mac: Mac, told: &str) -> Option<String> {
        match &self.naming {
            Naming::Golden => None,
            Naming::Dhcp if told.is_empty() => None,
            Naming::Dhcp => {
                let wrong = if !hostname::is_valid(told) {
                    "is no host name"
                } else if self.taken.contains(&told.to_ascii_lowercase()) {
                    "is another machine's"
                } else {
                    return Some(told.to_owned());
                };
                log::warn!("{mac} keeps the golden node's name: '{told}', its name in DHCP, {wrong}");
                None
            }
            Naming::Pattern(pattern) => loop {
                self.counted += 1;
                let name = pattern.name(self.counted);
                if !self.taken.contains(&name.to_ascii_lowercase()) {
                    return Some(name);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn mac(last: u8) -> Mac {
        format!("52:54:00:00:00:{last:02x}").parse().unwrap()
    }

    fn hosts(text: &str) -> Hosts {
        Hosts::parse(Path::new("hosts"), text).unwrap()
    }

    fn of(names: &Names, last: u8) -> Option<&str> {
        names.of(mac(last)).map(|name| name.hostname.as_str())
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
        let mut names = Names::new(hosts("525400000009 head\n525400000008 node2\n"), naming, "golden");
        names.give([(mac(3), "x"), (mac(9), ""), (mac(1), "")]);
        // The table gives number 2 to another machine, though that one is absent.
        assert_eq!(
            [of(&names, 3), of(&names, 9), of(&names, 1)],
            [Some("node1"), Some("head"), Some("node3")]
        );
        // A further round has others in front.
        names.give([(mac(4), ""), (mac(1), ""), (mac(3), "")]);
        assert_eq!(
            [of(&names, 3), of(&names, 1), of(&names, 4)],
            [Some("node1"), Some("node3"), Some("node4")]
        );
    }

    #[test]
    fn what_dhcp_says_is_looked_at() {
        let mut names = Names::new(hosts("525400000009 head\n"), Naming::Dhcp, "golden");
        names.give([
            (mac(1), "n1"),
            (mac(2), "N1"),
            (mac(3), ""),
            (mac(4), "a b"),
            (mac(5), "head"),
            (mac(9), "y"),
        ]);
        let found: Vec<_> = [1, 2, 3, 4, 5, 9].iter().map(|last| of(&names, *last)).collect();
        assert_eq!(found, [Some("n1"), None, None, None, None, Some("head")]);
        let mut names = Names::new(Hosts::default(), Naming::Golden, "golden");
        names.give([(mac(1), "n1")]);
        assert_eq!(of(&names, 1), None);
    }
}
