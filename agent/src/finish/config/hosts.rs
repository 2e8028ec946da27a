//! hosts(5): the machine's own lines.
//!
//! A name that resolves to 127.0.1.1 is useless to others: MPI, Slurm and Ceph look themselves up and send
//! the result to their peers. So a node with its own address has its name there, and not on any loopback
//! address.

use std::net::IpAddr;

/// Debian's address for a hostname without an address.
const OWN_LOOP: &str = "127.0.1.1";

/// The machine's old and new identity.
pub(in crate::finish) struct Names<'a> {
    pub(in crate::finish) old: &'a str,
    pub(in crate::finish) new: &'a str,
    /// The golden node's domain, without a leading dot.
    pub(in crate::finish) domain: Option<&'a str>,
    /// The node's own address, if it is stored on the node.
    pub(in crate::finish) address: Option<IpAddr>,
}

/// The name without the domain.
pub(in crate::finish) fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Whether a machine has no name of its own. All its clones then keep what it has.
pub(in crate::finish) fn is_nameless(name: &str) -> bool {
    short(name).is_empty() || short(name).eq_ignore_ascii_case("localhost")
}

/// The domain of the machine `old`, from its name or from the table.
pub(in crate::finish) fn domain(table: &str, old: &str) -> Option<String> {
    if is_nameless(old) {
        return None;
    }
    if let Some((_, domain)) = old.split_once('.') {
        return Some(domain.to_owned()).filter(|domain| !domain.is_empty());
    }
    let words = lines(table).flat_map(|line| line.split_whitespace().skip(1));
    let mut domains = words.filter_map(|word| word.strip_prefix(old)?.strip_prefix('.'));
    domains.find(|domain| !domain.is_empty()).map(str::to_owned)
}

/// The table with the new name at the machine's own addresses. Lines of other addresses stay: in a cluster's
/// table, the golden node is one of many.
pub(in crate::finish) fn rewrite(table: &str, names: &Names<'_>) -> String {
    match names.address {
        Some(address) => with_address(table, names, address),
        None => on_the_loop(table, names),
    }
}

/// `FQDN NAME`, or the name alone if the domain is unknown.
fn called(names: &Names<'_>) -> String {
    let name = short(names.new);
    match names.domain {
        _ if names.new.contains('.') => format!("{} {name}", names.new),
        Some(domain) => format!("{name}.{domain} {name}"),
        None => name.to_owned(),
    }
}

/// Comments have no address.
fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().map(|line| line.split('#').next().unwrap_or_default())
}

fn address_of(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn is_loop(address: &str) -> bool {
    address.starts_with("127.") || address == "::1"
}

fn is_name_of(word: &str, name: &str) -> bool {
    let rest = word.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name));
    !name.is_empty()
        && rest.is_some()
        && word.get(name.len()..).is_some_and(|r| r.is_empty() || r.starts_with('.'))
}

/// Puts the name at the node's own address, and removes it from loopback addresses.
fn with_address(table: &str, names: &Names<'_>, address: IpAddr) -> String {
    let (old, new) = (short(names.old), short(names.new));
    let is_at_it = |line: &str| address_of(line).parse() == Ok(address);
    let named = lines(table)
        .any(|line| is_at_it(line) && line.split_whitespace().skip(1).any(|word| is_name_of(word, new)));
    let mut own = (!named).then(|| format!("{address}\t{}\n", called(names)));
    let mut rewritten = String::with_capacity(table.len());
    for line in table.split_inclusive('\n') {
        let content = line.split('#').next().unwrap_or_default();
        let is_own = |word: &str| is_name_of(word, new) || !is_nameless(names.old) && is_name_of(word, old);
        let words: Vec<&str> = content.split_whitespace().collect();
        let has_it = words.iter().skip(1).any(|word| is_own(word));
        if !is_loop(address_of(content)) || !has_it {
            rewritten.push_str(line);
            continue;
        }
        let rest: Vec<&str> = words.iter().skip(1).filter(|word| !is_own(word)).copied().collect();
        if !rest.is_empty() {
            rewritten.push_str(&format!("{}\t{}\n", address_of(content), rest.join(" ")));
        }
        if words.first() == Some(&OWN_LOOP) {
            rewritten.push_str(&own.take().unwrap_or_default());
        }
    }
    if let Some(own) = own {
        append(&mut rewritten, &own);
    }
    rewritten
}

fn append(table: &mut String, line: &str) {
    if !table.is_empty() && !table.ends_with('\n') {
        table.push('\n');
    }
    table.push_str(line);
}

/// Replaces the golden name. If it had no line of its own, it was resolved elsewhere, and still is.
fn on_the_loop(table: &str, names: &Names<'_>) -> String {
    let (old, new) = (short(names.old), short(names.new));
    let mut rewritten = String::with_capacity(table.len());
    for line in table.split_inclusive('\n') {
        if is_nameless(names.old) || !is_loop(address_of(line)) {
            rewritten.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find(|c: char| !c.is_whitespace()) {
            let (blank, tail) = rest.split_at(at);
            let (word, tail) = tail.split_at(tail.find(char::is_whitespace).unwrap_or(tail.len()));
            rewritten.push_str(blank);
            match word.get(old.len()..) {
                Some("") if is_name_of(word, old) => rewritten.push_str(new),
                Some(_) if is_name_of(word, old) && names.new.contains('.') => rewritten.push_str(names.new),
                Some(domain) if is_name_of(word, old) => rewritten.push_str(&format!("{new}{domain}")),
                _ => rewritten.push_str(word),
            }
            rest = tail;
        }
        rewritten.push_str(rest);
    }
    let has_own_loop = lines(table).any(|line| address_of(line) == OWN_LOOP);
    let is_named = lines(&rewritten).any(|line| line.split_whitespace().skip(1).any(|word| word == new));
    if has_own_loop && !is_named {
        append(&mut rewritten, &format!("{OWN_LOOP}\t{}\n", called(names)));
    }
    rewritten
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(table: &str, old: &str, new: &str, address: Option<&str>) -> String {
        let domain = domain(table, old);
        let address = address.map(|address| address.parse().unwrap());
        rewrite(table, &Names { old, new, domain: domain.as_deref(), address })
    }

    #[test]
    fn a_node_with_an_address_has_its_name_there_and_not_on_the_loop() {
        for (table, new, expected) in [
            (
                "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.org\tgolden\n::1 ip6-localhost\n",
                "node7",
                "127.0.0.1\tlocalhost\n10.0.0.7\tnode7.example.org node7\n::1 ip6-localhost\n",
            ),
            ("127.0.0.1 localhost\n", "node7.b.c", "127.0.0.1 localhost\n10.0.0.7\tnode7.b.c node7\n"),
            ("127.0.0.1 localhost", "node7", "127.0.0.1 localhost\n10.0.0.7\tnode7\n"),
            // The form written by Red Hat's installer.
            (
                "127.0.0.1 localhost golden.x golden\n::1 golden localhost6\n",
                "node7",
                "127.0.0.1\tlocalhost\n::1\tlocalhost6\n10.0.0.7\tnode7.x node7\n",
            ),
            // The golden node's own line has its domain, and belongs to a cluster's table.
            (
                "127.0.0.1 localhost\n10.0.0.1 golden.example.org golden\n",
                "node7",
                "127.0.0.1 localhost\n10.0.0.1 golden.example.org golden\n10.0.0.7\tnode7.example.org node7\n",
            ),
            (
                "10.0.0.1 golden\n10.0.0.7 n7 node7 # rack 2\n127.0.1.1 golden\n",
                "node7",
                "10.0.0.1 golden\n10.0.0.7 n7 node7 # rack 2\n",
            ),
            ("127.0.1.1 goldenrod\n", "node7", "127.0.1.1 goldenrod\n10.0.0.7\tnode7\n"),
            ("", "node7", "10.0.0.7\tnode7\n"),
        ] {
            assert_eq!(rewritten(table, "golden", new, Some("10.0.0.7")), expected, "{table}");
            assert_eq!(rewritten(expected, "golden", new, Some("10.0.0.7")), expected, "again: {table}");
        }
        assert_eq!(
            rewritten("127.0.0.1 localhost\n", "localhost.localdomain", "n", Some("fd00::7")),
            "127.0.0.1 localhost\nfd00::7\tn\n"
        );
    }

    #[test]
    fn without_an_address_the_loop_has_the_name_where_it_had_it() {
        for (table, new, expected) in [
            (
                "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.example.org\tgolden\n",
                "node7",
                "127.0.0.1\tlocalhost\n127.0.1.1\tnode7.example.org\tnode7\n",
            ),
            ("127.0.1.1 golden.a golden", "node7.b.c", "127.0.1.1 node7.b.c node7"),
            (
                "127.0.0.1 localhost golden\n::1 localhost golden\n",
                "node7",
                "127.0.0.1 localhost node7\n::1 localhost node7\n",
            ),
            // A cluster's own table.
            (
                "127.0.0.1 localhost\n10.0.0.1 golden\n10.0.0.7 node7\n",
                "node7",
                "127.0.0.1 localhost\n10.0.0.1 golden\n10.0.0.7 node7\n",
            ),
            // The table never had such a line.
            ("127.0.0.1 localhost\n", "n7.x", "127.0.0.1 localhost\n"),
            ("127.0.1.1 goldenrod\n", "node7", "127.0.1.1 goldenrod\n127.0.1.1\tnode7\n"),
        ] {
            assert_eq!(rewritten(table, "golden", new, None), expected, "{table}");
        }
        let table = "127.0.0.1 localhost.localdomain localhost\n";
        for old in ["", "localhost", "localhost.localdomain"] {
            assert_eq!(rewritten(table, old, "n", None), table, "{old}");
        }
    }
}
