//! ka is threads and mio on both sides: no async runtime may come in, not even by a dependency's dependency.

use std::fs;

const RUNTIMES: [&str; 8] = [
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "async-global-executor",
    "futures-executor",
    "monoio",
    "glommio",
];

/// `Cargo.lock` holds every crate of every tree of this workspace, for all targets and features.
fn locked_crates() -> Vec<String> {
    let lock = fs::read_to_string(ka_tests::root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names.map(str::to_owned).collect()
}

#[test]
fn no_dependency_tree_has_an_async_runtime() {
    let crates = locked_crates();
    for member in ["ka", "ka-agent", "kactl", "mio"] {
        assert!(crates.iter().any(|c| c == member), "{member} is not in Cargo.lock: it was read wrongly");
    }
    let found: Vec<_> = crates.iter().filter(|c| RUNTIMES.contains(&c.as_str())).collect();
    assert!(
        found.is_empty(),
        "async runtimes in Cargo.lock: {found:?} (cargo tree -i NAME tells who brings them)"
    );
}
