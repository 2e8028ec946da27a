//! ka uses threads and mio on both sides: no async runtime may be added, not even by an indirect dependency.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

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

/// `Cargo.lock` lists every crate of every dependency tree of this workspace, for all targets and features.
fn locked_crates() -> Vec<String> {
    let lock = fs::read_to_string(ka_tests::root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    names.map(str::to_owned).collect()
}

/// ring seals the blocks, and the control connections must not use a second implementation.
#[test]
fn there_is_one_implementation_of_the_ciphers() {
    const OTHERS: [&str; 12] = [
        "aead",
        "aes",
        "aes-gcm",
        "aws-lc-rs",
        "chacha20poly1305",
        "ctr",
        "ghash",
        "mbedtls",
        "openssl",
        "poly1305",
        "polyval",
        "xchacha20poly1305",
    ];
    let crates = locked_crates();
    assert_eq!(crates.iter().filter(|c| *c == "ring").count(), 1);
    let found: Vec<_> = crates.iter().filter(|c| OTHERS.contains(&c.as_str())).collect();
    assert!(
        found.is_empty(),
        "a second cipher in Cargo.lock: {found:?} (cargo tree -i NAME tells who brings it)"
    );
}

/// `make advisories` with a simulated cargo-deny: it is always clear whether known vulnerabilities were
/// checked.
#[test]
fn known_faults_are_looked_for_or_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let deny = folder.path().join("deny");
    for (fetch, check, passes, said) in
        [(0, 0, true, ""), (0, 1, false, ""), (1, 0, true, "KNOWN FAULTS OF DEPENDENCIES WERE NOT CHECKED")]
    {
        let script = format!("#!/bin/sh\necho ran: $*\n[ \"$1\" = fetch ] && exit {fetch}\nexit {check}\n");
        fs::write(&deny, script).expect("a script");
        fs::set_permissions(&deny, fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut make = Command::new("make");
        make.arg("advisories").arg(format!("DENY={}", deny.display())).current_dir(ka_tests::root());
        let output = make.env_remove("MAKEFLAGS").output().expect("make");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), passes, "{text}");
        assert!(text.contains(said) && text.contains("ran: fetch db"), "{text}");
        assert_eq!(
            text.contains("advisories\nran") && text.matches("ran:").count() == 2,
            fetch == 0,
            "{text}"
        );
    }
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
