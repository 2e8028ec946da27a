//! Switches machines on and off: Wake-on-LAN, IPMI, Redfish, or a site's own command.
//!
//! Every machine is handled by itself and at the same time as the others: one that does not answer holds up nobody, and
//! its error names it. What a BMC has accepted is not done yet, so its power is looked at until it is as it should be.

mod command;
mod ipmi;
pub mod many;
mod redfish;
pub mod target;
mod wake;

use std::time::{Duration, Instant};

use crate::config::bmc::Method;
use target::Target;

/// How long a machine may take to be on or off after its BMC has accepted that.
const SETTLED: Duration = Duration::from_secs(40);
/// How often its power is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What is done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is switched on; nothing happens to one that is.
    On,
    /// It is switched off at once, without its system.
    Off,
    /// It is switched off and on, or only on if it is off.
    Cycle,
    /// It is only looked at.
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
    /// A packet has been sent; nobody knows what came of it.
    Woken,
}

impl State {
    /// The word in every output.
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
    /// Nobody knows how.
    #[error("{0}")]
    Unknown(String),
    /// The BMC does not answer.
    #[error("its BMC {0} does not answer: {1}")]
    Unreachable(String, String),
    /// User or password are wrong.
    #[error("its BMC {0} refuses the user or the password")]
    Denied(String),
    /// Nobody knows whether it is this machine's BMC.
    #[error("{0}")]
    Untrusted(String),
    /// It cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// What switches one machine.
trait Switch {
    /// Whether it is on.
    fn status(&self) -> Result<State, PowerError>;
    /// Has it changed; the machine may take a while.
    fn change(&self, action: Action) -> Result<State, PowerError>;
    /// Has the next boot, and only that, go over the network.
    fn network_once(&self) -> Result<(), PowerError>;
    /// Whether [`Switch::status`] tells when a change is done.
    fn can_look(&self) -> bool;
}

/// Does something with one machine; with `network`, it boots from the network once.
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
    // Many a BMC does not cycle what is off.
    let action = if action == Action::Cycle && before == Some(State::Off) { Action::On } else { action };
    let state = switch.change(action)?;
    if switch.can_look() { settle(&*switch, action) } else { Ok(state) }
}

/// Waits until the machine is as it should be.
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
