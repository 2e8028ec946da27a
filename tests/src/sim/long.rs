//! Chains of thousands of nodes, to measure the effect of length and deaths.

use std::time::Duration;

use ka::chain::SlowLimits;

use super::network::Shape;
use super::random::Random;
use super::schedule::{Fault, HostPlan, Planned, Schedule, Victim, When};

/// The number of real bytes per simulated byte: a block of 64 KiB is one of 256 bytes.
const SCALE: u64 = 256;
/// A real block.
const BLOCK: u64 = 64 * 1024;
/// 1 Gbit/s, in bytes per second.
const RATE: u64 = 125_000_000;
/// The socket buffers of one connection.
const BUFFER: u64 = 1024 * 1024;

/// A session with a long chain on links of 1 Gbit/s.
#[derive(Clone, Copy, Debug)]
pub struct LongChain {
    /// The number of nodes, without the golden node.
    pub nodes: usize,
    /// Every member's window, in real bytes.
    pub window: u64,
    /// The length of the stream, in real bytes.
    pub stream: u64,
    /// The number of nodes that die, at times spread over the transfer.
    pub deaths: usize,
    /// They die silently; otherwise the process is killed.
    pub silent: bool,
}

impl LongChain {
    /// The schedule, with the times and the victims derived from `seed`.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Schedule {
        let random = &mut Random::new(seed);
        let fault = if self.silent { Fault::Silence(None) } else { Fault::Crash };
        let deaths = (0..self.deaths).map(|_| Planned {
            when: When::Produced(random.between(1, 99)),
            after: Duration::ZERO,
            victim: Victim::Position(random.index(self.nodes)),
            fault,
        });
        let faults = deaths.collect();
        let rate = RATE / SCALE;
        let host = HostPlan {
            shape: Shape { rate, delay: Duration::from_micros(100), buffer: BUFFER / SCALE },
            writer: rate * 4,
            control: Duration::from_micros(200),
        };
        Schedule {
            seed,
            hosts: vec![host; self.nodes + 1],
            window: self.window / SCALE,
            largest: BLOCK / SCALE,
            length: self.stream / SCALE,
            dead_after: Duration::from_millis(1500),
            slow: SlowLimits::default(),
            abrupt: false,
            clock_first: false,
            faults,
            malice: Vec::new(),
            rounds: 1,
            gathers: false,
            uninvited: None,
        }
    }
}
