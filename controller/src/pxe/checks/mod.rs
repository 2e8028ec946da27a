//! What `kactl pxe` looks at before it serves anything, and says all at once.
//!
//! Nothing can be served at a port that somebody else holds: that ends the program. All else is a warning, for it may be
//! meant that way: a second DHCP server, a firewall, a network that nobody routes to.

mod dhcp;
mod firewall;
mod ports;
mod routes;

use super::service::{Dhcp, Service};
use crate::config::Ports;

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    fatal: Vec<String>,
    warnings: Vec<String>,
}

/// What makes serving impossible.
#[derive(Debug, thiserror::Error)]
#[error("{}", fatal.join("\n"))]
pub struct ChecksError {
    fatal: Vec<String>,
}

/// Looks at everything; takes as long as a DHCP server may take to answer.
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

    /// Logs the warnings.
    ///
    /// # Errors
    /// [`ChecksError`] with all that makes serving impossible.
    pub fn report(self) -> Result<(), ChecksError> {
        for warning in &self.warnings {
            log::warn!("{warning}");
        }
        if self.fatal.is_empty() { Ok(()) } else { Err(ChecksError { fatal: self.fatal }) }
    }
}
