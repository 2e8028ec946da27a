//! `kactl doctor`: checks this machine before a run.

use std::io::Write;

use ka_host::terminal;

use super::pxe;
use crate::config::Config;
use crate::doctor::{self, Finding, Verdict};
use crate::exit::Exit;
use crate::pxe::serving;

/// Options of `kactl doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status:
  0  all is well
  1  warnings
  2  failures: a run would stop, or nodes would not boot

Example:
  kactl doctor --interface eth1")]
pub struct DoctorArgs {
    /// Also check the network of this interface: ports, firewall, other DHCP servers
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
}

/// Runs `kactl doctor`.
pub fn run(args: &DoctorArgs, config: &Config) -> Exit {
    let mut findings = doctor::examine(config);
    let interface = args.interface.as_ref().or(config.pxe.interface.as_ref());
    match interface {
        Some(interface) => findings.extend(network(interface, config)),
        None => findings.push(Finding::warn(
            "network",
            "not checked, because no interface was given",
            "kactl doctor --interface IF",
        )),
    }
    let out = &mut terminal::out();
    for finding in &findings {
        // A reader that has gone has seen enough; the exit status says the rest.
        let _ = writeln!(out, "{finding}");
    }
    let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    let _ = writeln!(out, "{}", doctor::total(&findings));
    match worst {
        Verdict::Ok => Exit::Ok,
        Verdict::Warn => Exit::NodesFailed,
        Verdict::Fail => Exit::Usage,
    }
}

/// What `kactl pxe` would say, unless one serves already: then the ports are its own.
fn network(interface: &str, config: &Config) -> Vec<Finding> {
    if let Some(served) = serving::now(&config.directories.run) {
        return vec![if served.interface == interface {
            Finding::ok("network", format!("'kactl pxe' serves {interface}"))
        } else {
            let what = format!("'kactl pxe' serves {}, not {interface}", served.interface);
            Finding::warn("network", what, format!("stop it, and start 'kactl pxe --interface {interface}'"))
        }];
    }
    let (fatal, warnings) = match pxe::would(interface, config) {
        Ok(findings) => findings.into_parts(),
        Err(error) => (vec![crate::exit::words(&error)], Vec::new()),
    };
    if fatal.is_empty() && warnings.is_empty() {
        return vec![Finding::ok("network", format!("{interface}: ports, firewall and DHCP"))];
    }
    // These findings name their remedies themselves.
    let failed = fatal.into_iter().map(|what| Finding::fail("network", what, ""));
    failed.chain(warnings.into_iter().map(|what| Finding::warn("network", what, ""))).collect()
}
