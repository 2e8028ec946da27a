//! The plan of each node: the part common to all, and the node's own part.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::cards::{self, Card};
use super::names::Names;
use super::target::{self, Target};
use crate::disk::choice::{DiskChoice, Expect};
use crate::inventory::identity::{self, DiskIdentity, Mismatch};
use crate::inventory::{Disk, Inventory};
use crate::keys::Key;
use crate::mac::Mac;
use crate::plan::{ConfirmedPlan, DiskPlan, FirstBoot, NodeName};

/// The plans of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plans {
    /// The part common to all nodes, and the machines that it fits.
    pub target: Target,
    /// Their names.
    pub names: Names,
    /// The golden node's network cards.
    pub cards: Vec<Card>,
    /// Where they report their first boot, if a report is expected.
    pub first_boots: Option<FirstBoots>,
    /// Whether an operator can be asked about a machine whose disks cannot be recognised.
    pub ask: bool,
}

/// Where nodes report their first boot, and how they authenticate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBoots {
    /// The port of this machine.
    pub port: u16,
    /// The source of every node's own secret.
    pub secret: Key,
}

impl FirstBoots {
    /// The secret of a machine. It stays the same in all rounds.
    #[must_use]
    pub fn token(&self, mac: Mac) -> String {
        let digest = blake3::keyed_hash(&self.secret, &mac.0);
        digest.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Secrets never reach a log.
impl fmt::Debug for FirstBoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstBoots").field("port", &self.port).finish_non_exhaustive()
    }
}

/// The confirmed disks, by machine.
pub(super) type Confirmed = BTreeMap<Mac, Vec<DiskIdentity>>;

/// The disks of one node that a run erases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDisks {
    choices: Vec<DiskChoice>,
    identities: Vec<DiskIdentity>,
}

/// Why a node's disks are not erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// They do not match the plan, or are not the confirmed ones.
    Refused(String),
    /// Nothing shows whether they are the confirmed ones.
    Unsure(String),
}

impl OwnDisks {
    /// The disks.
    pub(super) fn identities(&self) -> &[DiskIdentity] {
        &self.identities
    }
}

impl Plans {
    /// Every node gets the same plan, and keeps the golden node's name.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, names: Names::default(), cards: Vec::new(), first_boots: None, ask: false }
    }

    /// Determines the disks of a machine: the confirmed ones, whatever their names after a reboot; or those
    /// in the plan, if none were confirmed yet.
    pub(super) fn settle(
        &self,
        confirmed: &Confirmed,
        mac: Option<Mac>,
        machine: &Inventory,
    ) -> Result<OwnDisks, Unsettled> {
        let mut target = self.target.clone();
        if let Some(confirmed) = mac.and_then(|mac| confirmed.get(&mac)) {
            for (plan, identity) in target.plan.storage.disks.iter_mut().zip(confirmed) {
                let disk = identity::find(identity, &machine.disks).map_err(|mismatch| {
                    let reason = format!("{}: {mismatch}", plan.disk);
                    match mismatch {
                        Mismatch::Unknown => Unsettled::Unsure(reason),
                        Mismatch::Other { .. } => Unsettled::Refused(reason),
                    }
                })?;
                plan.disk = renamed(plan, disk, &machine.disks);
            }
        }
        let report = target.report(machine);
        if let Some(reason) = target::refusal(&report) {
            return Err(Unsettled::Refused(reason));
        }
        Ok(OwnDisks {
            choices: target.plan.storage.disks.into_iter().map(|plan| plan.disk).collect(),
            identities: target::identities(&report),
        })
    }

    /// The disks in the plan, as the operator has just confirmed them; `None` if they are unsuitable.
    pub(super) fn as_shown(&self, confirmed: &[DiskIdentity], machine: &Inventory) -> Option<OwnDisks> {
        let report = self.target.report(machine);
        let identities = target::identities(&report);
        let choices = self.target.plan.storage.disks.iter().map(|plan| plan.disk.clone()).collect();
        let is_shown = report.is_accepted() && confirmed == identities;
        is_shown.then_some(OwnDisks { choices, identities })
    }

    /// The plan of the machine `mac`, which has the name `name` and reaches this one at `local`.
    pub(super) fn of(
        &self,
        mac: Option<Mac>,
        name: Option<&NodeName>,
        local: IpAddr,
        own: &OwnDisks,
    ) -> ConfirmedPlan {
        let mut plan = self.target.plan.clone();
        for (disk, choice) in plan.storage.disks.iter_mut().zip(&own.choices) {
            disk.disk.clone_from(choice);
        }
        let disks = own.identities.clone();
        let Some(mac) = mac else { return ConfirmedPlan { plan, disks } };
        plan.finish.name = name.cloned();
        let own = plan.finish.name.as_ref().and_then(|name| name.address.as_ref());
        plan.finish.golden = cards::golden_host(&self.cards, local, own);
        plan.finish.first_boot = self.first_boots.as_ref().map(|boots| {
            let controller = SocketAddr::new(local.to_canonical(), boots.port).to_string();
            FirstBoot { controller, token: boots.token(mac) }
        });
        ConfirmedPlan { plan, disks }
    }
}

/// The choice that matches this confirmed disk: the original one, or its current name if the original now
/// matches another disk.
fn renamed(plan: &DiskPlan, disk: &Disk, disks: &[Disk]) -> DiskChoice {
    let means_it = plan.disk.look_at(disks).is_ok_and(|found| found.name == disk.name);
    match &plan.disk {
        choice if means_it => choice.clone(),
        DiskChoice::Name { expect, .. } => {
            DiskChoice::Name { name: disk.name.clone(), expect: expect.clone() }
        }
        DiskChoice::Auto { .. } => DiskChoice::Name { name: disk.name.clone(), expect: Expect::default() },
        // On several paths it has only one name.
        choice @ DiskChoice::ById(_) => choice.clone(),
    }
}
