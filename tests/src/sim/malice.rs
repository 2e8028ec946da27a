//! Members that lie: with the stream's key they forward blocks of their own, complain of correct neighbours,
//! and claim to have received data that were never sent. All this happens among failing links and dying
//! nodes.

use ka::chain::{NodeId, Offset, ProgressSample, Report, Spent, Trouble};
use ka::failure::FailureKind;
use ka::proof::{Forged, Proof};
use ka::seal::Block;
use ka::wire::control::ToController;

use super::host::Fate;
use super::invariants::{
    Violation, invariant_a_copy_is_the_golden_nodes, invariant_forgeries_are_found_where_there_are_some,
    invariant_who_is_named_has_forged,
};
use super::network::HostId;
use super::random::Random;
use super::schedule::Schedule;
use super::world::World;

/// What a host does in addition to its duties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Malice {
    /// It forwards blocks of its own.
    pub forges: bool,
    /// It complains of its neighbours.
    pub accuses: bool,
    /// It claims that the data it received were forged.
    pub pretends: bool,
    /// Once it has a part of the stream it accepts no more, and reports that all is well.
    pub withholds: bool,
}

impl Malice {
    /// Whether there is any malice.
    #[must_use]
    pub fn lies(self) -> bool {
        self != Self::default()
    }

    fn of(random: &mut Random) -> Self {
        let mut malice = Self::default();
        match random.index(6) {
            0..=2 => malice.forges = true,
            3 => malice.accuses = true,
            4 => (malice.forges, malice.accuses) = (true, true),
            _ => malice.pretends = true,
        }
        malice
    }
}

impl Schedule {
    /// The schedule of `seed`, with its deaths and bad links, in which some of the nodes lie; often all but
    /// one.
    #[must_use]
    pub fn with_liars(seed: u64) -> Self {
        let mut schedule = Self::generate(seed);
        let random = &mut Random::new(seed ^ 0x6c69_6172);
        let nodes = schedule.nodes();
        let honest = 1 + random.index(nodes);
        let most = random.chance(30);
        schedule.malice = (0..=nodes)
            .map(|host| {
                let lies = host > 0 && host != honest && (most || random.chance(25));
                if lies { Malice::of(random) } else { Malice::default() }
            })
            .collect();
        schedule
    }

    /// The schedule of `seed` without faults, except that one node accepts no more from some time on, and
    /// reports that all is well.
    #[must_use]
    pub fn with_a_withholder(seed: u64) -> Self {
        let mut schedule = Self::with_a_slow_host(seed);
        schedule.faults.clear();
        let withholder = 1 + Random::new(!seed).index(schedule.nodes());
        schedule.malice = vec![Malice::default(); schedule.nodes() + 1];
        schedule.malice[withholder].withholds = true;
        schedule
    }

    /// What a host does in addition to its duties.
    #[must_use]
    pub fn malice(&self, host: HostId) -> Malice {
        self.malice.get(host).copied().unwrap_or_default()
    }

    /// Whether the stream's roots are sent and compared: without liars they change nothing.
    pub(super) fn proves(&self) -> bool {
        !self.malice.is_empty()
    }
}

impl World<'_> {
    /// Whether a host accepts nothing more, as a liar that blocks the chain.
    pub(super) fn withholds(&self, host: HostId) -> bool {
        let has_some = self.hosts[host].member.verified().0 > self.schedule.length / 4;
        self.schedule.malice(host).withholds && has_some
    }

    /// A host's report about itself; one that withholds reports that it has everything and waits for nothing.
    pub(super) fn sample(&self, host: HostId) -> ProgressSample {
        let sample = self.hosts[host].sample();
        if !self.withholds(host) {
            return sample;
        }
        let spent = Spent { running: sample.spent.running, ..Spent::default() };
        ProgressSample { spent, verified: Offset(u64::MAX), written: Offset(u64::MAX) }
    }

    /// Each forger's own blocks: chosen once, so that all its successors get the same.
    pub(super) fn prepare_forgeries(&mut self) {
        let schedule = self.schedule;
        for host in 0..self.hosts.len() {
            if schedule.malice(host).forges {
                let count = 1 + self.random.index(3);
                let numbers = (0..count).map(|_| self.random.index(self.stream.blocks.len())).collect();
                self.hosts[host].forgeries = self.stream.forge(&numbers, &mut self.random);
            }
        }
    }

    /// The block that a host sends to its successor in place of the original.
    pub(super) fn perhaps_forge(&self, host: HostId, block: Block) -> Block {
        let own = self.hosts[host].forgeries.iter();
        let mut own = own.filter(|(number, _)| self.stream.blocks.get(*number) == Some(&block));
        own.next().map_or(block, |(_, forged)| forged.clone())
    }

    /// Whether a member forged this block for this position.
    pub(super) fn is_forgery(&self, number: usize, block: &Block) -> bool {
        self.hosts
            .iter()
            .any(|host| host.forgeries.iter().any(|(at, forged)| *at == number && forged == block))
    }

    /// The liar complains of a neighbour in the current chain.
    pub(super) fn perhaps_accuse(&mut self, host: HostId) {
        if !self.schedule.malice(host).accuses || !self.random.chance(40) {
            return;
        }
        let Some(place) = self.chain.iter().position(|member| *member == host) else { return };
        let beside = [place.checked_sub(1), Some(place + 1)];
        let beside: Vec<HostId> =
            beside.into_iter().flatten().filter_map(|place| self.chain.get(place).copied()).collect();
        let Some(about) = beside.get(self.random.index(beside.len())).copied() else { return };
        const TROUBLES: [Trouble; 4] =
            [Trouble::Reset, Trouble::Silent, Trouble::Damaged, Trouble::Impossible];
        let trouble = TROUBLES[self.random.index(TROUBLES.len())];
        let Some(epoch) = self.hosts[host].member.epoch() else { return };
        self.note(|| format!("host {host} lies about host {about}: {trouble}"));
        let (about, stream) = (self.hosts[about].id, self.stream.key.stream);
        let report = Report { epoch, about, trouble };
        self.tell_hub(host, ToController::Complaint { stream, report });
    }

    /// A node receives a root.
    pub(super) fn on_proof(&mut self, host: HostId, proof: Proof) -> Result<(), Violation> {
        if self.hosts[host].fate != Fate::Running {
            return Ok(());
        }
        self.hosts[host].is_proven |= proof.last.is_some();
        if !self.schedule.proves() {
            return self.perhaps_complete(host);
        }
        match self.hosts[host].checker.on_proof(proof) {
            Ok(()) => self.perhaps_complete(host),
            Err(forged) => self.on_forged(host, forged),
        }
    }

    /// All content is written: the copy is complete once it is proven.
    pub(super) fn perhaps_complete(&mut self, host: HostId) -> Result<(), Violation> {
        let Some(claimed) = self.hosts[host].claimed else { return Ok(()) };
        if self.hosts[host].fate != Fate::Running {
            return Ok(());
        }
        if self.schedule.malice(host).pretends {
            let sender = Some(NodeId(u32::try_from(self.random.index(self.hosts.len())).unwrap_or(0)));
            let forged = Forged { from: 0, to: 1, sender };
            return self.give_up(host, forged);
        }
        let node = &self.hosts[host];
        let proven = if self.schedule.proves() { node.checker.on_end(claimed) } else { Ok(node.is_proven) };
        match proven {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.complete(host);
                invariant_a_copy_is_the_golden_nodes(self, host)
            }
            Err(forged) => self.on_forged(host, forged),
        }
    }

    /// A node has found that it was deceived.
    pub(super) fn on_forged(&mut self, host: HostId, forged: Forged) -> Result<(), Violation> {
        self.note(|| format!("host {host} finds: {forged}, from {:?}", forged.sender));
        invariant_forgeries_are_found_where_there_are_some(self, host)?;
        self.outcome.found += 1;
        self.give_up(host, forged)
    }

    fn give_up(&mut self, host: HostId, forged: Forged) -> Result<(), Violation> {
        let node = &mut self.hosts[host];
        node.fate = Fate::Failed;
        node.writing = None;
        node.member.on_writer_failed();
        self.settled = false;
        if let Some(stream) = self.hosts[host].stream {
            self.say(host, ToController::Forged { stream, forged });
        }
        self.fail(host, FailureKind::Stream { reason: forged.to_string() }, true);
        Ok(())
    }

    /// The hub learns of a forgery. If an honest node can name the culprit, that node did send it the forged
    /// data.
    pub(super) fn hub_hears_of_forgery(&mut self, host: HostId, forged: Forged) -> Result<(), Violation> {
        if let (false, Some(sender)) = (self.schedule.malice(host).lies(), forged.sender) {
            self.outcome.named += 1;
            let sender = self.host_of(sender);
            invariant_who_is_named_has_forged(self, host, sender)?;
        }
        Ok(())
    }
}
