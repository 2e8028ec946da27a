//! Other people's tools, which judge what ka wrote. A missing one fails the test.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::process::Command;

/// Runs a tool that must succeed.
pub fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) {
    tool(program, arguments);
}

/// What a tool prints, which must succeed.
pub fn tool<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
) -> String {
    let arguments: Vec<&str> = arguments.into_iter().map(AsRef::as_ref).collect();
    let output = Command::new(program)
        .args(&arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
