//! A run: copies this machine onto N nodes.
//!
//! [`run`] is the outline, and each function that it calls is one step. No node is touched before `admit`,
//! and everything that can be checked is checked before that. `Run` holds the run's resources: the nodes'
//! connections, the permission to boot into the run, and the golden node's files.

mod ask_again;
mod check;
mod gather;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use ka::keys::{JoinKey, random};
use ka::mac::Mac;
use ka::plan::report::Report;
use ka::session::names::Names;
use ka::session::plans::{FirstBoots, Plans};
use ka::session::{Admission, AdmissionPolicy, Arrival, SessionSpec, Target};
use ka::wire::session_names;
use ka_host::guarded;

use super::memory::{self, Memory};
use super::notify::Notify;
use super::select::{Permission, Selected};
use super::streaming::Streaming;
use super::wake::{Wake, Waking};
use super::watch;
use crate::config::Config;
use crate::exit::{Exit, FatalError};
use crate::golden::cards;
use crate::golden::hooks::{HookError, Hooks, Reading};
use crate::golden::plan::{self, Planned};
use crate::hub::entry::Entry;
use crate::hub::{Hub, HubSetup, SessionSetup, Snapshot};
use crate::journal::Recorded;
use crate::lists::node_set;
use crate::lists::time_of_day::Moment;
use crate::machines::pins::Pins;
use crate::machines::record;
use crate::machines::store::Store;
use crate::pxe::serving;
use crate::rendezvous::booted::Booted;
use crate::rendezvous::discovery::Responder;
use crate::rendezvous::lease::{Allowed, HeldLease, Lease};
use crate::status::{NodeStatus, Phase};
use crate::stream::source::{DirectorySource, GoldenSource, Source};
use crate::view::progress::ProgressView;
use crate::view::units;
use ask_again::AskAgain;
use check::Checked;

/// How long nodes wait for a vanished controller.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long stage2 waits for one more node before it is sent to the nodes present.
const STAGE2_LINGER: Duration = Duration::from_secs(3);

/// How often the clock is checked while a run waits for its start time.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(20);

/// How long the reader of an abandoned stream may take to notice, before the reading is undone.
const LAST_READ: Duration = Duration::from_secs(10);

/// An operator's request for a run.
pub struct Request<'a> {
    /// The golden node's contents to copy, and how the nodes boot.
    pub golden: plan::Request<'a>,
    /// The number of nodes to wait for.
    pub wanted: usize,
    /// What allows a machine to be erased.
    pub permission: Permission,
    /// The operator types the code that each machine shows.
    pub confirm_codes: bool,
    /// The names of the nodes.
    pub names: Names,
    /// Finished nodes leave one by one, with this interval.
    pub delay: Duration,
    /// How long to wait for the nodes' first boots, if at all.
    pub wait_booted: Option<Duration>,
    /// A site's commands to run before and after the reading.
    pub hooks: Hooks,
    /// The additional destination of the nodes' logs.
    pub store_log: Option<String>,
    /// The file with the password for that destination.
    pub store_log_password: Option<PathBuf>,
    /// Show what would be written, and write nothing.
    pub dry_run: bool,
    /// The machines to switch on.
    pub wake: Option<Wake>,
    /// The start time, if the run does not start immediately.
    pub at: Option<Moment>,
    /// The receiver of failure reports.
    pub notify: &'a Notify,
    /// The stream's settings.
    pub stream: Streaming,
    /// The run as recorded by a process that ended unexpectedly, if this process continues it.
    pub recorded: Option<Recorded>,
}

/// The outcome of a run.
pub enum End {
    /// Nothing was written: what would happen to each machine.
    DryRun(Vec<(Arrival, Report)>),
    /// The run was carried out.
    Held {
        /// The session's final state.
        session: Box<Snapshot>,
        /// Whether the effects of the reading on this machine were undone.
        undone: Result<(), HookError>,
        /// Machines that were woken and never appeared.
        missing: Vec<String>,
        /// Machines that were woken, appeared, and had gone before the run began.
        gone: Vec<String>,
    },
}

/// Checks everything that can be known before anybody waits.
///
/// # Errors
/// All faults at once.
pub fn check(request: &Request<'_>, config: &Config) -> anyhow::Result<()> {
    check::run(request, config).map(|_| ())
}

/// Clones this machine.
///
/// # Errors
/// The cause, with the corresponding exit status.
pub fn run(request: &Request<'_>, config: &Config) -> Result<End, FatalError> {
    if let Some(at) = request.at.filter(|_| request.recorded.is_none()) {
        // Problems that exist now are reported now; the plan itself is made from the machine's state at the
        // start time.
        check::run(request, config)?;
        until(at)?;
    }
    let (checked, planned) = check::run(request, config)?;
    let golden = golden(request, &checked, planned)?;
    let mut run = Run::listen(request, config, checked, golden)?;
    let reading = match run.admitted() {
        Some(machines) => run.readmit(machines)?,
        None => {
            let arrivals = run.gather()?;
            if request.dry_run {
                return Ok(run.dismiss(arrivals)?);
            }
            let selected = run.ask(&arrivals)?;
            run.admit(&arrivals, selected)?
        }
    };
    let held = run.stream();
    run.finish(held, reading)
}

/// The golden node as it will be read.
struct Golden {
    target: Target,
    source: Arc<GoldenSource>,
}

/// The plan, with what only this run knows.
fn golden(request: &Request<'_>, checked: &Checked, planned: Planned) -> anyhow::Result<Golden> {
    let Planned { mut plan, sources, raw, exclude, notes, lost, other_firmware } = planned;
    notes.iter().for_each(|note| log::warn!("{note}"));
    plan.finish.store_log_password.clone_from(&checked.store_log_password);
    let target = Target { plan, left_out: request.golden.exclude_disks.to_vec(), other_firmware };
    let target = match request.recorded.as_ref().and_then(|r| r.header.session.plans.as_ref()) {
        Some(plans) => as_begun(&plans.target, &target)?,
        None => target,
    };
    Ok(Golden { target, source: Arc::new(GoldenSource::new(sources, raw, exclude, lost)) })
}

/// The plan with which the run began. The golden node's files are read again in their current state and may
/// have changed; the disks of their layout must not have.
fn as_begun(begun: &Target, now: &Target) -> anyhow::Result<Target> {
    let shape = |target: &Target| {
        let storage = &target.plan.storage;
        let disks: Vec<_> = storage.disks.iter().map(|plan| (plan.disk.clone(), plan.desc.clone())).collect();
        let volumes = storage.volumes.iter().map(|volume| {
            (volume.backing.clone(), volume.file_system().map(|fs| fs.kind), volume.raw().is_some())
        });
        (disks, volumes.collect::<Vec<_>>(), storage.groups.clone())
    };
    ensure!(
        shape(begun) == shape(now),
        "the golden node's disks are not laid out as they were when this run began: start a new run"
    );
    log::info!(
        "the golden node is read again in its current state: the nodes of this round get later \
        changes, too"
    );
    Ok(begun.clone())
}

/// Waits for a time of day. The clock may be set in the meantime, so it is checked repeatedly.
fn until(at: Moment) -> anyhow::Result<()> {
    let now = || i64::try_from(record::now()).unwrap_or(i64::MAX);
    let at = at.after(now()).map_err(|why| anyhow!("--at: {why}"))?;
    let left = |at: i64| Duration::from_secs(u64::try_from(at.saturating_sub(now())).unwrap_or(0));
    log::info!("everything is ready; the run starts in {}", units::duration(left(at)));
    while !left(at).is_zero() {
        thread::sleep(left(at).min(LOOK_AT_CLOCK));
    }
    Ok(())
}

/// A run that machines can join. The fields are dropped in their order.
struct Run<'a> {
    request: &'a Request<'a>,
    progress: Option<ProgressView>,
    /// Machines may boot into the run while this is held.
    lease: HeldLease,
    hub: Hub,
    booted: Option<Arc<Booted>>,
    _responder: Responder,
    golden: Golden,
    waking: Option<Waking>,
}

impl<'a> Run<'a> {
    fn name(&self) -> &'a str {
        self.request.golden.run
    }

    /// Opens the sessions, and lets machines boot into them.
    fn listen(
        request: &'a Request<'a>,
        config: &Config,
        checked: Checked,
        golden: Golden,
    ) -> anyhow::Result<Self> {
        let Checked { mut keys, store_log, .. } = checked;
        let (name, recorded) = (request.golden.run, request.recorded.as_ref());
        if let Some(recorded) = recorded {
            keys = memory::same_keys(recorded, keys, &config.directories.keys)?;
        }
        let logs = match recorded.and_then(|recorded| recorded.header.logs.clone()) {
            Some(logs) => Some(logs),
            None if request.dry_run => None,
            None => Some(new_directory(&config.directories.log, name)?),
        };
        if let Some(logs) = &logs {
            log::info!("the nodes' logs go to {}", logs.display());
        }
        let stage2 = session_names::stage2_of(name);
        let pins = Pins::of(Store::of(&config.directories.state).all()?);
        let hub_setup = HubSetup { pins, ..hub_setup(request, config) };
        log_setup(&hub_setup);
        let responder = Responder::start(&keys.joins(), &hub_setup.side)?;
        let booted = booted(request, config, &hub_setup)?;
        let plans = Plans {
            names: request.names.clone(),
            cards: cards::cards()?,
            first_boots: first_boots(booted.as_deref())?,
            ask: request.permission == Permission::Ask && io::stdin().is_terminal(),
            ..Plans::new(golden.target.clone())
        };
        let spec = recorded.map_or_else(|| system_session(request, plans), |r| r.header.session.clone());
        let mut header = memory::header(spec.clone(), &keys, logs.clone())?;
        let memory =
            if request.dry_run { None } else { Some(Memory::of(recorded, &config.directories, name)?) };
        let (home, journal, resume) = Memory::split(memory);
        let system = SessionSetup {
            spec,
            source: request.stream.tuned(Arc::clone(&golden.source) as Arc<dyn Source>),
            log: logs.clone(),
            booted: booted.clone(),
            journal,
            resume,
        };
        let join = keys.run.as_ref().map(JoinKey::to_text);
        let sessions = vec![stage2_session(request, config, &stage2, logs), system];
        config.directories.make_run()?;
        let hub = Hub::start(&hub_setup, keys, sessions)?;
        if let Some(recorded) = recorded {
            memory::same_port(recorded, hub.port)?;
        } else if let Some(home) = home {
            header.port = hub.port;
            header.write(&home)?;
        }
        let lease = HeldLease::take(
            &config.directories.runs(),
            name,
            Lease { store_log, join, ..lease(request, config, &stage2, hub.port) },
        )?;
        responder.announce(&stage2, hub.port);
        responder.announce(name, hub.port);
        log::info!("waiting for {} nodes on port {}", request.wanted, hub.port);
        // A resumed process does not know which machines had already arrived, so it restarts none of them.
        let wake = request.wake.as_ref().filter(|_| recorded.is_none());
        let waking = wake.map(Waking::start).transpose()?;
        Ok(Self { request, progress: None, lease, hub, booted, _responder: responder, golden, waking })
    }

    /// The machines that the previous process admitted, if it got that far.
    fn admitted(&self) -> Option<BTreeSet<Mac>> {
        let book = self.request.recorded.as_ref()?.book();
        book.is_admitted().then(|| book.allowed())
    }

    /// Allows the previously admitted machines to boot again.
    fn readmit(&mut self, machines: BTreeSet<Mac>) -> anyhow::Result<Reading> {
        self.lease.allow(Allowed::Listed(machines))?;
        self.begin_reading(false)
    }

    /// Waits for the machines.
    fn gather(&self) -> Result<Vec<Arrival>, FatalError> {
        let also = || {
            if let Some(waking) = &self.waking {
                waking.look(&self.hub, self.name());
            }
        };
        gather::machines(self.request, &self.hub, &self.golden.target, also)?
            .ok_or_else(|| FatalError { exit: Exit::NodesFailed, error: anyhow!("no node came in time") })
    }

    /// Sends each machine the outcome that a real run would have: they boot from their disks again.
    fn dismiss(mut self, arrivals: Vec<Arrival>) -> anyhow::Result<End> {
        self.lease.allow(Allowed::Listed(BTreeSet::new()))?;
        let reason = "this was a dry run: nothing was written".to_owned();
        let refused = arrivals.iter().map(|arrival| (arrival.mac, reason.clone())).collect();
        self.hub.admit(self.name(), Admission { refused, ..Admission::default() });
        let report = |arrival: &Arrival| self.golden.target.report(&arrival.inventory);
        Ok(End::DryRun(arrivals.into_iter().map(|a| (report(&a), a)).map(|(r, a)| (a, r)).collect()))
    }

    /// Determines which of the machines may be erased.
    fn ask(&self, arrivals: &[Arrival]) -> anyhow::Result<Selected> {
        gather::ask(self.request, arrivals, &self.golden.target)
    }

    /// Runs the site's command, the last step that can fail before a node is touched, and admits the
    /// machines.
    fn admit(&mut self, arrivals: &[Arrival], selected: Selected) -> anyhow::Result<Reading> {
        let Selected { chosen, confirmed, refused } = selected;
        let named: BTreeSet<Mac> = chosen.into_iter().collect();
        // A machine that was not confirmed is not erased, even if a place is free.
        let others: BTreeSet<Mac> = match &self.request.permission {
            Permission::Listed(macs) if named.len() < self.request.wanted => {
                macs.iter().filter(|mac| !refused.contains_key(mac)).copied().collect()
            }
            Permission::Listed(_) | Permission::First | Permission::Ask => BTreeSet::new(),
        };
        self.lease.allow(Allowed::Listed(named.union(&others).copied().collect()))?;
        let reading = self.begin_reading(named.is_empty())?;
        let keys = arrivals.iter().map(|arrival| (arrival.mac, arrival.key)).collect();
        let only_keys = self.request.confirm_codes;
        self.hub.admit(self.name(), Admission { named, others, keys, only_keys, refused, confirmed });
        Ok(reading)
    }

    /// Prepares this machine for reading, unless no node is served.
    fn begin_reading(&self, nothing_to_do: bool) -> anyhow::Result<Reading> {
        let none = Hooks::default();
        let hooks = if nothing_to_do { &none } else { &self.request.hooks };
        let (reading, tree) = Reading::begin(hooks, self.name())?;
        if let Some(tree) = tree {
            self.golden.source.read_in(&tree)?;
        }
        Ok(reading)
    }

    /// Shows the session until it ends. In the meantime, finished machines lose the permission to boot into
    /// it, and the operator is asked about machines that have booted again.
    fn stream(&mut self) -> Result<Snapshot, FatalError> {
        let Self { request, progress, lease, hub, golden, waking, .. } = self;
        let name = request.golden.run;
        let mut ask_again = AskAgain::new(hub, name, &golden.target);
        let progress = progress.insert(ProgressView::start());
        watch::until_over(hub, name, progress, |snapshot| {
            ask_again.look(snapshot);
            narrow(lease, snapshot);
            request.notify.look(&snapshot.status);
            if let Some(waking) = waking {
                waking.look(hub, name);
            }
        })
    }

    /// Undoes the preparations for reading, and waits for the nodes' first boots if requested.
    fn finish(mut self, held: Result<Snapshot, FatalError>, reading: Reading) -> Result<End, FatalError> {
        if !self.golden.source.end(LAST_READ) {
            log::warn!(
                "this machine is still being read after {} s; --after-read runs now",
                LAST_READ.as_secs()
            );
        }
        let undone = reading.end();
        if let Err(error) = &undone {
            log::error!("{error}");
        }
        let mut session = held?;
        if let (Some(booted), Some(time), Some(progress)) =
            (&self.booted, self.request.wait_booted, &mut self.progress)
        {
            watch::until_booted(booted, &mut session.status, progress, time);
        }
        let missing = self.waking.iter().flat_map(Waking::missing).map(str::to_owned).collect();
        let gone = self.waking.iter().flat_map(|waking| waking.gone(&session.status));
        let gone: Vec<String> = gone.map(str::to_owned).collect();
        if !gone.is_empty() {
            log::error!(
                "{} machines had gone before the run began: {}",
                gone.len(),
                node_set::fold(gone.iter().map(String::as_str))
            );
        }
        Ok(End::Held { session: Box::new(session), undone, missing, gone })
    }
}

/// Revokes the permission to boot into the run for machines that no longer need it.
fn narrow(lease: &mut HeldLease, snapshot: &Snapshot) {
    let over = |phase| matches!(phase, Phase::Finishing | Phase::Complete | Phase::Failed);
    let done = |node: &&NodeStatus| over(node.phase) && !node.may_come_again;
    for mac in snapshot.status.nodes.iter().filter(done).filter_map(|n| n.mac) {
        // Once is enough: from then on the machine boots from its disk.
        if !lease.lease().done.contains(&mac)
            && let Err(error) = lease.done(mac)
        {
            // The run continues, and the next check tries this again.
            log::error!("{mac} may still boot to be cloned: {error}");
        }
    }
    if !snapshot.more_rounds
        && let Err(error) = lease.close()
    {
        log::error!("late machines may boot and be rejected: {error}");
    }
}

/// Where to listen for nodes: on the interface that they boot from, if `kactl pxe` serves and no option says
/// otherwise. Nodes that tag their frames arrive through another interface.
fn hub_setup(request: &Request<'_>, config: &Config) -> HubSetup {
    let stream = &request.stream;
    let serving = serving::now(&config.directories.run);
    let unsaid = stream.listen.is_none() && config.pxe.vlan.is_none();
    let served = || Some(serving.as_ref().filter(|_| unsaid)?.interface.clone());
    let interface = stream.interface.clone().or_else(served);
    let entry = match serving {
        Some(serving) => Entry { own_secret: serving.run_keys, leases: serving.leases },
        None => Entry::default(),
    };
    let machines = Some((Store::of(&config.directories.state), request.golden.run.to_owned()));
    let mut hub_setup = HubSetup { entry, machines, ..HubSetup::new(config, stream.listen, interface) };
    if let Some(recorded) = &request.recorded {
        hub_setup.control = recorded.header.port;
    }
    hub_setup
}

fn log_setup(hub_setup: &HubSetup) {
    match &hub_setup.side.interface {
        Some(interface) => log::info!("nodes come through {interface} only"),
        None => log::debug!("nodes come through any interface"),
    }
    if !hub_setup.entry.own_secret {
        log::info!("no active 'kactl pxe' has a secret for each run: every holder of join.key can join");
    }
}

/// The listener for the nodes' first boots, if they are awaited.
fn booted(
    request: &Request<'_>,
    config: &Config,
    hub_setup: &HubSetup,
) -> anyhow::Result<Option<Arc<Booted>>> {
    if request.wait_booted.is_none() || request.dry_run {
        return Ok(None);
    }
    let booted = Booted::start(&hub_setup.side, config.ports.booted).with_context(|| {
        format!("cannot listen on port {} for the nodes' first boots", config.ports.booted)
    })?;
    log::info!("the nodes report their first boot on port {}", booted.port);
    Ok(Some(Arc::new(booted)))
}

/// How the nodes report their first boot, if that is awaited.
fn first_boots(booted: Option<&Booted>) -> anyhow::Result<Option<FirstBoots>> {
    booted.map(|booted| Ok(FirstBoots { port: booted.port, secret: random()? })).transpose()
}

/// The tools are sent to every machine that boots into the run, whenever machines wait for them.
fn stage2_session(request: &Request<'_>, config: &Config, name: &str, log: Option<PathBuf>) -> SessionSetup {
    let source = Arc::new(DirectorySource(config.directories.stage2()));
    let spec = SessionSpec {
        only: listed(&request.permission),
        rounds: 1,
        patience: request.stream.patience.unwrap_or(PATIENCE),
        ..request.stream.session(name, request.wanted, AdmissionPolicy::Lasting(STAGE2_LINGER))
    };
    // A machine that waits for the tools has nothing to lose: it joins again. So this session has no journal.
    SessionSetup { spec, source, log, booted: None, journal: None, resume: None }
}

/// The system is sent to the admitted machines.
fn system_session(request: &Request<'_>, plans: Plans) -> SessionSpec {
    SessionSpec {
        only: listed(&request.permission),
        total: Some(plans.target.plan.storage.used()),
        plans: Some(plans),
        delay: request.delay,
        patience: request.stream.patience.unwrap_or(PATIENCE),
        ..request.stream.session(request.golden.run, request.wanted, AdmissionPolicy::Named)
    }
}

/// The only machines that may join, if they are named.
fn listed(permission: &Permission) -> Option<BTreeSet<Mac>> {
    if let Permission::Listed(macs) = permission { Some(macs.clone()) } else { None }
}

/// Publishes to the boot server which machines may join, until this process ends.
fn lease(request: &Request<'_>, config: &Config, stage2: &str, port: u16) -> Lease {
    let listen = request.stream.listen.map(|listen| listen.address);
    // The boot server's own address is the default; a different port also needs an address.
    let server = listen.filter(|address| !address.is_unspecified());
    let server = server.map(|address| SocketAddr::new(address, port));
    let other = port != config.ports.control;
    if server.is_none() && other {
        log::info!(
            "another session owns port {}; it redirects this run's nodes to port {port}",
            config.ports.control
        );
    }
    let allowed = listed(&request.permission).map_or(Allowed::Any, Allowed::Listed);
    Lease { server, port: other.then_some(port), ..Lease::new(stage2, allowed) }
}

/// A new directory for this run: the session's name and the first free number. Nodes' logs reveal the
/// contents of the clones, so they are not world-readable.
fn new_directory(parent: &Path, session: &str) -> anyhow::Result<PathBuf> {
    guarded::shared_directory(parent, 0o750, 0o022)?;
    Ok(guarded::numbered(parent, session, 0o750)?)
}
