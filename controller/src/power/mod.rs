//! Switches machines on and off: Wake-on-LAN, IPMI, Redfish, or a site's own command.
//!
//! Machines are handled in parallel and independently: one that does not answer delays no other, and its
//! error names it. A BMC accepts a request before it is carried out, so the power state is polled until it is
//! as requested.

mod command;
mod ipmi;
pub mod many;
mod redfish;
pub mod target;
mod wake;

use std::time::{Duration, Instant};

use crate::config::bmc::Method;
use target::Target;

/// How long a machine may take to reach the requested state after its BMC has accepted the request.
const SETTLED: Duration = Duration::from_secs(40);
/// How often the power state is polled.
const LOOK: Duration = Duration::from_secs(1);

/// An action on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Switches the machine on; does nothing if it is on.
    On,
    /// Switches it off immediately, without a shutdown of its system.
    Off,
    /// Switches it off and on, or only on if it is off.
    Cycle,
    /// Only reads its state.
    Status,
}

impl Action {
    /// The word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::Status => "status",
        }
    }
}

/// A machine's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On.
    On,
    /// Off.
    Off,
    /// A packet has been sent; its effect is unknown.
    Woken,
}

impl State {
    /// The word for it in all output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Woken => "woken",
        }
    }
}

/// Why a machine's power could not be changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PowerError {
    /// No method is known.
    #[error("{0}")]
    Unknown(String),
    /// The BMC does not answer.
    #[error("its BMC {0} does not answer: {1}")]
    Unreachable(String, String),
    /// The user or the password is wrong.
    #[error("its BMC {0} refuses the user or the password")]
    Denied(String),
    /// The BMC is not proved to be this machine's.
    #[error("{0}")]
    Untrusted(String),
    /// The action is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// Any other error.
    #[error("{0}")]
    Failed(String),
}

/// A method for switching one machine.
trait Switch {
    /// Whether it is on.
    fn status(&self) -> Result<State, PowerError>;
    /// Requests the change; the machine may take a while.
    fn change(&self, action: Action) -> Result<State, PowerError>;
    /// Makes the next boot, and only that, use the network.
    fn network_once(&self) -> Result<(), PowerError>;
    /// Whether [`Switch::status`] shows when a change is complete.
    fn can_look(&self) -> bool;
}

/// Carries out an action on one machine; with `network`, it boots from the network once.
///
/// # Errors
/// [`PowerError`].
pub fn act(target: &Target, action: Action, network: bool) -> Result<State, PowerError> {
    let method = target.method.clone()?;
    let switch: Box<dyn Switch> = match &method {
        Method::Wake(wake) => Box::new(wake::Card::new(wake, target)?),
        Method::Ipmi(ipmi) => Box::new(ipmi::Bmc::new(ipmi, target)),
        Method::Redfish(redfish) => Box::new(redfish::Bmc::connect(redfish)?),
        Method::Command(command) => Box::new(command::Site::new(command, target)),
    };
    if action == Action::Status {
        return switch.status();
    }
    let before = if switch.can_look() { Some(switch.status()?) } else { None };
    if network && action != Action::Off {
        switch.network_once()?;
    }
    match (action, before) {
        (Action::On, Some(State::On)) => return Ok(State::On),
        (Action::Off, Some(State::Off)) => return Ok(State::Off),
        _ => {}
    }
    // Many BMCs do not cycle a machine that is off.
    let action = if action == Action::Cycle && before == Some(State::Off) { Action::On } else { action };
    let state = switch.change(action)?;
    if switch.can_look() { settle(&*switch, action) } else { Ok(state) }
}

/// Waits until the machine is in the requested state.
fn settle(switch: &dyn Switch, action: Action) -> Result<State, PowerError> {
    let wanted = if action == Action::Off { State::Off } else { State::On };
    let start = Instant::now();
    loop {
        let state = switch.status()?;
        if state == wanted {
            return Ok(state);
        }
        if start.elapsed() >= SETTLED {
            return Err(PowerError::Failed(format!(
                "its BMC has accepted '{}', but after {} s it is still {}",
                action.name(),
                SETTLED.as_secs(),
                state.name()
            )));
        }
        std::thread::sleep(LOOK);
    }
}
