//! Type #1 entries of the Boot Loader Specification: files of `KEY VALUE` lines.
//!
//! See <https://uapi-group.org/specifications/specs/boot_loader_specification/> and loader.conf(5).

use std::cmp::Ordering;

use super::{MenuEntry, is_dispensable};
use crate::glob::fits_exactly;

/// The directories below a system's root that may contain `loader`.
pub const TOPS: [&str; 3] = ["boot", "boot/efi", "efi"];

/// The values of `key` in `text`, in order. Entries and `loader.conf` share this format.
pub fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let (found, value) = line.trim().split_once(char::is_whitespace)?;
        (found == key).then(|| value.trim())
    })
}

/// The kernel command line of an entry, with the variables that only GRUB knows.
#[must_use]
pub fn options(entry: &str) -> String {
    values(entry, "options").collect::<Vec<_>>().join(" ")
}

/// What an entry boots; `None` if it is not a kernel, or only GRUB can determine it.
#[must_use]
pub fn parse(entry: &str) -> Option<MenuEntry> {
    let kernel = values(entry, "linux").last()?.to_owned();
    // Of several files the last is the distribution's own.
    let initrd = values(entry, "initrd")
        .flat_map(str::split_whitespace)
        .filter(|file| !is_dispensable(file))
        .last()
        .map(str::to_owned);
    let words: Vec<&str> = values(entry, "options").flat_map(str::split_whitespace).collect();
    let known: Vec<&str> = words.into_iter().filter(|word| !is_dispensable(word)).collect();
    let command_line = known.join(" ");
    (!kernel.is_empty() && !command_line.contains('$')).then_some(MenuEntry { kernel, initrd, command_line })
}

/// The default among entries with these file names: the newest that matches one of `patterns`, with or
/// without `.conf`; if none matches, the newest of all.
#[must_use]
pub fn default_of(names: &[&str], patterns: &[String]) -> Option<usize> {
    let newest = |fits: &dyn Fn(&str) -> bool| {
        let fitting = names.iter().enumerate().filter(|(_, name)| fits(name));
        fitting.max_by(|(_, a), (_, b)| by_version(stem(a), stem(b))).map(|(index, _)| index)
    };
    newest(&|name| is_named(name, patterns)).or_else(|| newest(&|_| true))
}

/// Whether one of `patterns` matches an entry's file name.
#[must_use]
pub fn is_named(name: &str, patterns: &[String]) -> bool {
    [name, stem(name)].iter().any(|name| patterns.iter().any(|pattern| fits_exactly(pattern, name)))
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".conf").unwrap_or(name)
}

/// Numbers in names are compared as numbers: 6.10 is newer than 6.9.
fn by_version(a: &str, b: &str) -> Ordering {
    let pieces = |name: &str| -> Vec<(u64, String)> {
        let pieces = name.split(|c: char| !c.is_ascii_alphanumeric());
        pieces
            .map(|piece| piece.parse().map_or((0, piece.to_owned()), |number| (number, String::new())))
            .collect()
    };
    pieces(a).cmp(&pieces(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_newest_of_those_that_are_named() {
        let names = ["a-6.9.conf", "a-6.10.conf", "b-5.conf"];
        for (patterns, expected) in [
            (&[][..], 2),
            (&["a-*"], 1),
            (&["a-6.9"], 0),
            (&["a-6.9.conf"], 0),
            (&["a-6.9", "a-6.10"], 1),
            (&["c"], 2),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|p: &&str| (*p).to_owned()).collect();
            assert_eq!(default_of(&names, &patterns), Some(expected), "{patterns:?}");
        }
        assert_eq!(default_of(&[], &[]), None);
    }

    #[test]
    fn what_only_grub_knows_starts_nothing_here() {
        let entry = |options: &str| {
            format!("title x\nlinux\t/k\ninitrd /early /i $tuned_initrd\noptions {options}\n")
        };
        let expected =
            MenuEntry { kernel: "/k".into(), initrd: Some("/i".into()), command_line: "root=a ro".into() };
        assert_eq!(parse(&entry("root=a $tuned_params ro")), Some(expected));
        assert_eq!(parse(&entry("$kernelopts")), None);
        assert_eq!(parse("title memory test\nefi /memtest.efi\n"), None);
    }
}
