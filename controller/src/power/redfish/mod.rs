//! Redfish (DMTF DSP0266), limited to switching a machine and booting it from the network once.

mod client;
mod tls;

use serde_json::{Value, json};

use client::Client;

use super::{Action, PowerError, State, Switch};
use crate::config::bmc::Redfish;

/// The collection of systems.
const SYSTEMS: &str = "/redfish/v1/Systems";

/// One system of a BMC.
pub(super) struct Bmc {
    client: Client,
    /// The system's path.
    system: String,
}

impl Bmc {
    /// Finds the machine's system.
    pub(super) fn connect(redfish: &Redfish) -> Result<Self, PowerError> {
        let client = Client::new(redfish)?;
        let system = match &redfish.system {
            Some(path) if path.starts_with('/') => path.clone(),
            Some(name) => format!("{SYSTEMS}/{name}"),
            None => only_system(&client)?,
        };
        Ok(Self { client, system })
    }

    fn read(&self) -> Result<Value, PowerError> {
        self.client.get(&self.system)
    }

    /// The reset type for `action`, of those that the BMC offers.
    fn reset(&self, system: &Value, action: Action) -> Result<(String, Value), PowerError> {
        let reset = &system["Actions"]["#ComputerSystem.Reset"];
        let kinds: &[&str] = match action {
            Action::On => &["On", "ForceOn"],
            Action::Off => &["ForceOff", "Off"],
            Action::Cycle | Action::Status => &["ForceRestart", "PowerCycle", "GracefulRestart"],
        };
        let offers = strings(&reset["ResetType@Redfish.AllowableValues"]);
        let kind = kinds.iter().find(|kind| offers.is_empty() || offers.contains(kind));
        let kind = kind.ok_or_else(|| {
            let (url, what, offers) = (self.client.url(), action.name(), offers.join(", "));
            PowerError::Unsupported(format!("its BMC {url} cannot do '{what}': it offers {offers}"))
        })?;
        let target = reset["target"].as_str().map(str::to_owned);
        let target = target.unwrap_or_else(|| format!("{}/Actions/ComputerSystem.Reset", self.system));
        Ok((target, json!({ "ResetType": kind })))
    }
}

fn only_system(client: &Client) -> Result<String, PowerError> {
    let systems = client.get(SYSTEMS)?;
    let paths: Vec<&str> = systems["Members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["@odata.id"].as_str())
        .collect();
    match paths.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(PowerError::Failed(format!("its BMC {} has no system", client.url()))),
        many => {
            let names = ka::shown::some(many, 16);
            let url = client.url();
            Err(PowerError::Failed(format!(
                "its BMC {url} has several systems: name one by system = … of {names}"
            )))
        }
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Switch for Bmc {
    fn status(&self) -> Result<State, PowerError> {
        match self.read()?["PowerState"].as_str() {
            Some("On" | "PoweringOff" | "Paused") => Ok(State::On),
            Some("Off" | "PoweringOn") => Ok(State::Off),
            other => {
                let (url, said) = (self.client.url(), ka::shown::field(other.unwrap_or("nothing")));
                Err(PowerError::Failed(format!("its BMC {url} reports its power state as {said}")))
            }
        }
    }

    fn change(&self, action: Action) -> Result<State, PowerError> {
        let (target, body) = self.reset(&self.read()?, action)?;
        self.client.post(&target, &body)?;
        Ok(if action == Action::Off { State::Off } else { State::On })
    }

    fn network_once(&self) -> Result<(), PowerError> {
        let system = self.read()?;
        let targets = strings(&system["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"]);
        if !targets.is_empty() && !targets.contains(&"Pxe") {
            let (url, offers) = (self.client.url(), targets.join(", "));
            return Err(PowerError::Unsupported(format!(
                "its BMC {url} cannot set its next boot to the network: it offers {offers}"
            )));
        }
        let boot =
            json!({ "Boot": { "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe" } });
        self.client.patch(&self.system, &boot, system["@odata.etag"].as_str()).map_err(|error| match error {
            PowerError::Failed(why) => {
                PowerError::Unsupported(format!("its next boot cannot be set to the network: {why}"))
            }
            other => other,
        })
    }

    fn can_look(&self) -> bool {
        true
    }
}
