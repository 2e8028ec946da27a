//! The faults of the machines and of the controller in one night.

use crate::sim::random::Random;

/// A fault of a machine. Times are in seconds since it began to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Its connection breaks for a moment, from which it recovers by itself.
    Flaps {
        /// When.
        at: u64,
        /// For how long.
        lasts: u64,
    },
    /// It stays off.
    NeverWakes,
    /// Its power goes.
    Dies {
        /// When.
        at: u64,
    },
    /// Its power goes, and it boots again.
    Returns {
        /// When.
        at: u64,
        /// After how long.
        after: u64,
    },
    /// It is never heard again, and its connections stay open.
    Hangs {
        /// When.
        at: u64,
    },
    /// Its disk never answers again; it relays, and says that it lives.
    Stalls {
        /// When.
        at: u64,
    },
    /// Its disk reports an error.
    DiskFails {
        /// When.
        at: u64,
    },
}

impl Fault {
    /// Whether the machine works, whatever its network does for a moment.
    #[must_use]
    pub fn is_healthy(self) -> bool {
        matches!(self, Self::None | Self::Flaps { .. })
    }
}

/// When the controller is killed.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// At the first effect after this time in seconds.
    pub at: u64,
    /// After so many more effects: between what is recorded and what follows from it.
    pub effects: u64,
    /// How long it is gone, in seconds.
    pub down: u64,
}

/// One night.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// The machines of the list.
    pub machines: Vec<MachinePlan>,
    /// The controller's deaths.
    pub kills: Vec<Kill>,
    /// How many rounds the run may have.
    pub rounds: u32,
}

/// One machine.
#[derive(Clone, Copy, Debug)]
pub struct MachinePlan {
    /// When it begins to boot, and how long that takes, in seconds.
    pub wakes_at: u64,
    /// See `wakes_at`.
    pub boots_for: u64,
    /// How long it prepares and finishes, in seconds.
    pub prepares_for: u64,
    /// See `prepares_for`.
    pub finishes_for: u64,
    /// What befalls it.
    pub fault: Fault,
}

/// Of 100 machines, how many have a fault of their own.
const FAULTY: u64 = 8;
/// A fault falls within this many seconds of a machine's life: most of it is over by then.
const LIFE: u64 = 700;

impl Plan {
    /// The night of a seed.
    #[must_use]
    pub fn generate(seed: u64, machines: usize) -> Self {
        let random = &mut Random::new(seed);
        let machines = (0..machines)
            .map(|_| MachinePlan {
                wakes_at: random.between(0, 30),
                boots_for: random.between(30, 150),
                prepares_for: random.between(2, 25),
                finishes_for: random.between(20, 120),
                fault: fault(random),
            })
            .collect();
        let kills = (0..random.between(0, 3))
            .map(|_| Kill {
                at: random.between(0, 900),
                effects: random.between(0, 12),
                // Most are resumed at once, by the service; some by a person.
                down: if random.chance(80) { random.between(1, 20) } else { random.between(20, 300) },
            })
            .collect();
        let rounds = u32::try_from(random.between(3, 5)).unwrap_or(3);
        Self { seed, machines, kills, rounds }
    }
}

fn fault(random: &mut Random) -> Fault {
    let at = random.between(1, LIFE);
    if !random.chance(FAULTY) {
        return if random.chance(5) { Fault::Flaps { at, lasts: random.between(1, 8) } } else { Fault::None };
    }
    match random.between(0, 5) {
        0 => Fault::NeverWakes,
        1 => Fault::Dies { at },
        2 => Fault::Returns { at, after: random.between(5, 120) },
        3 => Fault::Hangs { at },
        4 => Fault::Stalls { at },
        _ => Fault::DiskFails { at },
    }
}
