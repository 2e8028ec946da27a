//! A simulator of whole sessions: the real [`Member`](ka::chain::Member)s and the real
//! [`Session`](ka::session::Session) on hosts, links and clocks that derive from a seed.
//!
//! Each seed is a [`Schedule`]: hosts with their links, and faults. [`run`] simulates it event by event and
//! checks the invariants after each one, so a seed that fails once fails always.

mod control;
mod faults;
mod host;
mod hub;
mod invariants;
mod long;
mod malice;
mod network;
mod node;
mod outcome;
pub mod random;
mod schedule;
mod slowness;
mod stream;
mod world;

pub use invariants::Violation;
pub use long::LongChain;
pub use malice::Malice;
pub use network::Shape;
pub use schedule::{Fault, HostPlan, Planned, Schedule, Victim, When};
pub use slowness::{Judgement, Tally, judge_slowness};
pub use world::{SimResult, run, run_traced, run_with};
