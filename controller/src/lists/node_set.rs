//! Lists of nodes as administrators write them: `node[001-120],rack2-[1,3-5]`, `@group`.
//!
//! A part in brackets stands for each of its numbers; `001` keeps its zeros. What has no brackets, a hardware
//! address for example, stands for itself. Order is kept, and who is named twice is there once.

use std::collections::{BTreeMap, BTreeSet};

/// The longest list.
pub const MAX_NODES: usize = 65_536;

/// Named lists, which may name others.
pub type Groups = BTreeMap<String, String>;

/// A list that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeSetError {
    /// Something in the list's text.
    #[error("'{text}', column {column}: {problem}")]
    Text {
        /// The list.
        text: String,
        /// The character in it, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A group is not there.
    #[error("there is no group '{name}'; [groups] in the configuration has {}", known(groups))]
    Group {
        /// The group.
        name: String,
        /// Those that there are.
        groups: Vec<String>,
    },
    /// A group is in itself.
    #[error("the group '{0}' is in itself")]
    Circle(String),
    /// It is too long.
    #[error("the list has more than {MAX_NODES} nodes")]
    Long,
}

fn known(groups: &[String]) -> String {
    if groups.is_empty() { "none".into() } else { groups.join(", ") }
}

/// All nodes of a list.
///
/// # Errors
/// [`NodeSetError`] with the place.
pub fn expand(text: &str, groups: &Groups) -> Result<Vec<String>, NodeSetError> {
    let mut expansion = Expansion { groups, within: Vec::new(), seen: BTreeSet::new(), nodes: Vec::new() };
    expansion.list(text)?;
    Ok(expansion.nodes)
}

struct Expansion<'a> {
    groups: &'a Groups,
    /// The groups that are being expanded.
    within: Vec<String>,
    seen: BTreeSet<String>,
    nodes: Vec<String>,
}

impl Expansion<'_> {
    fn list(&mut self, text: &str) -> Result<(), NodeSetError> {
        let items = items(text)?;
        if items.is_empty() {
            return Err(wrong(text, 0, "the list is empty"));
        }
        for (at, item) in items {
            match item.strip_prefix('@') {
                Some(name) => self.group(name)?,
                None => self.item(text, at, item)?,
            }
        }
        Ok(())
    }

    fn group(&mut self, name: &str) -> Result<(), NodeSetError> {
        if self.within.iter().any(|group| group == name) {
            return Err(NodeSetError::Circle(name.to_owned()));
        }
        let Some(list) = self.groups.get(name) else {
            let groups = self.groups.keys().cloned().collect();
            return Err(NodeSetError::Group { name: name.to_owned(), groups });
        };
        self.within.push(name.to_owned());
        self.list(list)?;
        self.within.pop();
        Ok(())
    }

    fn item(&mut self, text: &str, at: usize, item: &str) -> Result<(), NodeSetError> {
        let mut names = vec![String::new()];
        let mut rest = item;
        let mut place = at;
        while let Some((before, inside)) = rest.split_once('[') {
            let (ranges, behind) = inside
                .split_once(']')
                .ok_or_else(|| wrong(text, place + before.len(), "this '[' is not closed"))?;
            let numbers = numbers(text, place + before.len() + 1, ranges)?;
            if names.len() * numbers.len() > MAX_NODES {
                return Err(NodeSetError::Long);
            }
            names = names
                .iter()
                .flat_map(|name| numbers.iter().map(move |number| format!("{name}{before}{number}")))
                .collect();
            place += before.len() + ranges.len() + 2;
            rest = behind;
        }
        if let Some(end) = rest.find(']') {
            return Err(wrong(text, place + end, "this ']' has no '['"));
        }
        for name in names {
            let name = name + rest;
            if self.seen.insert(name.clone()) {
                self.nodes.push(name);
            }
        }
        if self.nodes.len() > MAX_NODES { Err(NodeSetError::Long) } else { Ok(()) }
    }
}

/// The parts between commas and blanks that are not in brackets, each with its place.
fn items(text: &str) -> Result<Vec<(usize, &str)>, NodeSetError> {
    let (mut items, mut start, mut open) = (Vec::new(), 0, false);
    let ends = text.char_indices().chain([(text.len(), ',')]);
    for (at, c) in ends {
        match c {
            '[' if open => return Err(wrong(text, at, "brackets in brackets")),
            '[' => open = true,
            ']' => open = false,
            _ if at < text.len() && (open || !(c == ',' || c.is_whitespace())) => {
                if c.is_control() || open && !(c.is_ascii_digit() || "-,/".contains(c)) {
                    return Err(wrong(text, at, "expected numbers in brackets, such as [1-9,12]"));
                }
            }
            _ => {
                if let Some(item) = text.get(start..at).filter(|item| !item.is_empty()) {
                    items.push((start, item));
                }
                start = at + c.len_utf8();
            }
        }
    }
    Ok(items)
}

/// The numbers of `001-120`, `1,3,5-7`, `1-9/2`, each with its zeros.
fn numbers(text: &str, at: usize, ranges: &str) -> Result<Vec<String>, NodeSetError> {
    let mut all = Vec::new();
    let mut place = at;
    for range in ranges.split(',') {
        let fault = |problem: &str| wrong(text, place, problem);
        let (bounds, step) = range.split_once('/').unwrap_or((range, "1"));
        let (first, last) = bounds.split_once('-').unwrap_or((bounds, bounds));
        let number = |digits: &str| {
            let few = digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse::<usize>()
                .ok()
                .filter(|_| few)
                .ok_or_else(|| fault("expected a number or a range, such as 7 or 001-120"))
        };
        let (from, to, step) = (number(first)?, number(last)?, number(step)?);
        if from > to {
            return Err(fault("this range runs backwards"));
        }
        if step == 0 {
            return Err(fault("a step is at least 1"));
        }
        let padded = |digits: &str| digits.len() > 1 && digits.starts_with('0');
        if (padded(first) || padded(last)) && first.len() != last.len() && first.len() > last.len() {
            return Err(fault("both ends of a range have as many digits, such as 001-120"));
        }
        if (to - from) / step >= MAX_NODES {
            return Err(NodeSetError::Long);
        }
        let width = if padded(first) { first.len() } else { 0 };
        all.extend((from..=to).step_by(step).map(|number| format!("{number:0width$}")));
        if all.len() > MAX_NODES {
            return Err(NodeSetError::Long);
        }
        place += range.len() + 1;
    }
    Ok(all)
}

/// What is wrong at a byte of a list.
fn wrong(text: &str, at: usize, problem: &str) -> NodeSetError {
    let column = text.get(..at).map_or(1, |before| before.chars().count() + 1);
    NodeSetError::Text { text: text.to_owned(), column, problem: problem.to_owned() }
}

/// The shortest list of these nodes: `node[001-003,7],golden`. What reads it back gets the same nodes.
#[must_use]
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    // By what stands before and behind the last number, and by its digits if zeros lead it.
    let mut numbered: BTreeMap<(&str, &str, usize), BTreeSet<u64>> = BTreeMap::new();
    let mut plain = BTreeSet::new();
    for name in names {
        match split(name) {
            Some((before, digits, behind)) => {
                let width = if digits.len() > 1 && digits.starts_with('0') { digits.len() } else { 0 };
                let number = digits.parse().unwrap_or_default();
                numbered.entry((before, behind, width)).or_default().insert(number);
            }
            None => drop(plain.insert(name.to_owned())),
        }
    }
    take_padded(&mut numbered);
    let folded = numbered.into_iter().filter(|(_, numbers)| !numbers.is_empty()).map(
        |((before, behind, width), numbers)| {
            let ranges = ranges(&numbers, width);
            let many = numbers.len() > 1;
            if many { format!("{before}[{ranges}]{behind}") } else { format!("{before}{ranges}{behind}") }
        },
    );
    folded.chain(plain).collect::<Vec<_>>().join(",")
}

/// `node100` belongs to `node[098-099]`, since it has as many digits.
fn take_padded(numbered: &mut BTreeMap<(&str, &str, usize), BTreeSet<u64>>) {
    let padded: Vec<_> = numbered.keys().filter(|(_, _, width)| *width > 0).copied().collect();
    for (before, behind, width) in padded {
        let Some(plain) = numbered.get_mut(&(before, behind, 0)) else { continue };
        let (taken, left): (BTreeSet<u64>, BTreeSet<u64>) =
            std::mem::take(plain).into_iter().partition(|number| number.to_string().len() == width);
        *plain = left;
        numbered.entry((before, behind, width)).or_default().extend(taken);
    }
}

/// A name's last number, if it has one that a range can hold.
fn split(name: &str) -> Option<(&str, &str, &str)> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
    let digits = &name[start..end];
    // An address has numbers that are no node's.
    let plain = !name.contains([':', '[', ']']) && digits.len() <= 9;
    plain.then(|| (&name[..start], digits, &name[end..]))
}

fn ranges(numbers: &BTreeSet<u64>, width: usize) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            // A padded range holds as many digits at both ends.
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let part = |(first, last): (u64, u64)| {
        if first == last { format!("{first:0width$}") } else { format!("{first:0width$}-{last:0width$}") }
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        [("rack1", "n[1-2]"), ("all", "@rack1, x"), ("a", "@b"), ("b", "@a")]
            .map(|(name, list)| (name.to_owned(), list.to_owned()))
            .into()
    }

    #[test]
    fn lists_name_nodes_in_their_order() {
        for (text, expected) in [
            ("node1", "node1"),
            ("node[1-3]", "node1 node2 node3"),
            ("node[001-003]", "node001 node002 node003"),
            ("node[08-11]", "node08 node09 node10 node11"),
            ("node[098-101]", "node098 node099 node100 node101"),
            ("n[3,1]", "n3 n1"),
            ("n[1-9/4]", "n1 n5 n9"),
            ("r[1-2]n[1-2]-ib", "r1n1-ib r1n2-ib r2n1-ib r2n2-ib"),
            ("a, b\tc,,a", "a b c"),
            ("52:54:00:77:01:01", "52:54:00:77:01:01"),
            ("10.0.0.[9-11]", "10.0.0.9 10.0.0.10 10.0.0.11"),
            ("@rack1", "n1 n2"),
            ("@all,n2,n3", "n1 n2 x n3"),
            ("knöten[1-2]", "knöten1 knöten2"),
        ] {
            assert_eq!(
                expand(text, &groups()).map(|nodes| nodes.join(" ")),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        assert_eq!(expand("n[00001-65536]", &groups()).unwrap().len(), MAX_NODES);
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, column, problem) in [
            ("", 1, "empty"),
            (" , ", 1, "empty"),
            ("node[1-3", 5, "not closed"),
            ("node1-3]", 8, "no '['"),
            ("ä[1-[2]]", 5, "brackets in brackets"),
            ("ä[3-1]", 3, "backwards"),
            ("n[1,x]", 5, "expected numbers"),
            ("n[]", 3, "expected a number"),
            ("n[1,]", 5, "expected a number"),
            ("n[1-2-3]", 3, "expected a number"),
            ("n[1-9/0]", 3, "a step"),
            ("n[001-20]", 3, "as many digits"),
            ("n[1-9999999999]", 3, "expected a number"),
            ("a\u{1b}b", 2, "expected numbers"),
        ] {
            let error = expand(text, &groups()).unwrap_err();
            let NodeSetError::Text { column: at, problem: what, .. } = &error else {
                panic!("{text}: {error}")
            };
            assert!(*at == column && what.contains(problem), "{text}: {error}");
        }
        for (text, part) in [
            ("@rack9", "has a, all, b, rack1"),
            ("@a", "the group 'a' is in itself"),
            ("n[0-999999999]", "more than"),
            ("a[1-999]b[1-999]", "more than"),
        ] {
            let error = expand(text, &groups()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_folded_list_names_the_same_nodes() {
        for (names, folded) in [
            ("node001 node002 node003 node007", "node[001-003,007]"),
            ("node9 node10 node11", "node[9-11]"),
            ("node09 node10 node11 node100", "node100,node[09-11]"),
            ("node098 node099 node100 node101 node1000", "node1000,node[098-101]"),
            ("n1-ib n2-ib golden", "n[1-2]-ib,golden"),
            ("52:54:00:77:01:01 52:54:00:77:01:02", "52:54:00:77:01:01,52:54:00:77:01:02"),
            ("7", "7"),
            ("n0 n1", "n[0-1]"),
            ("ä1 ä2", "ä[1-2]"),
        ] {
            let names: Vec<&str> = names.split(' ').collect();
            assert_eq!(fold(names.iter().copied()), folded);
            let again = expand(folded, &Groups::new()).unwrap();
            assert_eq!(BTreeSet::from_iter(again.iter().map(String::as_str)), names.into_iter().collect());
        }
    }
}
