//! `kactl run`: clones this machine onto N nodes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use ka::keys::JoinKey;
use ka::plan::After;
use ka::wire::session_names;

use super::ask_again::AskAgain;
use super::gather;
use super::options::run::RunArgs;
use super::select::Permission;
use super::watch;
use crate::config::{Config, Directories, keys};
use crate::exit::{Exit, Failure, Outcome};
use crate::golden::hooks::{HookArgs, Reading};
use crate::golden::{self, cards};
use crate::hub::Target;
use crate::hub::entry::Entry;
use crate::hub::plans::Plans;
use crate::hub::session::{Admission, Gate, SessionSpec};
use crate::hub::{Hub, Place};
use crate::lists::nodes;
use crate::log_server;
use crate::pxe::serving;
use crate::rendezvous::booted::Booted;
use crate::rendezvous::discovery::Responder;
use crate::rendezvous::lease::{Allowed, HeldLease, Lease};
use crate::status::{NodeStatus, Phase};
use crate::stream::source::{DirectorySource, GoldenSource};
use crate::view::progress::Progress;
use ka::mac::Mac;
use ka_host::guarded;

/// How long stage2 waits for one more node before it goes to those that are there.
const STAGE2_LINGER: Duration = Duration::from_secs(3);

/// How long a reader whose stream was given up may take to notice, before the reading is undone.
const LAST_READ: Duration = Duration::from_secs(10);

/// Runs `kactl run`.
///
/// # Errors
/// What stopped it, with the exit status that says so.
pub fn run(args: &RunArgs, config: &Config) -> Outcome {
    let keys = keys::load(&config.directories.keys)?.for_a_run()?;
    check_images(&config.directories)?;
    let permission = permission(args)?;
    check_wait(args)?;
    let names = args.identity.names()?;
    let store_log = args.store_log.as_deref().map(log_server::by_address).transpose()?;
    let password = args.store_log_password.as_deref().zip(args.store_log.as_deref());
    let password = password.map(|(file, url)| log_server::password(file, url)).transpose()?;
    let mut planned = golden::plan::make(&request(args, config))?;
    planned.plan.finish.store_log_password = password;
    planned.notes.iter().for_each(|note| log::warn!("{note}"));
    let target = Target {
        plan: planned.plan,
        left_out: args.exclude_disks.clone(),
        other_firmware: planned.other_firmware,
    };
    let golden::plan::Planned { sources, raw, exclude, lost, .. } = planned;
    let source = Arc::new(GoldenSource::new(sources, raw, exclude, lost));
    let logs = if args.dry_run { None } else { Some(new_directory(&config.directories.log, &args.session)?) };
    if let Some(logs) = &logs {
        log::info!("the nodes' logs go to {}", logs.display());
    }

    let stage2 = session_names::stage2_of(&args.session);
    let place = place(args, config);
    let responder = Responder::start(&keys.joins(), &place.side)?;
    let booted = booted(args, config, &place)?;
    let plans = Plans {
        names,
        cards: cards::cards()?,
        booted: booted.clone(),
        ask: permission == Permission::Ask && io::stdin().is_terminal(),
        ..Plans::new(target.clone())
    };
    let sessions = sessions(args, config, Arc::clone(&source), plans, &stage2, logs, &permission)?;
    let join = keys.run.as_ref().map(JoinKey::to_text);
    let hub = Hub::start(&place, keys, sessions)?;
    let mut lease = HeldLease::take(
        &config.directories.runs(),
        &args.session,
        Lease { store_log, join, ..lease(args, config, &stage2, &hub, &permission) },
    )?;
    responder.announce(&stage2, hub.port);
    responder.announce(&args.session, hub.port);
    log::info!("waiting for {} nodes on port {}", args.nodes_wanted, hub.port);

    let Some(arrivals) = gather::machines(args, &hub, &permission, &target)? else {
        return Err(Failure { exit: Exit::NodesFailed, error: anyhow!("no node came in time") });
    };
    if args.dry_run {
        return gather::dry_run(args, &hub, &mut lease, &arrivals, &target);
    }
    let selected = gather::ask(args, &permission, &arrivals, &target)?;
    let named: BTreeSet<Mac> = selected.chosen.into_iter().collect();
    // Whoever was not confirmed is not erased, even when a place is free.
    let others = match permission {
        Permission::Listed(macs) if named.len() < args.wanted()? => macs,
        Permission::Listed(_) | Permission::First | Permission::Ask => BTreeSet::new(),
    };
    let others = others.into_iter().filter(|mac| !selected.refused.contains_key(mac)).collect();
    lease.allow(Allowed::Listed(named.union(&others).copied().collect()))?;
    // The last that can fail before a node is touched.
    let nobody = HookArgs::default();
    let hooks = if named.is_empty() { &nobody } else { &args.hooks };
    let (reading, tree) = Reading::begin(hooks, &args.session)?;
    tree.map_or(Ok(()), |tree| source.read_in(&tree))?;
    let admission = Admission {
        named,
        others,
        keys: arrivals.iter().map(|arrival| (arrival.mac, arrival.key)).collect(),
        only_keys: args.confirm_codes,
        refused: selected.refused,
        confirmed: selected.confirmed,
    };
    hub.admit(&args.session, admission);
    let mut ask_again = AskAgain::new(&hub, &args.session, &target);
    let mut progress = Progress::start(args.stream.json);
    let end = watch::until_over(&hub, &args.session, &mut progress, |snapshot| {
        ask_again.look(snapshot);
        let over = |phase| matches!(phase, Phase::Finishing | Phase::Complete | Phase::Failed);
        let done = |node: &&NodeStatus| over(node.phase) && !node.may_come_again;
        for mac in snapshot.status.nodes.iter().filter(done).filter_map(|n| n.mac) {
            // Once is enough: from then on the machine boots from its disk.
            if !lease.lease().done.contains(&mac)
                && let Err(error) = lease.done(mac)
            {
                // The run goes on, and this is tried again at the next look.
                log::error!("{mac} may still boot to be cloned: {error}");
            }
        }
        if !snapshot.more_rounds
            && let Err(error) = lease.close()
        {
            log::error!("late machines may boot and be rejected: {error}");
        }
    });
    if !source.end(LAST_READ) {
        log::warn!("this machine is still being read after {} s; --after-read runs now", LAST_READ.as_secs());
    }
    let undone = reading.end();
    if let Err(error) = &undone {
        log::error!("{error}");
    }
    let mut end = end?;
    if let Some((booted, time)) = booted.zip(args.identity.wait_booted) {
        watch::until_booted(&booted, &mut end.status, &mut progress, time);
    }
    drop(progress);
    let outcome = watch::report(&end, args.stream.json)?;
    // The nodes are well; what was not undone on this machine is for a person.
    if outcome == Exit::Ok { Ok(undone.map(|()| Exit::Ok)?) } else { Ok(outcome) }
}

/// Whether the nodes will tell of their first boot, if that is to be waited for.
fn check_wait(args: &RunArgs) -> anyhow::Result<()> {
    if args.identity.wait_booted.is_none() {
        return Ok(());
    }
    ensure!(
        !matches!(args.boot.after, After::Poweroff | After::Shell),
        "--wait-booted: with --boot poweroff and --boot shell no node boots from its disk by itself"
    );
    ensure!(
        ka_host::system::runs_units(Path::new("/")),
        "--wait-booted: this system has no systemd, whose unit would tell of the first boot"
    );
    Ok(())
}

/// Who is told of the nodes' first boots, if they are waited for.
/// Where the nodes are awaited: where they boot from, if `kactl pxe` serves and nobody says otherwise. Nodes that tag
/// their frames come through another interface than that one.
fn place(args: &RunArgs, config: &Config) -> Place {
    let serving = serving::now(&config.directories.run);
    let unsaid = args.stream.listen.is_none() && config.pxe.vlan.is_none();
    let interface = args.stream.interface(config);
    let interface = interface.or_else(|| Some(serving.as_ref().filter(|_| unsaid)?.interface.clone()));
    match &interface {
        Some(interface) => log::info!("nodes come through {interface} only"),
        None => log::debug!("nodes come through any interface"),
    }
    let entry = match serving {
        Some(serving) => Entry { own_secret: serving.run_keys, leases: serving.leases },
        None => Entry::default(),
    };
    if !entry.own_secret {
        log::info!("no 'kactl pxe' serves with a secret for each run: every holder of join.key can join");
    }
    Place { entry, ..Place::new(config, args.stream.listen, interface) }
}

fn booted(args: &RunArgs, config: &Config, place: &Place) -> anyhow::Result<Option<Arc<Booted>>> {
    if args.identity.wait_booted.is_none() || args.dry_run {
        return Ok(None);
    }
    let booted = Booted::start(&place.side, config.ports.booted).with_context(|| {
        format!("cannot listen on port {} for the nodes' first boots", config.ports.booted)
    })?;
    log::info!("the nodes tell of their first boot on port {}", booted.port);
    Ok(Some(Arc::new(booted)))
}

/// What the nodes need must be there before anybody waits.
fn check_images(directories: &Directories) -> anyhow::Result<()> {
    for path in [directories.boot().join("vmlinuz"), directories.boot().join("all.rdz"), directories.stage2()]
    {
        ensure!(path.exists(), "{} is missing: make it with 'kactl image'", path.display());
    }
    let image = directories.boot().join("all.rdz");
    let key = fs::read(keys::join_file(&directories.keys))?;
    ensure!(
        fs::read(&image)
            .with_context(|| format!("cannot read {}", image.display()))?
            .windows(key.len())
            .any(|part| part == key),
        "{} has another join key than {}: put it in with 'kactl image --key-only'",
        image.display(),
        directories.keys.display()
    );
    Ok(())
}

fn permission(args: &RunArgs) -> anyhow::Result<Permission> {
    Ok(match &args.nodes {
        Some(file) => {
            let listed = nodes::read(file)?;
            let wanted = usize::try_from(args.nodes_wanted.get())?;
            ensure!(
                listed.len() >= wanted,
                "{} lists {} machines, and -n asks for {wanted}",
                file.display(),
                listed.len()
            );
            Permission::Listed(listed.into_iter().collect())
        }
        None if args.yes => Permission::First,
        None => Permission::Ask,
    })
}

fn request<'a>(args: &'a RunArgs, config: &'a Config) -> golden::plan::Request<'a> {
    golden::plan::Request {
        run: &args.session,
        disks: &args.disks.disks,
        exclude_dirs: &args.exclude_dirs,
        exclude_disks: &args.exclude_disks,
        own_dirs: config.directories.own(),
        raw: &args.raw,
        boot_code: &args.disks.boot_code,
        scale: args.scale,
        keep_uuids: args.keep_uuids,
        stage2: Some(config.directories.stage2()),
        boot: args.boot.plan(),
        after: args.boot.after,
    }
}

fn sessions(
    args: &RunArgs,
    config: &Config,
    source: Arc<GoldenSource>,
    plans: Plans,
    stage2: &str,
    logs: Option<PathBuf>,
    permission: &Permission,
) -> anyhow::Result<Vec<SessionSpec>> {
    let only = if let Permission::Listed(macs) = permission { Some(macs.clone()) } else { None };
    let wanted = args.wanted()?;
    let window = args.stream.window();
    let order = args.stream.order.read()?;
    Ok(vec![
        SessionSpec {
            name: stage2.to_owned(),
            source: Arc::new(DirectorySource(config.directories.stage2())),
            wanted,
            gate: Gate::Lasting(STAGE2_LINGER),
            only: None,
            plans: None,
            timeout: None,
            log: logs.clone(),
            window,
            dead_after: args.stream.dead_after,
            step_limit: args.stream.step_limit,
            rounds: 1,
            delay: Duration::ZERO,
            order: order.clone(),
            slow: args.stream.slow(),
        },
        SessionSpec {
            name: args.session.clone(),
            source: args.stream.tune(source, false),
            wanted,
            gate: Gate::Named,
            only,
            plans: Some(plans),
            timeout: None,
            log: logs,
            window,
            dead_after: args.stream.dead_after,
            step_limit: args.stream.step_limit,
            rounds: args.stream.rounds.get(),
            delay: args.identity.delay,
            order,
            slow: args.stream.slow(),
        },
    ])
}

/// Tells the boot server who may come; it ends with this process.
fn lease(args: &RunArgs, config: &Config, stage2: &str, hub: &Hub, permission: &Permission) -> Lease {
    let listen = args.stream.listen.map(|listen| listen.address).filter(|address| !address.is_unspecified());
    // The boot server's own address is the default; another port needs an address to go with it.
    let server = listen.map(|address| SocketAddr::new(address, hub.port));
    if server.is_none() && hub.port != config.ports.control {
        log::info!(
            "port {} is another session's; it sends this run's nodes on to port {}",
            config.ports.control,
            hub.port
        );
    }
    let allowed = match permission {
        Permission::Listed(macs) => Allowed::Listed(macs.clone()),
        Permission::First | Permission::Ask => Allowed::Any,
    };
    let port = (hub.port != config.ports.control).then_some(hub.port);
    Lease {
        session: stage2.to_owned(),
        server,
        port,
        join: None,
        store_log: None,
        allowed,
        done: BTreeSet::new(),
    }
}

/// A directory of this run's own: the session's name and the first number that is free. Nodes' logs tell of the clones'
/// inside, and are not for everybody.
fn new_directory(parent: &Path, session: &str) -> anyhow::Result<PathBuf> {
    guarded::shared_directory(parent, 0o750, 0o022)?;
    Ok(guarded::numbered(parent, session, 0o750)?)
}
