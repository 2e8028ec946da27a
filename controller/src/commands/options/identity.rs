//! The options for the nodes' identities and their release.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts mean what may be left out")]

use std::path::PathBuf;
use std::time::Duration;

use ka::session::names::{Names, Naming};
use rustix::system::uname;

use super::machine_lists;
use crate::config::Config;
use crate::lists::hosts::Hosts;
use crate::values;

/// The nodes' identities.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Names, and the first boot")]
pub struct IdentityArgs {
    /// Names and static addresses of the nodes: a file with lines 'MAC NAME [ADDRESS[/PREFIX] [GATEWAY]]
    /// [INTERFACE=MAC ...]'; the last fields map this machine's interfaces to a node's cards ('-' reads it
    /// from standard input); or a list of known machines, such as node[001-120] or @group, which keep their
    /// names
    #[arg(long, value_name = "FILE|LIST")]
    pub hosts: Option<PathBuf>,
    /// Names of the nodes that --hosts does not name: dhcp (the DHCP server's name, if it has one), golden
    /// (this machine's name), or a pattern with the number in the chain, from 1: node%d, node%03d
    #[arg(long, value_name = "NAME", default_value = "dhcp")]
    pub hostname: Naming,
    /// Stagger node reboots by TIME
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = values::duration)]
    pub delay: Duration,
    /// Wait until each node reports that it runs from its own disk, for at most TIME (default 15m); a node
    /// that does not report counts as failed
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "15m",
        value_parser = values::lasting
    )]
    pub wait_booted: Option<Duration>,
}

impl IdentityArgs {
    /// The table, if there is one.
    ///
    /// # Errors
    /// The file or the list is invalid.
    pub fn table(&self, config: &Config) -> anyhow::Result<Hosts> {
        self.hosts.as_deref().map_or(Ok(Hosts::default()), |argument| machine_lists::hosts(argument, config))
    }

    /// The names of the nodes.
    #[must_use]
    pub fn names(&self, hosts: Hosts) -> Names {
        let golden = uname();
        Names::new(hosts.into_names(), self.hostname.clone(), &golden.nodename().to_string_lossy())
    }
}
