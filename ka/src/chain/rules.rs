//! The rules that recovery rests on, each with a switch. The simulator uses the switches to prove that it
//! would notice a broken rule.

/// The rules that a member obeys. Outside that proof, it obeys all of them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A member that has lost its successor repeats its last tail position.
    pub frozen_tail: bool,
    /// No member leaves before the release.
    pub hold_until_released: bool,
    /// Hellos and acks of older epochs are refused.
    pub old_epochs_refused: bool,
    /// Hellos of newer epochs wait.
    pub hellos_parked: bool,
    /// Only verified bytes count.
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
