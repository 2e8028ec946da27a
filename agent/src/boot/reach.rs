//! From cards to a controller: tries the machine's networks until one leads there.

use std::time::Duration;

use super::network::{Network, NetworkError, Networks, SILENT_PORT};
use crate::step::{goes_on, step};
use ka::cmdline::CommandLine;
use ka::step::Step;

/// No network, or no controller in any of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// There is no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There are networks, but no controller.
    #[error("{}", reasons.join("; "))]
    NoController {
        /// The reason for each network of the last attempt.
        reasons: Vec<String>,
    },
}

/// Brings up networks in turn, until `connect` succeeds in one. All are tried again while a switch port may
/// block traffic. `look_again` is called while no interface matches.
///
/// # Errors
/// [`ReachError`] when nothing is left to try.
pub fn reach<T>(
    line: &CommandLine,
    look_again: impl FnMut(),
    connect: impl FnMut(&Network) -> Result<T, String>,
) -> Result<(Network, T), ReachError> {
    reach_behind(SILENT_PORT, line, look_again, connect)
}

/// The same, where a switch port blocks traffic for at most `silent` after its carrier appears.
///
/// # Errors
/// [`ReachError`] when nothing is left to try.
pub fn reach_behind<T>(
    silent: Duration,
    line: &CommandLine,
    mut look_again: impl FnMut(),
    mut connect: impl FnMut(&Network) -> Result<T, String>,
) -> Result<(Network, T), ReachError> {
    let mut networks = Networks::open_behind(line, silent)?;
    let mut network = step(Step::Network, || networks.next(&mut look_again))?;
    let mut reasons = Vec::new();
    loop {
        match connect(&network) {
            Ok(reached) => return Ok((network, reached)),
            Err(reason) => reasons.push(format!("{}: {reason}", network.name())),
        }
        networks.leave(network)?;
        goes_on("in another network");
        network = match networks.next(&mut look_again) {
            Ok(other) => {
                log::warn!("no controller there: trying another network, {}", other.name());
                other
            }
            Err(NetworkError::NoOther) if networks.again() => {
                log::info!(
                    "no controller in any network yet; a switch port may pass nothing for the first 50 s: all are \
                     tried again"
                );
                reasons.clear();
                networks.next(&mut look_again)?
            }
            Err(NetworkError::NoOther) => return Err(ReachError::NoController { reasons }),
            Err(error) => return Err(error.into()),
        };
    }
}
