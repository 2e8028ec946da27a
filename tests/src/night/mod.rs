//! Whole unattended nights: the real [`Session`](ka::session::Session) with simulated machines, and an
//! operator who is asleep.
//!
//! Each seed is a [`Plan`]: some machines do not wake, die, return, hang, stall, or have a disk that fails,
//! and the controller is killed and resumed. The machines follow the protocol as agents do: they prepare,
//! receive down the chain that the session gives them, complain about neighbours, finish and leave. What is
//! on a machine's disk is known here, so what the run reports can be compared with it.
//!
//! - A machine that is reported complete has a whole clone on its disk.
//! - No machine is erased that the list does not name, and none that has its clone.
//! - Every machine without a clone is named with the step at which it failed, or as one that never appeared.
//! - The night ends.
//!
//! Links and membership have their own simulator ([`crate::sim`]); here a link either carries data or does
//! not.

mod agent;
mod chain;
mod controller;
mod judge;
mod machine;
mod plan;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

pub use plan::{Fault, Plan};
pub use world::run;

/// What the machines of some nights came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nights.
    pub nights: u64,
    /// Machines without a fault of their own, and how many of them have their clone and are reported
    /// complete.
    pub healthy: u64,
    /// See `healthy`.
    pub cloned: u64,
    /// Machines with a fault, and how many of them have their clone nevertheless.
    pub faulty: u64,
    /// See `faulty`.
    pub faulty_cloned: u64,
    /// Machines that were reported failed, with the step.
    pub failed: u64,
    /// Machines that were reported as never seen, or as gone before the run began.
    pub missing: u64,
    /// How the healthy ones among them failed, and how many did so.
    pub undeserved: BTreeMap<String, u64>,
    /// How often the controller was killed.
    pub kills: u64,
    /// The longest night, in seconds.
    pub longest: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.nights += other.nights;
        self.healthy += other.healthy;
        self.cloned += other.cloned;
        self.faulty += other.faulty;
        self.faulty_cloned += other.faulty_cloned;
        self.failed += other.failed;
        self.missing += other.missing;
        for (failure, count) in other.undeserved {
            *self.undeserved.entry(failure).or_default() += count;
        }
        self.kills += other.kills;
        self.longest = self.longest.max(other.longest);
    }
}

impl Tally {
    /// The share of the healthy machines that were cloned.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    pub fn share(&self) -> f64 {
        self.cloned as f64 / self.healthy.max(1) as f64
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nights, the controller was killed {} times: {} of {} healthy machines cloned ({:.3} %), {} of {} with a \
             fault; {} failed with their step, {} never appeared or had gone; the longest night took {} min",
            self.nights,
            self.kills,
            self.cloned,
            self.healthy,
            self.share() * 100.0,
            self.faulty_cloned,
            self.faulty,
            self.failed,
            self.missing,
            self.longest / 60
        )
    }
}

/// What must never happen in any night.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
