//! Machines that must prove their TPM: those that have once become a clone with it.

use std::collections::BTreeMap;

use ka::mac::Mac;
use ka::tpm::Fingerprint;

use super::record::{Pin, Record};

/// The pins at the beginning of a run.
#[derive(Clone, Debug, Default)]
pub struct Pins(BTreeMap<Mac, Pin>);

impl Pins {
    /// The pins in these records.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Self {
        Self(records.into_iter().filter_map(|record| Some((record.mac, record.tpm?))).collect())
    }

    /// Checks a machine that claims this card, and has proven this endorsement key.
    ///
    /// # Errors
    /// The reason for the rejection, with the remedy.
    pub fn check(&self, card: Option<Mac>, proven: Option<Fingerprint>) -> Result<(), String> {
        let Some((mac, pin)) = card.and_then(|mac| Some((mac, self.0.get(&mac)?))) else { return Ok(()) };
        let found = match proven {
            Some(key) if key == pin.key => return Ok(()),
            Some(_) => "has another TPM than",
            None => "has not proven",
        };
        Err(format!(
            "it claims the card {mac} and {found} the TPM with which {mac} was cloned in the run '{}': if its board or \
             TPM was replaced or switched off, 'kactl machines unpin {mac}' lets it join the next run",
            pin.run
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::tpm::Point;

    #[test]
    fn only_the_pinned_tpm_passes() {
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let key = |byte| Fingerprint::of(&Point { x: [byte; 32], y: [byte; 32] });
        let pin = Pin { key: key(1), run: "lab".into(), at: 7 };
        let records = [Record { tpm: Some(pin), ..Record::new(mac(1), 5) }, Record::new(mac(2), 5)];
        let pins = Pins::of(records);
        for (card, proven, passes) in [
            (Some(mac(1)), Some(key(1)), true),
            (Some(mac(1)), Some(key(2)), false),
            (Some(mac(1)), None, false),
            (Some(mac(2)), None, true),
            (Some(mac(2)), Some(key(1)), true),
            (Some(mac(3)), Some(key(2)), true),
            (None, None, true),
        ] {
            let outcome = pins.check(card, proven);
            assert_eq!(outcome.is_ok(), passes, "{card:?} {proven:?}: {outcome:?}");
        }
        let reason = pins.check(Some(mac(1)), None).unwrap_err();
        assert!(reason.contains("run 'lab'") && reason.contains("kactl machines unpin 02:00:00:00:00:01"));
    }
}
