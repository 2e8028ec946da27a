//! The project's own sources, for tests that judge how they are written.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the crates that are built for people.
pub const CRATES: [&str; 5] = ["ka", "host", "net", "agent", "controller"];

/// All source files of these crates.
#[must_use]
pub fn of_crates() -> Vec<PathBuf> {
    CRATES.iter().flat_map(|name| below(&crate::root().join(name).join("src"))).collect()
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The names of the modules that a file declares for its tests.
pub fn test_modules(text: &str) -> impl Iterator<Item = String> {
    let after = text.split("#[cfg(test)]").skip(1);
    after.filter_map(|rest| {
        let line = rest.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#["))?;
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    })
}

/// Without comments, and without the modules for tests, which stand at a file's end.
#[must_use]
pub fn without_tests(text: &str) -> String {
    let begins_tests = |at: &usize| {
        let mut lines = text[*at..].lines().skip(1).skip_while(|line| line.starts_with("#["));
        lines.next().is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let tests = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(begins_tests);
    let text = &text[..tests.unwrap_or(text.len())];
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}
