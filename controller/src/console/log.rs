//! Shows a node's log.

use std::io::Write;
use std::time::Duration;

use ka::wire::console::{Request, ToViewer};

use super::dial::{ConsoleError, Dialler};
use crate::machines::find::Found;

/// No polling is necessary between two messages.
const LOOK: Duration = Duration::from_secs(5);

/// Writes the log of `machine` to `out`, with terminal control sequences masked; with `follow`, until the
/// node ends.
///
/// # Errors
/// [`ConsoleError`].
pub fn show(
    dialler: &Dialler,
    machine: &Found,
    last: Option<u64>,
    follow: bool,
    out: &mut impl Write,
) -> Result<(), ConsoleError> {
    let mut viewer = dialler.open(machine, &Request::Log { last, follow })?;
    viewer.warn_if_unproven(&machine.label());
    loop {
        match viewer.next(LOOK, &[])? {
            Some(ToViewer::Bytes(bytes)) => {
                let written = out.write_all(&bytes).and_then(|()| out.flush());
                written.map_err(|e| ConsoleError::Lost(format!("the output accepts no more data: {e}")))?;
            }
            Some(ToViewer::Ended(_)) => return Ok(()),
            Some(ToViewer::Refused { reason }) => return Err(ConsoleError::Refused(reason)),
            _ => {}
        }
    }
}
