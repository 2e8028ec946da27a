//! The chain's order: by address, from a list, or by switch, so that a chain crosses each uplink once.
//!
//! The order only decides who follows whom. A node that the file does not name is served after those that it
//! names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ka::mac::MacError;
use ka::session::order::{ChainOrder, Name};

use crate::lists::list::{self, ListError, Once, Problem};

/// The value of `--order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderSource {
    /// By address.
    Address,
    /// In the order of the file's lines.
    File(PathBuf),
    /// Grouped as in the file.
    Switch(PathBuf),
}

/// `address`, `file:FILE` or `switch:FILE`.
impl FromStr for OrderSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "address" => Ok(Self::Address),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("switch", path)) if !path.is_empty() => Ok(Self::Switch(path.into())),
            _ => Err("expected 'address', 'file:FILE' or 'switch:FILE'"),
        }
    }
}

impl OrderSource {
    /// Reads the file, if any.
    ///
    /// # Errors
    /// [`ListError`] with file, line and column.
    pub fn read(&self) -> Result<ChainOrder, ListError> {
        let (path, grouped) = match self {
            Self::Address => return Ok(ChainOrder::Address),
            Self::File(path) => (path, false),
            Self::Switch(path) => (path, true),
        };
        parse(path, &list::read(path, "the order")?, grouped)
    }
}

/// Parses an order; `path` is for errors. With `grouped`, a group follows each name. Groups come in the order
/// of their first appearance, and nodes within a group by address.
///
/// # Errors
/// [`ListError`] with file, line and column.
pub fn parse(path: &Path, text: &str, grouped: bool) -> Result<ChainOrder, ListError> {
    let mut once = Once::new();
    let mut groups: Vec<&str> = Vec::new();
    let mut ranks = BTreeMap::new();
    for mut line in list::lines(path, text) {
        let name = parse_name(line.first).map_err(|e| line.error(line.first, Problem::ChainName(e)))?;
        let rank = if grouped {
            let group = line.need("the group")?;
            groups.iter().position(|known| *known == group).unwrap_or_else(|| {
                groups.push(group);
                groups.len() - 1
            })
        } else {
            line.number
        };
        once.add(name, &line, line.first)?;
        line.end()?;
        ranks.insert(name, rank);
    }
    Ok(ChainOrder::Ranked(ranks))
}

fn parse_name(word: &str) -> Result<Name, MacError> {
    match word.parse::<IpAddr>() {
        Ok(address) => Ok(Name::Address(address.to_canonical())),
        Err(_) => word.parse().map(Name::Mac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::session::order::Candidate;
    use std::net::SocketAddr;

    /// Nodes 1 to 4, by address, with the cards 52:54:00:00:00:0N.
    fn arranged(order: &ChainOrder) -> Vec<usize> {
        let nodes: Vec<Candidate> = [3, 1, 4, 2]
            .iter()
            .map(|n: &u8| Candidate {
                mac: format!("52:54:00:00:00:{n:02x}").parse().ok(),
                address: SocketAddr::from(([10, 0, 0, *n], 30764)),
            })
            .collect();
        let numbers = [3, 1, 4, 2];
        order.arrange(&nodes).into_iter().map(|i| numbers[i]).collect()
    }

    #[test]
    fn the_order_of_a_chain() {
        for (text, grouped, expected) in [
            ("", false, [1, 2, 3, 4]),
            ("10.0.0.4\n52:54:00:00:00:02 # second\n\n10.0.0.3\n10.0.0.1", false, [4, 2, 3, 1]),
            // Unnamed nodes come last, and a named node need not be present.
            ("::ffff:10.0.0.3\n10.0.0.9\n", false, [3, 1, 2, 4]),
            ("525400000004 b\n525400000001 a\n525400000003 b\n10.0.0.2 a\n", true, [3, 4, 1, 2]),
            ("525400000004 a\n525400000002 a\n", true, [2, 4, 1, 3]),
        ] {
            let order = parse(Path::new("order"), text, grouped).unwrap();
            assert_eq!(arranged(&order), expected, "{text}");
        }
        assert_eq!(arranged(&ChainOrder::Address), [1, 2, 3, 4]);
    }

    #[test]
    fn an_error_has_its_place() {
        for (text, grouped, message) in [
            (
                "10.0.0.1\n  node2\n",
                false,
                "order:2:3: expected a hardware address such as 52:54:00:12:34:56, found 'node2', nor is it an IP address",
            ),
            ("10.0.0.1 a", false, "order:1:10: expected the end of the line or a comment, found 'a'"),
            ("10.0.0.1 a b", true, "order:1:12: expected the end of the line or a comment, found 'b'"),
            ("10.0.0.1 # a", true, "order:1:1: expected the group of '10.0.0.1' behind it"),
            (
                "\u{e9}\u{e9} 10.0.0.1",
                true,
                "order:1:1: expected a hardware address such as 52:54:00:12:34:56, found '\u{e9}\u{e9}', nor is it an IP address",
            ),
            ("525400000001\n52-54-00-00-00-01", false, "order:2:1: '52-54-00-00-00-01' is already in line 1"),
        ] {
            assert_eq!(parse(Path::new("order"), text, grouped).unwrap_err().to_string(), message);
        }
        let missing = OrderSource::File("/nonexistent/order".into()).read().unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the order /nonexistent/order");
    }
}
