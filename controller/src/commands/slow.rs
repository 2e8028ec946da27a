//! The options that say when a node is too slow, for every command that streams.

use std::time::Duration;

use ka::chain::SlowLimits;

use crate::cli::values;

/// When a node is taken out of the chain because it is slow.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SlowArgs {
    /// Takes out a node or link that stays below this share of the best rate of its stream; 0 waits for
    /// everybody
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = values::share)]
    pub min_share: f64,
    /// For so long a node may be slow; also the time between two that are taken out
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = values::lasting)]
    pub slow_after: Duration,
}

impl SlowArgs {
    /// For a session.
    #[must_use]
    pub fn limits(&self) -> SlowLimits {
        SlowLimits { min_share: self.min_share, after: self.slow_after }
    }
}
