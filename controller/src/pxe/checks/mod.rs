//! The checks that `kactl pxe` makes before it serves anything. All findings are reported together.
//!
//! A port in use makes serving impossible and ends the program. Everything else is a warning, since it may be
//! intended: a second DHCP server, a firewall, a network without a route.

mod dhcp;
mod firewall;
mod ports;
mod routes;

use super::service::{Dhcp, Service};
use crate::config::Ports;

/// The findings.
#[derive(Debug, Default)]
pub struct Findings {
    fatal: Vec<String>,
    warnings: Vec<String>,
}

/// Records what makes serving impossible.
#[derive(Debug, thiserror::Error)]
#[error("{}", fatal.join("\n"))]
pub struct ChecksError {
    fatal: Vec<String>,
}

/// Runs all checks. This takes as long as a DHCP server may take to answer.
#[must_use]
pub fn all(service: &Service, ports: &Ports) -> Findings {
    let mut findings = Findings::default();
    ports::check(service, &mut findings);
    firewall::check(service, ports, &mut findings);
    routes::check(service, &mut findings);
    dhcp::check(service, &mut findings);
    if matches!(service.dhcp, Dhcp::Proxy(_)) && service.loaders.serves_uefi() {
        findings.warn(
            "with --proxy, machines that boot by UEFI HTTP boot get no offer: dnsmasq cannot answer them beside another \
             server. Set their firmware to PXE, or see `kactl pxe config`"
                .into(),
        );
    }
    findings
}

impl Findings {
    fn fail(&mut self, message: String) {
        self.fatal.push(message);
    }

    fn warn(&mut self, message: String) {
        self.warnings.push(message);
    }

    /// What makes serving impossible, and the warnings.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (self.fatal, self.warnings)
    }

    /// Logs the warnings.
    ///
    /// # Errors
    /// [`ChecksError`] with everything that makes serving impossible.
    pub fn report(self) -> Result<(), ChecksError> {
        for warning in &self.warnings {
            log::warn!("{warning}");
        }
        if self.fatal.is_empty() { Ok(()) } else { Err(ChecksError { fatal: self.fatal }) }
    }
}
