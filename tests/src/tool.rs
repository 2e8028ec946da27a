//! Other tools, which judge what ka wrote. A missing one fails the test.

use crate::succeed;
use std::process::Command;

/// Runs a tool that must succeed.
pub fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>) {
    tool(program, arguments);
}

/// The output of a tool that must succeed.
pub fn tool<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a (impl AsRef<str> + ?Sized + 'a)>,
) -> String {
    let arguments = arguments.into_iter().map(AsRef::as_ref);
    succeed(Command::new(program).args(arguments).env("LC_ALL", "C"))
}
