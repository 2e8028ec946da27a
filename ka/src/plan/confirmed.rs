//! A plan with the disks that were confirmed for it: nothing is written without one.

use super::{DiskPlan, Plan, Storage};
use crate::inventory::identity::DiskIdentity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of the plan's structure. It rises with every change that an older node would misread.
pub const PLAN_VERSION: u32 = 1;

/// A plan for one machine, with its confirmed disks: nothing else may be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedPlan {
    /// The plan.
    pub plan: Plan,
    /// The identity of each of the plan's disks when it was confirmed.
    pub disks: Vec<DiskIdentity>,
}

impl ConfirmedPlan {
    /// The layout of the disks; `None` if a different number of disks was confirmed.
    #[must_use]
    pub fn storage(&self) -> Option<ConfirmedStorage> {
        ConfirmedStorage::new(self.plan.storage.clone(), self.disks.clone())
    }
}

/// The disks that an operator has confirmed, and their new layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfirmedStorage {
    storage: Storage,
    identities: Vec<DiskIdentity>,
}

impl ConfirmedStorage {
    /// Takes one identity for each disk of the plan. `None` if there are more or fewer.
    #[must_use]
    pub fn new(storage: Storage, identities: Vec<DiskIdentity>) -> Option<Self> {
        (storage.disks.len() == identities.len()).then_some(Self { storage, identities })
    }

    /// The layout of the disks.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The disks, each with its identity at confirmation.
    pub fn disks(&self) -> impl Iterator<Item = (&DiskPlan, &DiskIdentity)> {
        self.storage.disks.iter().zip(&self.identities)
    }
}

/// A plan as it travels: the version is read first, and the rest only if that version is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionedPlan {
    /// A plan of this version.
    Known(Box<ConfirmedPlan>),
    /// A plan of another version; nothing else about it can be read.
    Unknown(u32),
}

/// A plan whose version this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan has version {0}, and this node's agent knows version {PLAN_VERSION}: run `kactl image` on the golden node, \
     and boot this node again"
)]
pub struct UnknownPlan(pub u32);

impl VersionedPlan {
    /// The plan.
    ///
    /// # Errors
    /// The unknown version.
    pub fn open(self) -> Result<Box<ConfirmedPlan>, UnknownPlan> {
        match self {
            Self::Known(plan) => Ok(plan),
            Self::Unknown(version) => Err(UnknownPlan(version)),
        }
    }
}

impl From<ConfirmedPlan> for VersionedPlan {
    fn from(plan: ConfirmedPlan) -> Self {
        Self::Known(Box::new(plan))
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    body: Vec<u8>,
}

impl Serialize for VersionedPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let envelope = match self {
            Self::Known(plan) => Envelope {
                version: PLAN_VERSION,
                body: postcard::to_stdvec(plan).map_err(serde::ser::Error::custom)?,
            },
            Self::Unknown(version) => Envelope { version: *version, body: Vec::new() },
        };
        envelope.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for VersionedPlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Envelope { version, body } = Envelope::deserialize(deserializer)?;
        if version != PLAN_VERSION {
            return Ok(Self::Unknown(version));
        }
        match postcard::take_from_bytes(&body).map_err(serde::de::Error::custom)? {
            (plan, []) => Ok(Self::Known(plan)),
            _ => Err(serde::de::Error::custom("bytes behind the plan")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Firmware;
    use crate::plan::{BootPlan, FinalAction, FinishPlan, Loader};

    #[test]
    fn a_plan_of_another_version_says_so() {
        let plan = Plan {
            run: "kainstall".into(),
            storage: Storage::default(),
            boot: BootPlan::new(Loader::Grub, Firmware::Bios),
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        };
        let versioned = VersionedPlan::from(ConfirmedPlan { plan, disks: Vec::new() });
        let mut bytes = postcard::to_stdvec(&versioned).unwrap();
        let back: VersionedPlan = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back, versioned);
        // The version is the first byte. Anything may follow.
        bytes[0] = 77;
        let later: VersionedPlan = postcard::from_bytes(&bytes).unwrap();
        let text = later.open().unwrap_err().to_string();
        assert!(text.contains("version 77") && text.contains("kactl image"), "{text}");
        bytes[0] = 1;
        bytes.truncate(bytes.len() - 1);
        assert!(postcard::from_bytes::<VersionedPlan>(&bytes).is_err());
    }
}
