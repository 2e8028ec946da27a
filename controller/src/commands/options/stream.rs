//! The options of every command that streams: which nodes are waited for, in which order, and for how long.

#![allow(rustdoc::broken_intra_doc_links, reason = "brackets in help texts mean what may be left out")]

use std::num::NonZeroU32;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ka::chain::SlowLimits;
use ka_net::relay::window;

use crate::config::Config;
use crate::lists::list::ListError;
use crate::lists::order::OrderSource;
use crate::stream::settings::Choice;
use crate::values;
use crate::view::Form;
use crate::workflow::streaming::Streaming;
use ka_net::listen::Listen;

/// The stream's settings.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The stream")]
pub struct StreamArgs {
    /// How long to wait for N nodes: seconds, or 10m, 2h; then continue with those present
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// Listen on this address and control port instead of on all addresses
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<Listen>,
    /// Only interface through which nodes connect: the ports are closed on all others (default: the
    /// configuration's [net] interface; for 'run' also that of an active 'kactl pxe', without --listen)
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// How long a node may be silent, once a neighbour complains, before it counts as dead
    #[arg(long, value_name = "TIME", default_value = "1.5", value_parser = values::silence)]
    pub dead_after: Duration,
    /// How long nodes wait for this controller if it vanishes, so that 'kactl resume' can continue (default:
    /// 10m for 'run'; for 'send' no longer than for any outage, a minute)
    #[arg(long, value_name = "TIME", value_parser = values::lasting)]
    pub patience: Option<Duration>,
    /// How long one step of a node may take, such as the last write to its disk, before the node counts as
    /// failed
    #[arg(long, value_name = "TIME", default_value = "35m", value_parser = values::lasting)]
    pub step_limit: Duration,
    /// Total number of rounds; each serves the nodes that came late or failed for a transient cause
    #[arg(long, value_name = "R", default_value = "2")]
    pub rounds: NonZeroU32,
    /// Order of the chain: address, file:FILE (one MAC or address per line), or switch:FILE (lines 'MAC
    /// GROUP')
    #[arg(long, value_name = "ORDER", default_value = "address")]
    pub order: OrderSource,
    /// Remove a node or link that stays below this share of the stream's best rate; 0 waits for all
    #[arg(long, value_name = "SHARE", default_value = "0.3", value_parser = values::share)]
    pub min_share: f64,
    /// How long a node may stay slow; also the minimum interval between two removals
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = values::lasting)]
    pub slow_after: Duration,
    /// Memory, here and on each node, for data that others may still need: bytes, or 8M, 1G; at least 8M. The
    /// smallest in the chain counts (default: a quarter of the memory, at most 256M)
    #[arg(long, value_name = "SIZE", value_parser = window::parse)]
    pub window: Option<u64>,
    /// Compression level: none, -7 to -1 (fast), or 1 to 9; auto follows the chain's rate
    #[arg(long, value_name = "LEVEL", default_value = "auto", value_parser = values::level, allow_hyphen_values = true)]
    pub level: Choice,
    /// Form of the result on standard output; progress and log go to standard error
    #[arg(
        short,
        long,
        value_name = "FORM",
        value_parser = forms(),
        default_value = "text",
        conflicts_with = "json",
        help_heading = "Reports"
    )]
    pub output: Form,
    /// Short for '-o json'
    #[arg(long, help_heading = "Reports")]
    pub json: bool,
}

/// Parses the form of a result; the help explains each.
fn forms() -> impl TypedValueParser<Value = Form> {
    let named = Form::ALL.map(|(name, help, _)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(named).try_map(|name| name.parse())
}

impl StreamArgs {
    /// The form of the result.
    #[must_use]
    pub fn output(&self) -> Form {
        if self.json { Form::Json } else { self.output }
    }

    /// The stream's settings, with the list that the options name.
    ///
    /// # Errors
    /// [`ListError`] with file, line and column.
    pub fn streaming(&self, config: &Config) -> Result<Streaming, ListError> {
        Ok(Streaming {
            timeout: self.timeout,
            listen: self.listen,
            interface: self.interface.clone().or_else(|| config.net.interface.clone()),
            dead_after: self.dead_after,
            patience: self.patience,
            step_limit: self.step_limit,
            rounds: self.rounds.get(),
            order: self.order.read()?,
            slow: SlowLimits { min_share: self.min_share, after: self.slow_after, ..SlowLimits::default() },
            window: self.window.unwrap_or_else(window::default_size),
            level: self.level,
        })
    }
}
