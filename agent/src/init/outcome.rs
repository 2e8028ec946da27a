//! The exit codes by which the worker reports to PID 1.

use std::process::ExitCode;

use ka::plan::After;

/// What should happen to the machine. Every other exit of the worker is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Reboot.
    Reboot,
    /// Boot the loaded kernel (kexec).
    Kexec,
    /// Power off.
    PowerOff,
    /// Wait for a person who wants a shell.
    Shell,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Reboot, Self::PowerOff, Self::Shell, Self::Kexec];

    /// Its exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Reboot => 0,
            Self::PowerOff => 10,
            Self::Shell => 11,
            Self::Kexec => 12,
        }
    }

    pub(super) fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| i32::from(outcome.code()) == code)
    }
}

impl From<After> for Outcome {
    fn from(after: After) -> Self {
        match after {
            After::Reboot => Self::Reboot,
            After::Poweroff => Self::PowerOff,
            After::Shell => Self::Shell,
            After::Kexec => Self::Kexec,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        outcome.code().into()
    }
}
