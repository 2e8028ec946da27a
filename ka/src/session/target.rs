//! What a run makes of the machines that it takes.

use serde::{Deserialize, Serialize};

use crate::inventory::identity::DiskIdentity;
use crate::inventory::{Firmware, Inventory};
use crate::plan::report::{Outcome, Report};
use crate::plan::{Loader, Plan};

/// What is to become of the machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What is the same for all of them.
    pub plan: Plan,
    /// Disks by name that are not erased, whatever the plan says (`-X`).
    pub left_out: Vec<String>,
    /// Why the golden system cannot be made to start by the other firmware, if it cannot.
    pub other_firmware: Option<String>,
}

impl Target {
    /// What would become of the disks of a machine.
    #[must_use]
    pub fn report(&self, machine: &Inventory) -> Report {
        let mut report = Report::new(&self.plan.storage, &machine.disks);
        let names = report.disks.iter().filter_map(|d| d.disk.as_ref().map(|disk| &disk.name));
        let left_out = names.into_iter().find(|name| self.left_out.contains(name));
        let left_out =
            left_out.map(|name| format!("{name} is the disk that is meant, and it is left out (-X)"));
        if let Some(reason) = left_out.or_else(|| self.firmware_refusal(machine.firmware)) {
            for disk in &mut report.disks {
                disk.outcome = Outcome::Refuse(reason.clone());
            }
        }
        report
    }

    /// Why a machine with this firmware would not boot what the run makes, if it would not.
    fn firmware_refusal(&self, firmware: Firmware) -> Option<String> {
        let converted = self.plan.boot.loader == Loader::Grub && firmware != self.plan.boot.golden_firmware;
        crate::boot::refusal(&self.plan, firmware)
            .or_else(|| self.other_firmware.clone().filter(|_| converted))
    }

    /// The disks as a person named them.
    #[must_use]
    pub fn names(&self) -> String {
        self.plan.storage.disks.iter().map(|plan| plan.disk.to_string()).collect::<Vec<_>>().join(" and ")
    }
}

/// Why a machine is not erased, if it is not.
#[must_use]
pub fn refusal(report: &Report) -> Option<String> {
    let refused = report.disks.iter().filter_map(|disk| match &disk.outcome {
        Outcome::Refuse(reason) => Some((disk, reason)),
        Outcome::Erase(_) => None,
    });
    // A disk that is only spared because of another one says less than that one.
    refused.min_by_key(|(disk, _)| disk.because_of.is_some()).map(|(_, reason)| reason.clone())
}

/// Which disks a report is about.
#[must_use]
pub fn identities(report: &Report) -> Vec<DiskIdentity> {
    let disks = report.disks.iter().filter_map(|disk| disk.disk.as_ref());
    disks.map(|disk| disk.identity.clone()).collect()
}
