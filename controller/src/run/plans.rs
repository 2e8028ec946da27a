//! The plan of each node: what is the same for all, and what is the node's own.

use std::net::IpAddr;
use std::sync::Arc;

use ka::inventory::Inventory;
use ka::mac::Mac;
use ka::plan::{FirstBoot, Plan};

use super::booted::Booted;
use super::names::Names;
use super::select::Target;
use crate::golden::cards::{self, Card};

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
}

impl Plans {
    /// Every node is asked for the same, and keeps the golden node's name.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, names: Names::default(), cards: Vec::new(), booted: None }
    }

    /// Why a machine is not touched, if it is not.
    pub(super) fn refusal(&self, inventory: &Inventory) -> Option<String> {
        super::select::refusal(&self.target.report(inventory))
    }

    /// The plan of the machine `mac`, which reaches this one at `local`.
    pub(super) fn of(&self, mac: Option<Mac>, local: IpAddr) -> Plan {
        let mut plan = self.target.plan.clone();
        let Some(mac) = mac else { return plan };
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
        plan
    }
}
