//! A site's own command, for machines on switched sockets or anything else.
//!
//! The command gets `KA_ACTION` (`on`, `off`, `cycle`, `status`, `network-once`), `KA_NODE` and `KA_MAC` in
//! its environment. For `status` it prints `on` or `off`. Exit status 3 means that it does not support the
//! action.

use std::process::{Command, Stdio};
use std::time::Duration;

use ka::shown;
use ka_host::tool::{self, End};

use super::target::Target;
use super::{Action, PowerError, State, Switch};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The exit status for an unsupported action.
const UNKNOWN: i32 = 3;

/// A machine that a command switches.
pub(super) struct Site<'a> {
    command: &'a str,
    target: &'a Target,
}

impl<'a> Site<'a> {
    pub(super) fn new(command: &'a str, target: &'a Target) -> Self {
        Self { command, target }
    }

    fn run(&self, action: &str) -> Result<String, PowerError> {
        let mut command = Command::new("sh");
        let mac = self.target.mac.map(|mac| mac.to_string()).unwrap_or_default();
        command.args(["-c", self.command]).stdin(Stdio::null());
        command.env("KA_ACTION", action).env("KA_NODE", &self.target.label).env("KA_MAC", mac);
        let failed = |why: String| {
            PowerError::Failed(format!(
                "its command does not support '{action}': \
            {why}"
            ))
        };
        let output = tool::output(&mut command, LIMIT).map_err(|e| failed(e.to_string()))?;
        if output.end.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        if matches!(output.end, End::Exited(status) if status.code() == Some(UNKNOWN)) {
            return Err(PowerError::Unsupported(format!("its command does not know '{action}'")));
        }
        let said = shown::reason(&String::from_utf8_lossy(&output.stderr));
        Err(failed(if said.is_empty() { output.end.to_string() } else { format!("{}: {said}", output.end) }))
    }
}

impl Switch for Site<'_> {
    fn status(&self) -> Result<State, PowerError> {
        match self.run(Action::Status.name())?.as_str() {
            "on" => Ok(State::On),
            "off" => Ok(State::Off),
            other => {
                let said = shown::field(other);
                Err(PowerError::Failed(format!(
                    "its command prints '{said}' for its status, not 'on' or 'off'"
                )))
            }
        }
    }

    fn change(&self, action: Action) -> Result<State, PowerError> {
        self.run(action.name())?;
        Ok(if action == Action::Off { State::Off } else { State::On })
    }

    fn network_once(&self) -> Result<(), PowerError> {
        match self.run("network-once") {
            // Its firmware may boot from the network anyway.
            Err(PowerError::Unsupported(_)) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn can_look(&self) -> bool {
        self.status().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bmc::Method;
    use crate::power::act;

    fn target(command: &str) -> Target {
        Target {
            label: "n1".into(),
            mac: "020000000001".parse().ok(),
            uefi: false,
            method: Ok(Method::Command(command.into())),
        }
    }

    #[test]
    fn a_command_does_what_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("power");
        let script = format!(
            "case $KA_ACTION in status) cat {0} 2>/dev/null || echo off;; on|off) echo $KA_ACTION >{0};; \
             cycle) echo on >{0};; *) exit 3;; esac; [ $KA_NODE$KA_MAC = n102:00:00:00:00:01 ]",
            file.display()
        );
        let target = target(&script);
        for (action, state) in [
            (Action::Status, State::Off),
            (Action::Cycle, State::On),
            (Action::Status, State::On),
            (Action::Off, State::Off),
            (Action::On, State::On),
        ] {
            assert_eq!(act(&target, action, true), Ok(state), "{action:?}");
        }
    }

    #[test]
    fn what_a_command_does_not_do_is_told() {
        for (command, action, words) in [
            ("echo no socket >&2; exit 7", Action::On, "'on': exit status: 7: no socket"),
            ("echo perhaps", Action::Status, "prints 'perhaps' for its status"),
            ("exit 3", Action::Off, "does not know 'off'"),
        ] {
            let error = act(&target(command), action, false).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
