//! The exit codes by which the worker reports to PID 1.

use std::process::ExitCode;

use ka::plan::FinalAction;

/// What should happen to the machine. Every other exit of the worker is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitAction {
    /// Reboot.
    Reboot,
    /// Boot the loaded kernel (kexec).
    Kexec,
    /// Power off.
    PowerOff,
    /// Wait for a person who wants a shell.
    Shell,
}

impl ExitAction {
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

impl From<FinalAction> for ExitAction {
    fn from(after: FinalAction) -> Self {
        match after {
            FinalAction::Reboot => Self::Reboot,
            FinalAction::Poweroff => Self::PowerOff,
            FinalAction::Shell => Self::Shell,
            FinalAction::Kexec => Self::Kexec,
        }
    }
}

impl From<ExitAction> for ExitCode {
    fn from(outcome: ExitAction) -> Self {
        outcome.code().into()
    }
}
