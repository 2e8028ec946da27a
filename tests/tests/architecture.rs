//! The structure that `docs/developing.md` draws: which crate may use which, and no cycle between the modules of a crate.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ka_tests::sources::{self, CRATES};

/// What each crate may use of ka's own crates. Tests may use all of them.
const MAY_USE: [(&str, &[&str]); 5] = [
    ("ka", &[]),
    ("ka-host", &["ka"]),
    ("ka-net", &["ka"]),
    ("ka-agent", &["ka", "ka-host", "ka-net"]),
    ("kactl", &["ka", "ka-host", "ka-net"]),
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn crates_use_what_is_below_them_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages: BTreeMap<&str, BTreeSet<&str>> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let names = package["dependencies"].as_array().unwrap().iter();
            (package["name"].as_str().unwrap(), names.map(|d| d["name"].as_str().unwrap()).collect())
        })
        .collect();
    let own: BTreeSet<&str> = packages.keys().copied().collect();
    assert_eq!(own, MAY_USE.iter().map(|(name, _)| *name).chain(["ka-tests"]).collect());
    for (name, allowed) in MAY_USE {
        let used: Vec<&str> = packages[name].intersection(&own).copied().collect();
        assert!(
            used.iter().all(|used| allowed.contains(used)),
            "{name} uses {used:?}; it may use {allowed:?}"
        );
    }
}

#[test]
fn no_crate_has_a_cycle_between_its_modules() {
    let cycles: Vec<String> =
        CRATES.iter().flat_map(|name| Crate::read(&top().join(name).join("src")).cycles()).collect();
    assert!(cycles.is_empty(), "modules that use each other:\n{}", cycles.join("\n"));
}

/// Another processor is another row of that table, and no search through the crates.
#[test]
fn what_depends_on_the_processor_is_in_one_table() {
    const NAMES: [&str; 5] = ["x86_64", "x64.efi", "amd64", "i386", "aa64.efi"];
    let mut found = Vec::new();
    for name in CRATES {
        for (module, text) in Crate::read(&top().join(name).join("src")).sources {
            let text = text.to_ascii_lowercase();
            let named = NAMES.iter().filter(|processor| text.contains(**processor));
            found.extend(named.map(|processor| format!("{name} {}: {processor}", module.join("::"))));
        }
    }
    found.retain(|place| !place.starts_with("ka arch:"));
    assert_eq!(found, Vec::<String>::new());
}

/// A workflow, and all below it, takes what a person wants as a request of its own: the command line can change, and
/// another front end can come, without either noticing.
#[test]
fn only_commands_know_the_command_line() {
    let sources = CRATES.map(|name| (name, Crate::read(&top().join(name).join("src"))));
    let mut found: Vec<String> = Vec::new();
    for (name, read) in &sources {
        for (module, text) in &read.sources {
            let front = matches!(module.first().map(String::as_str), None | Some("cli" | "commands"));
            if !front && text.contains("clap") {
                found.push(format!("{name} {}", module.join("::")));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "modules that use clap");
}

/// Registration, interruptions and the errors of `accept(2)` are borne in one place.
#[test]
fn there_is_one_event_loop() {
    let mut found = Vec::new();
    for name in CRATES {
        for (module, text) in Crate::read(&top().join(name).join("src")).sources {
            let waits = ["Poll::new", "epoll", "mio::Poll"].iter().any(|word| text.contains(word));
            found.extend(waits.then(|| format!("{name} {}", module.join("::"))));
        }
    }
    assert_eq!(found, ["net event_loop"], "modules that wait for sockets with an event queue of their own");
}

/// A cycle must be seen, or the test above shows nothing.
#[test]
fn a_cycle_is_seen_wherever_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a;\nmod b;\n");
    write("a/mod.rs", "pub mod one;\npub mod two;\nuse crate::{b::B, a::one};\n");
    write("a/one.rs", "use super::two::Two;\n");
    write("a/two.rs", "// use super::one::One;\n#[cfg(test)]\nmod tests {\n    use super::super::one;\n}\n");
    write("b.rs", "pub struct B;\n");
    assert_eq!(Crate::read(directory.path()).cycles(), Vec::<String>::new());
    write("b.rs", "fn f() { crate::a::one::g() }\n");
    assert_eq!(Crate::read(directory.path()).cycles().len(), 1);
    write("a/two.rs", "fn f() { super::one::g() }\n");
    assert_eq!(Crate::read(directory.path()).cycles().len(), 2);
}

/// A module's path within its crate.
type Module = Vec<String>;

/// The modules of a crate, each with its source without comments and tests.
struct Crate {
    sources: BTreeMap<Module, String>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let (mut sources, mut tests) = (BTreeMap::new(), BTreeSet::new());
        let mut folders = vec![(src.to_owned(), Module::new())];
        while let Some((folder, above)) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let module = match name.as_str() {
                    "lib" | "main" | "mod" => above.clone(),
                    _ => [above.clone(), vec![name]].concat(),
                };
                if path.is_dir() {
                    folders.push((path, module));
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    tests.extend(
                        sources::test_modules(&text).map(|name| [module.clone(), vec![name]].concat()),
                    );
                    // A folder without `mod.rs` has its module beside it.
                    sources
                        .entry(module)
                        .or_insert_with(String::new)
                        .push_str(&sources::without_tests(&text));
                }
            }
        }
        sources.retain(|module, _| !tests.iter().any(|test: &Module| module.starts_with(test)));
        Self { sources }
    }

    /// Between the modules that lie side by side, which of them use each other in a circle.
    fn cycles(&self) -> Vec<String> {
        let mut uses: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, text) in &self.sources {
            for path in paths(text) {
                let Some(used) = self.resolve(module, &path) else { continue };
                let common = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(common), used.get(common)) {
                    let siblings = uses.entry(module[..common].to_vec()).or_default();
                    siblings.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        uses.iter().flat_map(|(above, siblings)| circles(&above.join("::"), siblings)).collect()
    }

    /// The module that a path leads to, if it is one of this crate's.
    fn resolve(&self, from: &[String], path: &[String]) -> Option<Module> {
        let mut place: Module = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" | "super" => from.to_vec(),
            _ => return None,
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(place.pop()),
                part => place.push(part.to_owned()),
            }
        }
        while !self.sources.contains_key(&place) {
            place.pop()?;
        }
        Some(place)
    }
}

fn circles(above: &str, uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(name) = next.pop() {
            for used in uses.get(&name).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    next.push(used.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = uses.keys().map(|name| (name, reached(name))).collect();
    let mut circles: BTreeSet<Vec<&String>> = BTreeSet::new();
    for (name, reached) in &all {
        let circle: Vec<&String> =
            reached.iter().filter(|other| all.get(other).is_some_and(|back| back.contains(*name))).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
        .into_iter()
        .map(|circle| {
            let of = |name: &&String| {
                let used: Vec<_> = uses[*name].iter().filter(|used| circle.contains(used)).collect();
                format!("  {above}::{name} uses {used:?}")
            };
            circle.iter().map(of).collect::<Vec<_>>().join("\n")
        })
        .collect()
}

/// All paths in a source that begin at `crate`, `self` or `super`, `use` trees spelled out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("use ") {
        let statement = rest[start + 4..].split(';').next().unwrap_or_default();
        let begins = start == 0 || !rest[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if begins && ["crate", "self", "super"].iter().any(|word| statement.starts_with(word)) {
            spell_out(&[], statement, &mut found);
        }
        rest = &rest[start + 4..];
    }
    for word in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(word) {
            if !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                let end = text[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                let path = &text[at..end.map_or(text.len(), |end| at + end)];
                found.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
            }
        }
    }
    found
}

fn spell_out(before: &[String], tree: &str, found: &mut Vec<Vec<String>>) {
    let (head, branches) = tree.split_once('{').map_or((tree, None), |(head, rest)| (head, Some(rest)));
    let head = head.split(" as ").next().unwrap_or_default();
    let parts = head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let path: Vec<String> = before.iter().cloned().chain(parts).collect();
    let Some(branches) = branches else {
        found.push(path);
        return;
    };
    let (mut depth, mut branch) = (0, String::new());
    for c in branches.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spell_out(&path, &std::mem::take(&mut branch), found);
                continue;
            }
            _ => {}
        }
        branch.push(c);
    }
    if !branch.trim().is_empty() {
        spell_out(&path, &branch, found);
    }
}
