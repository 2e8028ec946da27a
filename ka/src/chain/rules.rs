//! The rules that recovery rests on, each with a switch, for one purpose: the simulator proves that it
//! would notice if a rule did not hold.

/// What a member obeys. Everywhere but in that proof: all of it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A member that has lost its successor repeats its last tail position.
    pub frozen_tail: bool,
    /// Nobody leaves before the release.
    pub hold_until_released: bool,
    /// Hellos and acks of older epochs are refused.
    pub old_epochs_refused: bool,
    /// Hellos of newer epochs wait.
    pub hellos_parked: bool,
    /// Only what has verified counts.
    pub verified_positions: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            frozen_tail: true,
            hold_until_released: true,
            old_epochs_refused: true,
            hellos_parked: true,
            verified_positions: true,
        }
    }
}
