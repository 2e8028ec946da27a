//! What kactl's exit status says, and how an error becomes one.

use std::process::ExitCode;

use ka_host::terminal;

/// kactl's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: every node is complete.
    Ok,
    /// 1: some node failed, each named with its reason; or nobody was told what has become of them.
    NodesFailed,
    /// 2: usage, configuration, or something on this machine that a person must put right first.
    Usage,
    /// 3: what was to be sent could not be read to its end.
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

/// An error that ends kactl, and the exit status that it ends with.
#[derive(Debug)]
pub struct FatalError {
    /// The status.
    pub exit: Exit,
    /// The error with its causes.
    pub error: anyhow::Error,
}

impl FatalError {
    /// An error because of which the stream's source counts as failed (status 3).
    pub fn source(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::SourceFailed, error: error.into() }
    }
}

/// What has not been said to be of another class is for a person to put right: status 2.
impl<E: Into<anyhow::Error>> From<E> for FatalError {
    fn from(error: E) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }
}

/// What a subcommand returns.
pub type CommandResult = Result<Exit, FatalError>;

/// Ends the program: prints an error with the whole chain of its causes to standard error.
#[must_use]
pub fn finish(outcome: CommandResult) -> ExitCode {
    let exit = outcome.unwrap_or_else(|failure| {
        terminal::complain("kactl", format_args!("{:#}", failure.error));
        failure.exit
    });
    exit.into()
}
