//! Everything that stops a command before it begins, collected, so that an operator corrects it at once and
//! not one by one.

use std::fmt::Display;
use std::io;

use crate::exit;

/// The faults found so far, in the order in which they are best corrected.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<String>,
    /// Without root's rights, what only root may read is not missing.
    unprivileged: bool,
}

impl Faults {
    /// Ignores from now on what another user than root may not see.
    pub(super) fn lack_root(&mut self, command: &str) {
        self.unprivileged = true;
        self.add(format_args!("{command} needs root: sudo {command} ..."));
    }

    pub(super) fn is_unprivileged(&self) -> bool {
        self.unprivileged
    }

    pub(super) fn add(&mut self, fault: impl Display) {
        let fault = fault.to_string();
        if !self.found.contains(&fault) {
            self.found.push(fault);
        }
    }

    /// The value, or `None` after its error was noted.
    pub(super) fn take<T>(&mut self, outcome: anyhow::Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                if !(self.unprivileged && is_denied(&error)) {
                    self.add(exit::words(&error));
                }
                None
            }
        }
    }

    /// Ends with all faults, if there are any.
    ///
    /// # Errors
    /// One error with a line per fault.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.found.as_slice() {
            [] => Ok(()),
            [one] => anyhow::bail!("{one}"),
            all => anyhow::bail!("{} things must be corrected first:\n{}", all.len(), all.join("\n")),
        }
    }
}

fn is_denied(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn every_fault_is_a_line_and_what_only_root_sees_is_none() {
        let mut faults = Faults::default();
        assert_eq!(faults.take(Ok(1)), Some(1));
        faults.take::<()>(Err(anyhow!("there is no key")));
        faults.take::<()>(Err(anyhow!("there is no key")));
        assert_eq!(faults.end().unwrap_err().to_string(), "there is no key");
        let mut faults = Faults::default();
        faults.lack_root("kactl run");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        faults.take::<()>(Err(denied).context("cannot read the key"));
        faults.take::<()>(Err(anyhow!("desc:1: no size")));
        assert_eq!(
            faults.end().unwrap_err().to_string(),
            "2 things must be corrected first:\nkactl run needs root: sudo kactl run ...\ndesc:1: no size"
        );
        assert!(Faults::default().end().is_ok());
    }
}
