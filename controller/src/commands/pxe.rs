//! `kactl pxe`: serves DHCP, TFTP, HTTP and the boot files of each machine.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context;
use ka::ipv4::AddressRange;
use ka_host::{guarded, terminal};

use crate::config::pxe::Ipxe;
use crate::config::read::Located;
use crate::config::{Config, Ports};
use crate::exit::{CommandResult, Exit};
use crate::pxe::checks::{self, Findings};
use crate::pxe::confine::{Access, Confined};
use crate::pxe::files::BootDirectory;
use crate::pxe::flood::Limit;
use crate::pxe::loaders::Loaders;
use crate::pxe::menu::Settings;
use crate::pxe::run_image::RunImages;
use crate::pxe::serve::{self, OnlyOne};
use crate::pxe::service::{Dhcp, Service};
use crate::pxe::serving::{Served, Serving};
use crate::pxe::site::{self, Server};
use crate::pxe::{interface, pxelinux};
use ka_host::atomic;

/// Options of `kactl pxe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kactl pxe --interface eth1            serve a network that has no DHCP server
  kactl pxe --interface eth1 --proxy    serve beside the site's DHCP server
  kactl pxe config dhcpd                what to add to a site's own DHCP server")]
pub struct PxeArgs {
    /// Serve on this interface only
    #[arg(long, value_name = "IF", global = true)]
    pub interface: Option<String>,
    /// This machine's address on it, if it has several
    #[arg(long, value_name = "ADDR", global = true)]
    pub address: Option<Ipv4Addr>,
    /// Addresses to assign (default: those of the interface's network)
    #[arg(long, value_name = "FIRST,LAST")]
    pub range: Option<AddressRange>,
    /// Assign no addresses; only answer what to boot, next to the site's DHCP server
    #[arg(long, conflicts_with = "range")]
    pub proxy: bool,
    /// Serve no DHCP: the site's own server answers what to boot (see 'kactl pxe config')
    #[arg(long, conflicts_with_all = ["range", "proxy"])]
    pub no_dhcp: bool,
    /// The subcommand, if not to serve.
    #[command(subcommand)]
    pub other: Option<Other>,
}

/// The subcommands of `kactl pxe`.
#[derive(Debug, clap::Subcommand)]
pub enum Other {
    /// Print the configuration for a site's existing server
    Config {
        /// The server
        server: ServerChoice,
    },
}

/// A site's existing server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ServerChoice {
    /// ISC dhcpd: says what to boot
    Dhcpd,
    /// Kea's DHCPv4 server: says what to boot
    Kea,
    /// A TFTP server: serves the boot files itself
    Tftpd,
    /// The site's own dnsmasq: says what to boot
    Dnsmasq,
    /// pxelinux on another server: its pxelinux.cfg/default
    Pxelinux,
}

impl From<ServerChoice> for Server {
    fn from(choice: ServerChoice) -> Self {
        match choice {
            ServerChoice::Dhcpd => Self::Dhcpd,
            ServerChoice::Kea => Self::Kea,
            ServerChoice::Tftpd => Self::Tftpd,
            ServerChoice::Dnsmasq => Self::Dnsmasq,
            ServerChoice::Pxelinux => Self::Pxelinux,
        }
    }
}

/// Serves until it is stopped, or prints a site's configuration.
///
/// # Errors
/// Something is missing, or serving cannot continue.
pub fn run(args: &PxeArgs, config: &Config) -> CommandResult {
    let service = service(args, config)?;
    let settings = settings(config, &service);
    if let Some(Other::Config { server }) = args.other {
        let text = site::text(server.into(), &service, &settings);
        terminal::data().write_all(text.as_bytes()).context("cannot print the configuration")?;
        return Ok(Exit::Ok);
    }
    let directories = &config.directories;
    directories.make_run()?;
    let _only_one = OnlyOne::take(&directories.run)?;
    let boot = BootDirectory::prepare(&service.tftp_root, &service.loaders, settings)?;
    log_what_is_missing(&service);
    checks::all(&service, &config.ports).report()?;
    let user = confine(&service, &directories.run)?;
    // Next to dnsmasq's own directory: dnsmasq reads its configuration, and cannot write it.
    let dnsmasq_config = service.run.with_extension("conf");
    atomic::write(&dnsmasq_config, service.config().as_bytes(), 0o644)?;
    // A site's own server has its own copy of the files, and serves the image with the long-lived key.
    let mut images = match service.dhcp {
        Dhcp::Site => None,
        _ => RunImages::new(&service.tftp_root, &directories.lib),
    };
    if images.is_none() {
        log::info!("every machine boots the image that has the long-lived join secret");
    }
    let _serving = Serving::tell(
        &Served {
            interface: service.interface.clone(),
            run_keys: images.is_some(),
            leases: matches!(service.dhcp, Dhcp::Full(_)).then(|| service.leases_file()),
        },
        &directories.run,
    )?;
    let _limit = limit(&service.interface);
    log::info!(
        "serving on {} as {}, {}; every machine boots from its disk unless a run waits for it",
        service.interface,
        service.address(),
        told(&service.dhcp)
    );
    serve::serve(&boot, &service, (&dnsmasq_config, user), &directories.runs(), images.as_mut())?;
    Ok(Exit::Ok)
}

/// What would stop `kactl pxe` on this interface, and what it would warn of.
///
/// # Errors
/// The interface or the configuration cannot be served.
pub(super) fn would(interface: &str, config: &Config) -> anyhow::Result<Findings> {
    let args = PxeArgs {
        interface: Some(interface.to_owned()),
        address: None,
        range: None,
        proxy: false,
        no_dhcp: false,
        other: None,
    };
    Ok(checks::all(&service(&args, config)?, &config.ports))
}

/// Boot loaders that would serve more machines, or serve some of them faster.
fn log_what_is_missing(service: &Service) {
    if !service.loaders.serves_uefi() {
        let (file, package) = Ipxe::Snponly.file();
        log::warn!(
            "UEFI machines find nothing to boot: {} is missing; install it with `apt-get install {package}`",
            file.display()
        );
    }
    let (file, package) = pxelinux::OVER_HTTP;
    if service.loaders.common.bios == pxelinux::OVER_TFTP && !Path::new(file).exists() {
        log::warn!(
            "BIOS machines load over TFTP, which is slower: {file} is missing; install it with `apt-get install {package}`"
        );
    }
}

/// dnsmasq's own directory, and the user that it runs as.
fn confine(service: &Service, run: &Path) -> anyhow::Result<Option<Confined>> {
    let user = Confined::find();
    guarded::directory_of(&service.run, 0o755, user.map(Confined::uid))?;
    let Some(user) = user else {
        log::warn!("dnsmasq runs as root: this system has no user 'dnsmasq'");
        return Ok(None);
    };
    user.let_in(run, Access::Enter)?;
    user.let_in(&service.tftp_root, Access::Read)?;
    user.own(&service.run)?;
    Ok(Some(user))
}

fn limit(interface: &str) -> Option<Limit> {
    match Limit::set(interface) {
        Ok(limit) => Some(limit),
        Err(error) => {
            log::warn!(
                "one machine can keep TFTP from all others: cannot limit its requests with nft: {error} \
                 (apt-get install nftables)"
            );
            None
        }
    }
}

fn told(dhcp: &Dhcp) -> String {
    match dhcp {
        Dhcp::Full(networks) => {
            let ranges: Vec<_> =
                networks.iter().map(|n| format!("{} to {}", n.range.first, n.range.last)).collect();
            format!("giving {}", ranges.join(", "))
        }
        Dhcp::Proxy(_) => "beside the site's DHCP server".into(),
        Dhcp::Site => "without DHCP".into(),
    }
}

/// The command line takes precedence over the configuration.
fn service(args: &PxeArgs, config: &Config) -> anyhow::Result<Service> {
    let pxe = &config.pxe;
    let name = args.interface.as_deref().or(pxe.interface.as_deref());
    let (interface, network) = interface::pick(interface::all()?, name, args.address.or(pxe.address))?;
    let range = args.range.map(Located::nowhere).or_else(|| pxe.range.clone());
    let dhcp = if args.proxy {
        let relayed = interface::relayed(&interface.name, network, pxe)?;
        Dhcp::Proxy(std::iter::once(network).chain(relayed).collect())
    } else if args.no_dhcp || args.other.is_some() {
        Dhcp::Site
    } else {
        Dhcp::Full(interface::networks(&interface.name, network, range.as_ref(), pxe)?)
    };
    Ok(Service {
        interface: interface.name,
        network,
        dhcp,
        loaders: Loaders::find(pxe)?,
        http: config.ports.http,
        tftp_root: config.directories.boot(),
        run: config.directories.run.join("dnsmasq"),
    })
}

fn settings(config: &Config, service: &Service) -> Settings {
    let Ports { control, .. } = config.ports;
    let pxe = &config.pxe;
    Settings {
        address: service.address(),
        port: (control != Ports::default().control).then_some(control),
        http: service.http,
        console: pxe.console.clone(),
        vlan: pxe.vlan,
        booting: pxe.boot.clone(),
        machines: pxe.machines.clone(),
        by_hand: None,
    }
}
