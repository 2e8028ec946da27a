//! IPMI through ipmitool, which handles the quirks of all makers' BMCs.
//!
//! The password is passed in the environment, which other users cannot read.

use std::process::{Command, Stdio};
use std::time::Duration;

use ka::shown;
use ka_host::tool;

use super::target::Target;
use super::{Action, PowerError, State, Switch};
use crate::config::bmc::Ipmi;

/// How long ipmitool may run; it retries for about 20 s.
const LIMIT: Duration = Duration::from_secs(60);

/// A machine's BMC.
pub(super) struct Bmc<'a> {
    ipmi: &'a Ipmi,
    uefi: bool,
}

impl<'a> Bmc<'a> {
    pub(super) fn new(ipmi: &'a Ipmi, target: &Target) -> Self {
        Self { ipmi, uefi: target.uefi }
    }

    fn chassis(&self, words: &[&str]) -> Result<String, PowerError> {
        let Ipmi { address, port, login, cipher } = self.ipmi;
        let mut command = Command::new("ipmitool");
        command.args([
            "-v",
            "-I",
            "lanplus",
            "-H",
            address,
            "-p",
            &port.to_string(),
            "-U",
            &login.user,
            "-E",
        ]);
        if let Some(cipher) = cipher {
            command.args(["-C", &cipher.to_string()]);
        }
        command.arg("chassis").args(words).env("IPMI_PASSWORD", &login.password.0).env("LC_ALL", "C");
        let output = tool::output(command.stdin(Stdio::null()), LIMIT).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                PowerError::Failed("ipmitool is not installed: apt-get install ipmitool".into())
            }
            _ => PowerError::Failed(format!("ipmitool cannot be run: {e}")),
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        // ipmitool exits with 0 even if the BMC has refused a boot device.
        if output.end.success() && !said.contains(" failed: ") {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(judge(address, &said, words))
    }
}

/// Interprets ipmitool's messages: a wrong password looks like an unreachable BMC, except for the details.
fn judge(address: &str, said: &str, words: &[&str]) -> PowerError {
    let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    if has(&[
        "RAKP 2 HMAC is invalid",
        "unauthorized name",
        "RAKP 4 message",
        "Integrity Check Value",
        "privilege level",
    ]) {
        return PowerError::Denied(address.to_owned());
    }
    if has(&["invalid authentication algorithm", "no cipher suite match", "no matching cipher"]) {
        let remedy = "set another cipher in its [[bmc]], such as cipher = 3 or 17";
        return PowerError::Unsupported(format!(
            "its BMC {address} does not know the cipher suite: {remedy}"
        ));
    }
    if has(&["Unable to establish", "Get Auth Capabilities error", "Address lookup for"]) {
        return PowerError::Unreachable(address.to_owned(), "no IPMI there".into());
    }
    let lines =
        said.lines().filter(|line| !line.starts_with("Loading IANA") && !line.contains("Cipher Suites"));
    let said = shown::reason(&lines.collect::<Vec<_>>().join("\n"));
    let what = words.join(" ");
    PowerError::Failed(format!("its BMC {address} does not support '{what}': {said}"))
}

impl Switch for Bmc<'_> {
    fn status(&self) -> Result<State, PowerError> {
        let said = self.chassis(&["power", "status"])?;
        match said.lines().rev().find_map(|line| line.trim().strip_prefix("Chassis Power is ")) {
            Some("on") => Ok(State::On),
            Some("off") => Ok(State::Off),
            _ => Err(PowerError::Failed(format!(
                "ipmitool does not report its power state: \
                    {}",
                shown::reason(&said)
            ))),
        }
    }

    fn change(&self, action: Action) -> Result<State, PowerError> {
        self.chassis(&["power", action.name()])?;
        Ok(if action == Action::Off { State::Off } else { State::On })
    }

    fn network_once(&self) -> Result<(), PowerError> {
        let uefi: &[&str] = if self.uefi { &["options=efiboot"] } else { &[] };
        self.chassis(&[&["bootdev", "pxe"], uefi].concat()).map(drop).map_err(|error| match error {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of ipmitool 1.8.19.
    #[test]
    fn messages_are_told_apart() {
        let session = "Error: Unable to establish IPMI v2 / RMCP+ session\n";
        for (said, expected) in [
            (format!("> RAKP 2 HMAC is invalid\n{session}"), PowerError::Denied("b".into())),
            (
                format!("RAKP 2 message indicates an error : unauthorized name\n{session}"),
                PowerError::Denied("b".into()),
            ),
            (
                format!("Get Auth Capabilities error\n{session}"),
                PowerError::Unreachable("b".into(), "no IPMI there".into()),
            ),
            (
                "Loading IANA PEN Registry...\nSet Chassis Boot Parameter 4 failed: Unspecified error\n".to_owned(),
                PowerError::Failed(
                    "its BMC b does not support 'bootdev pxe': Set Chassis Boot Parameter 4 failed: Unspecified error".into(),
                ),
            ),
        ] {
            assert_eq!(judge("b", &said, &["bootdev", "pxe"]), expected);
        }
    }
}
