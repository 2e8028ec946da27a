//! `kactl pxe`: serves DHCP, TFTP and what each machine boots.

use std::net::Ipv4Addr;

use crate::atomic;
use crate::cli::exit::{Exit, Outcome};
use crate::cli::values::{self, Range};
use crate::config::{Config, Ports};
use crate::pxe::dnsmasq::Service;
use crate::pxe::interface;
use crate::pxe::menu::Settings;
use crate::pxe::serve::{self, OnlyOne};
use crate::pxe::tftp::BootDirectory;

/// Options of `kactl pxe`.
#[derive(Debug, clap::Args)]
pub struct PxeArgs {
    /// The only interface to serve on
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// This machine's address on it, if it has several
    #[arg(long, value_name = "ADDR")]
    pub address: Option<Ipv4Addr>,
    /// The addresses to give; without it, those of the interface's network
    #[arg(long, value_name = "FIRST,LAST", value_parser = values::range)]
    pub range: Option<Range>,
}

/// Serves until it is stopped.
///
/// # Errors
/// What is missing, or why it cannot go on.
pub fn run(args: &PxeArgs, config: &Config) -> Outcome {
    let directories = &config.directories;
    let service = service(args, config)?;
    atomic::directory(&directories.run, 0o755)?;
    let _only_one = OnlyOne::take(&directories.run)?;
    let boot = BootDirectory::prepare(&service.tftp_root, settings(config, &service))?;
    let dnsmasq_config = directories.run.join("dnsmasq.conf");
    atomic::write(&dnsmasq_config, service.config().as_bytes(), 0o644)?;
    let Service { interface, range, .. } = &service;
    log::info!(
        "serving on {interface} as {}, giving {} to {}; every machine boots from its disk unless a run waits for it",
        service.address(),
        range.first,
        range.last
    );
    serve::serve(&boot, &dnsmasq_config, &directories.runs())?;
    Ok(Exit::Ok)
}

/// The command line comes before the configuration.
fn service(args: &PxeArgs, config: &Config) -> Result<Service, interface::InterfaceError> {
    let pxe = &config.pxe;
    let name = args.interface.as_deref().or(pxe.interface.as_deref());
    let (interface, network) = interface::pick(interface::all()?, name, args.address.or(pxe.address))?;
    let range = interface::pick_range(&interface.name, network, args.range.or(pxe.range))?;
    Ok(Service {
        interface: interface.name,
        network,
        range,
        tftp_root: config.directories.boot(),
        run: config.directories.run.clone(),
    })
}

fn settings(config: &Config, service: &Service) -> Settings {
    let Ports { control, .. } = config.ports;
    Settings {
        address: service.address(),
        port: (control != Ports::default().control).then_some(control),
        console: config.pxe.console.clone(),
    }
}
