//! The result that a run aims for on its machines.

use serde::{Deserialize, Serialize};

use crate::inventory::identity::DiskIdentity;
use crate::inventory::{Firmware, Inventory};
use crate::plan::report::{DiskAction, Report};
use crate::plan::{Loader, Plan};

/// The target of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The plan common to all machines.
    pub plan: Plan,
    /// Disk names that are not erased, whatever the plan says (`-X`).
    pub left_out: Vec<String>,
    /// Why the golden system cannot be made bootable on the other firmware type, if that is the case.
    pub other_firmware: Option<String>,
}

impl Target {
    /// What would happen to the disks of a machine.
    #[must_use]
    pub fn report(&self, machine: &Inventory) -> Report {
        let mut report = Report::new(&self.plan.storage, &machine.disks);
        let names = report.disks.iter().filter_map(|d| d.disk.as_ref().map(|disk| &disk.name));
        let left_out = names.into_iter().find(|name| self.left_out.contains(name));
        let left_out = left_out.map(|name| format!("{name} is the chosen disk, but it is left out (-X)"));
        if let Some(reason) = left_out.or_else(|| self.firmware_refusal(machine.firmware)) {
            for disk in &mut report.disks {
                disk.outcome = DiskAction::Refuse(reason.clone());
            }
        }
        report
    }

    /// Why a machine with this firmware would not boot the result, if that is the case.
    fn firmware_refusal(&self, firmware: Firmware) -> Option<String> {
        let converted = self.plan.boot.loader == Loader::Grub && firmware != self.plan.boot.golden_firmware;
        crate::boot::refusal(&self.plan, firmware)
            .or_else(|| self.other_firmware.clone().filter(|_| converted))
    }

    /// The disks as the operator named them.
    #[must_use]
    pub fn names(&self) -> String {
        self.plan.storage.disks.iter().map(|plan| plan.disk.to_string()).collect::<Vec<_>>().join(" and ")
    }
}

/// Why a machine is not erased, if that is the case.
#[must_use]
pub fn refusal(report: &Report) -> Option<String> {
    let refused = report.disks.iter().filter_map(|disk| match &disk.outcome {
        DiskAction::Refuse(reason) => Some((disk, reason)),
        DiskAction::Erase(_) => None,
    });
    // A disk that is spared only because of another one is the less informative case.
    refused.min_by_key(|(disk, _)| disk.because_of.is_some()).map(|(_, reason)| reason.clone())
}

/// The disks of a report.
#[must_use]
pub fn identities(report: &Report) -> Vec<DiskIdentity> {
    let disks = report.disks.iter().filter_map(|disk| disk.disk.as_ref());
    disks.map(|disk| disk.identity.clone()).collect()
}
