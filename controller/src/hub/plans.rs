//! The plan of each node: what is the same for all, and what is the node's own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ka::disk::choice::{DiskChoice, Expect};
use ka::inventory::identity::{self, DiskIdentity, Mismatch};
use ka::inventory::{Disk, Inventory};
use ka::mac::Mac;
use ka::plan::{ConfirmedPlan, DiskPlan, FirstBoot};

use crate::golden::cards::{self, Card};
use crate::hub::Target;
use crate::lists::names::Names;
use crate::rendezvous::booted::Booted;

/// What a run's nodes are asked for.
pub struct Plans {
    /// What is the same for all, and which machines it fits.
    pub target: Target,
    /// What they are called.
    pub names: Names,
    /// The golden node's network cards.
    pub cards: Vec<Card>,
    /// Who is told of a node's first boot, if somebody waits for that.
    pub booted: Option<Arc<Booted>>,
    /// The disks that were confirmed, by machine. They stay the same in every round.
    pub confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
    /// There is somebody to ask about a machine whose disks cannot be recognised again.
    pub ask: bool,
}

/// The disks of one node that a run erases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnDisks {
    choices: Vec<DiskChoice>,
    identities: Vec<DiskIdentity>,
}

/// Why a node's disks are not erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// They are not as the plan wants them, or not those that were confirmed.
    Refused(String),
    /// Nothing tells whether they are those that were confirmed.
    Unsure(String),
}

impl Plans {
    /// Every node is asked for the same, and keeps the golden node's name.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let (names, confirmed) = (Names::default(), BTreeMap::new());
        Self { target, names, cards: Vec::new(), booted: None, confirmed, ask: false }
    }

    /// Keeps which disks of a machine were confirmed, unless some were before.
    pub(super) fn pin(&mut self, mac: Mac, own: &OwnDisks) {
        self.confirmed.entry(mac).or_insert_with(|| own.identities.clone());
    }

    /// Finds out which disks of a machine are meant: those that were confirmed, whatever they are called since it
    /// has booted again; or those that the plan says, if none were yet.
    pub(super) fn settle(&self, mac: Option<Mac>, machine: &Inventory) -> Result<OwnDisks, Unsettled> {
        let mut target = self.target.clone();
        if let Some(confirmed) = mac.and_then(|mac| self.confirmed.get(&mac)) {
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
        if let Some(reason) = crate::hub::refusal(&report) {
            return Err(Unsettled::Refused(reason));
        }
        Ok(OwnDisks {
            choices: target.plan.storage.disks.into_iter().map(|plan| plan.disk).collect(),
            identities: crate::hub::identities(&report),
        })
    }

    /// The disks that the plan says, as somebody has just confirmed them; none if they do not serve.
    pub(super) fn as_shown(&self, mac: Mac, machine: &Inventory) -> Option<OwnDisks> {
        let report = self.target.report(machine);
        let identities = crate::hub::identities(&report);
        let choices = self.target.plan.storage.disks.iter().map(|plan| plan.disk.clone()).collect();
        let is_shown = report.is_accepted() && self.confirmed.get(&mac) == Some(&identities);
        is_shown.then_some(OwnDisks { choices, identities })
    }

    /// The plan of the machine `mac`, which reaches this one at `local`.
    pub(super) fn of(&self, mac: Option<Mac>, local: IpAddr, own: &OwnDisks) -> ConfirmedPlan {
        let mut plan = self.target.plan.clone();
        for (disk, choice) in plan.storage.disks.iter_mut().zip(&own.choices) {
            disk.disk.clone_from(choice);
        }
        let disks = own.identities.clone();
        let Some(mac) = mac else { return ConfirmedPlan { plan, disks } };
        plan.finish.name = self.names.of(mac).cloned();
        let own = plan.finish.name.as_ref().and_then(|name| name.address.as_ref());
        plan.finish.golden = cards::golden_host(&self.cards, local, own);
        plan.finish.first_boot = self.booted.as_ref().and_then(|booted| {
            let controller = std::net::SocketAddr::new(local.to_canonical(), booted.port).to_string();
            match booted.token(mac) {
                Ok(token) => Some(FirstBoot { controller, token }),
                Err(error) => {
                    log::error!("{mac} cannot tell of its first boot: no random number: {error}");
                    None
                }
            }
        });
        ConfirmedPlan { plan, disks }
    }
}

/// The choice that means this disk, which was confirmed: the same one, or its present name if that means another.
fn renamed(plan: &DiskPlan, disk: &Disk, disks: &[Disk]) -> DiskChoice {
    let means_it = plan.disk.look_at(disks).is_ok_and(|found| found.name == disk.name);
    match &plan.disk {
        choice if means_it => choice.clone(),
        DiskChoice::Name { expect, .. } => {
            DiskChoice::Name { name: disk.name.clone(), expect: expect.clone() }
        }
        DiskChoice::Auto { .. } => DiskChoice::Name { name: disk.name.clone(), expect: Expect::default() },
        // On several paths it has one name.
        choice @ DiskChoice::ById(_) => choice.clone(),
    }
}
