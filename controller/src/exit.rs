//! The exit statuses of kactl, and how errors map to them.

use std::process::ExitCode;

use ka_host::terminal;

/// kactl's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: every node is complete.
    Ok,
    /// 1: some nodes failed, each reported with its reason; or the outcome could not be reported.
    NodesFailed,
    /// 2: a usage or configuration error, or a problem on this machine that must be corrected first.
    Usage,
    /// 3: the source could not be read to its end.
    SourceFailed,
    /// The worst exit status of a command on nodes; 255 for a node on which it did not run to its end.
    Of(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::NodesFailed => 1,
            Self::Usage => 2,
            Self::SourceFailed => 3,
            Self::Of(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that ends kactl, with its exit status.
#[derive(Debug)]
pub struct FatalError {
    /// The status.
    pub exit: Exit,
    /// The error with its causes.
    pub error: anyhow::Error,
}

impl FatalError {
    /// An error that counts as a failure of the stream's source (status 3).
    pub fn source(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::SourceFailed, error: error.into() }
    }
}

/// An error without an explicit class is for the operator to correct: status 2.
impl<E: Into<anyhow::Error>> From<E> for FatalError {
    fn from(error: E) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }
}

/// The result of a subcommand.
pub type CommandResult = Result<Exit, FatalError>;

/// Ends the program: prints an error with all its causes to standard error.
#[must_use]
pub fn finish(outcome: CommandResult) -> ExitCode {
    let exit = outcome.unwrap_or_else(|failure| {
        terminal::complain("kactl", words(&failure.error));
        failure.exit
    });
    exit.into()
}

/// An error with all its causes, each told once: some errors repeat their cause in their own text.
#[must_use]
pub fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_is_told_once() {
        let io = std::io::Error::other("no room");
        let error =
            Err::<(), _>(io).context("cannot listen: no room").context("nodes cannot come").unwrap_err();
        assert_eq!(words(&error), "nodes cannot come: cannot listen: no room");
    }
}
