//! The record of one machine.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use ka::inventory::{Firmware, Inventory};
use ka::keys::Key;
use ka::mac::Mac;
use ka::tpm::Fingerprint;

/// The version of the files. A later version may add fields, which are kept; a file with a higher number is
/// not written to.
pub const VERSION: u32 = 1;

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// The boot card.
    pub mac: Mac,
    /// Its name; empty if it has none.
    #[serde(default)]
    pub name: String,
    /// Its last address.
    pub address: Option<IpAddr>,
    /// Its maker.
    #[serde(default)]
    pub maker: String,
    /// Its model.
    #[serde(default)]
    pub model: String,
    /// Its serial number.
    #[serde(default)]
    pub serial: String,
    /// Memory in bytes.
    #[serde(default)]
    pub memory: u64,
    /// `bios` or `uefi`; `None` if only stage1 has reported.
    pub firmware: Option<String>,
    /// Its other cards.
    #[serde(default)]
    pub cards: Vec<String>,
    /// Its disks.
    #[serde(default)]
    pub disks: Vec<DiskRecord>,
    /// When it was first seen, in seconds since 1970 (UTC).
    pub first_seen: u64,
    /// When it last joined.
    pub last_seen: u64,
    /// Its agent's public key of that boot, in hexadecimal.
    pub key: Option<String>,
    /// The outcome of its last run.
    pub last_run: Option<LastRun>,
    /// The TPM that the machine must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Pin>,
    /// Fields that a later version of ka adds.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A TPM that a machine must prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its endorsement key.
    pub key: Fingerprint,
    /// The run in which the machine first became a complete clone with it.
    pub run: String,
    /// The time of that, in seconds since 1970 (UTC).
    pub at: u64,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// The kernel's name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The model.
    #[serde(default)]
    pub model: String,
    /// The serial number.
    #[serde(default)]
    pub serial: String,
}

/// The outcome of a machine in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The run's name.
    pub run: String,
    /// The time of the last change, in seconds since 1970 (UTC).
    pub at: u64,
    /// The machine's state.
    pub outcome: RunOutcome,
    /// The step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a machine got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// It waits for admission.
    Waiting,
    /// It is being cloned. If no run is active, the outcome is unknown.
    Running,
    /// It is a complete clone.
    Complete,
    /// It has failed.
    Failed,
}

impl RunOutcome {
    /// The word for it in all output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

impl Record {
    /// Creates the record of a new machine.
    #[must_use]
    pub fn new(mac: Mac, now: u64) -> Self {
        Self {
            version: VERSION,
            mac,
            name: String::new(),
            address: None,
            maker: String::new(),
            model: String::new(),
            serial: String::new(),
            memory: 0,
            firmware: None,
            cards: Vec::new(),
            disks: Vec::new(),
            first_seen: now,
            last_seen: now,
            key: None,
            last_run: None,
            tpm: None,
            more: Map::new(),
        }
    }

    /// Updates the record with the machine's report. Stage1 reports neither disks nor memory, so their
    /// absence removes nothing.
    pub fn learn(&mut self, inventory: &Inventory) {
        let product = &inventory.product;
        for (known, said) in [
            (&mut self.maker, &product.maker),
            (&mut self.model, &product.model),
            (&mut self.serial, &product.serial),
            (&mut self.name, &inventory.hostname),
        ] {
            if !said.is_empty() {
                known.clone_from(said);
            }
        }
        if inventory.memory == 0 && inventory.disks.is_empty() {
            return;
        }
        self.memory = inventory.memory;
        self.firmware = Some(firmware(inventory.firmware).to_owned());
        self.cards = inventory.cards.iter().skip(1).map(|card| card.mac.clone()).collect();
        self.disks = inventory
            .disks
            .iter()
            .map(|disk| DiskRecord {
                name: disk.name.clone(),
                size: disk.size,
                model: disk.model.clone(),
                serial: disk.serial.clone(),
            })
            .collect();
    }

    /// The machine's key of its last boot.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        let text = self.key.as_deref().filter(|text| text.len() == 64 && text.is_ascii())?;
        let mut key = Key::default();
        for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(key)
    }

    /// Stores the machine's key.
    pub fn set_key(&mut self, key: &Key) {
        self.key = Some(key.iter().map(|byte| format!("{byte:02x}")).collect());
    }

    /// Whether the machine was ever admitted to a run.
    #[must_use]
    pub fn took_part(&self) -> bool {
        let admitted = |last: &LastRun| last.outcome != RunOutcome::Waiting;
        self.tpm.is_some() || self.last_run.as_ref().is_some_and(admitted)
    }

    /// The machine's name for people.
    #[must_use]
    pub fn label(&self) -> String {
        if self.name.is_empty() { self.mac.to_string() } else { self.name.clone() }
    }
}

fn firmware(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "bios",
        Firmware::Uefi => "uefi",
    }
}

/// Seconds since 1970 (UTC).
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::inventory::{Disk, Product};

    #[test]
    fn stage1_takes_nothing_away() {
        let mut record = Record::new(Mac([2, 0, 0, 0, 0, 1]), 7);
        let disks = vec![Disk { name: "sda".into(), size: 9, ..Disk::default() }];
        let product = Product { model: "X1".into(), ..Product::default() };
        let whole = Inventory { hostname: "n1".into(), memory: 1, disks, product, ..Inventory::default() };
        record.learn(&whole);
        let known = record.clone();
        record.learn(&Inventory::default());
        assert_eq!(record, known);
        assert_eq!((record.disks.len(), record.model.as_str(), record.label().as_str()), (1, "X1", "n1"));
        assert_eq!(record.firmware.as_deref(), Some("bios"));
    }

    #[test]
    fn a_key_reads_back() {
        let mut record = Record::new(Mac([2, 0, 0, 0, 0, 1]), 7);
        assert_eq!(record.key(), None);
        record.set_key(&[0xab; 32]);
        assert_eq!(record.key(), Some([0xab; 32]));
        for bad in ["", "zz", &"é".repeat(32), &"+1".repeat(32)[..63]] {
            record.key = Some(bad.to_owned());
            assert_eq!(record.key(), None, "{bad}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_kept() {
        let mut value = serde_json::to_value(Record::new(Mac([2, 0, 0, 0, 0, 1]), 7)).unwrap();
        value["rack"] = "r7".into();
        let record: Record = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(record).unwrap(), value);
    }
}
