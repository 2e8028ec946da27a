//! The session in which a node becomes a copy of the golden node.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ka::failure::{Failure, FailureKind};
use ka::inventory::Inventory;
use ka::notes::{NoteKind, Tally};
use ka::plan::{ConfirmedPlan, FinalAction, Plan};
use ka::seal::StreamId;
use ka::step::Step;
use ka::wire::control::{Hello, ToController};
use ka::wire::session_names;

use super::LOG_PASSWORD;
use super::outbox::Outbox;
use super::stage1::Stage1;
use crate::disk::{self, Prepared, RawPartition};
use crate::finish::{self, Copied, HeldBack, Machine};
use crate::init::ExitAction;
use crate::kexec;
use crate::notes;
use crate::receive::{SinkError, unpack_into};
use crate::session::{Endorse, JoinError, NoPlan, Session, SessionOver};
use crate::step::{self, step};
use crate::unpack::{self, Options, Sealed, UnpackError};
use ka_host::hardware;
use ka_host::tpm::{self, Tpm};

/// How long at least the node asks the run for a place, and how often.
const MIN_PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(3);

/// The mount point of the new system.
const ROOT: &str = "/mnt/disk";

/// The static agent in stage2.
const AGENT: &str = "/usr/sbin/ka-agent";

/// Joins the run, carries out its plan, and leaves with the controller's goodbye.
pub(super) fn install(node: &Stage1, inventory: Inventory) -> Result<ExitAction, String> {
    if !node.command_line.kamethod {
        return Err(
            "the kernel was not started with 'kamethod': this machine's disks are left unchanged".into()
        );
    }
    let name = session_names::install_of(&node.command_line.session);
    let hello = node.hello(&name, inventory)?;
    let session = step(Step::Join.of(&name), || join(node, &hello))?;
    let outbox = Arc::new(Outbox::new(session.sender()));
    let steps = Arc::clone(&outbox);
    step::watch(move |doing| steps.step(doing));

    let mut plan = step(Step::WaitForPlan, || session.wait_for_plan()).map_err(|e| {
        if let NoPlan::Unknown(error) = &e {
            // The controller and its operator must know why this node stops.
            let reason = error.to_string();
            session.fail(Failure::own(Step::Plan, FailureKind::Unfit { reason }));
            outbox.hand_over_log();
            session.leave().unwrap_or_else(|error| log::warn!("{error}"));
        }
        e.to_string()
    })?;
    let outcome = loop {
        let Err(failure) = carry_out(node, &session, &plan) else { break Ok(()) };
        log::error!("{} failed: {}", failure.step, failure.kind);
        session.fail(failure.clone());
        if !failure.transient {
            break Err(failure);
        }
        // Nothing is left of this attempt, not even the partition table. The log is sent first: the
        // controller says goodbye at once if there is no further round.
        outbox.hand_over_log();
        session.tell(ToController::Done);
        match step(Step::WaitForRound, || session.wait_for_plan()) {
            Ok(next) => plan = next,
            Err(_) => return Err(failure.to_string()),
        }
    };
    step::watch(|_| ());
    if outcome.is_ok() {
        log::info!("this node is a copy of the golden node");
    }
    outbox.hand_over_log();
    // The disk is either complete or certainly not bootable, whatever happens to the controller now.
    if let Err(error) = step(Step::Leave, || session.leave()) {
        log::warn!("{error}");
    }
    match outcome {
        Ok(()) => Ok(ExitAction::from(plan.plan.after)),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Joins; asks again if the controller is too busy to answer at once, or has vanished and may be resumed.
fn join(node: &Stage1, hello: &Hello) -> Result<Session, String> {
    let (began, patience) = (Instant::now(), node.patience.max(MIN_PATIENCE));
    let mut tpm = tpm();
    loop {
        let listener = node.listener.try_clone().map_err(|e| e.to_string())?;
        let keys = (&node.join, &node.key);
        let tpm = tpm.as_mut().map(|tpm| tpm as &mut dyn Endorse);
        match Session::join_endorsed(node.controller, keys, hello.clone(), listener, tpm) {
            Err(error @ JoinError::Unreachable { .. }) if began.elapsed() < patience => {
                let left = patience.saturating_sub(began.elapsed()).as_secs();
                log::warn!("{error}; asking again, for {left} s more");
                thread::sleep(PAUSE);
            }
            outcome => return outcome.map_err(|e| e.to_string()),
        }
    }
}

/// This machine's TPM, if it works. Only the controller knows whether this machine must have one.
fn tpm() -> Option<Tpm<File>> {
    tpm::of_this_machine().unwrap_or_else(|error| {
        log::warn!("this machine joins without the proof of its TPM: {error}");
        None
    })
}

/// From a blank disk to one that boots. A failure after the first write leaves a disk that does not boot.
fn carry_out(node: &Stage1, session: &Session, confirmed: &ConfirmedPlan) -> Result<(), Failure> {
    let plan = &confirmed.plan;
    *LOG_PASSWORD.lock().unwrap_or_else(PoisonError::into_inner) = plan.finish.store_log_password.clone();
    if let Some(reason) = ka::boot::refusal(plan, hardware::firmware()) {
        return Err(Failure::own(Step::Plan, FailureKind::Unfit { reason }));
    }
    let storage = confirmed.storage().ok_or_else(|| {
        let reason = "the controller confirmed a different number of disks than its plan has; nothing was \
            written";
        Failure::own(Step::Plan, FailureKind::Unfit { reason: reason.to_owned() })
    })?;
    // Notes of an earlier attempt do not concern this one.
    drop(notes::take());
    let mut prepared =
        disk::prepare(&storage, Path::new(ROOT)).map_err(|e| Failure::own(Step::PrepareDisks, e.kind()))?;
    match fill(node, session, plan, &mut prepared) {
        Ok(()) => Ok(()),
        Err(failure) => {
            prepared.abandon();
            Err(failure)
        }
    }
}

fn fill(node: &Stage1, session: &Session, plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    let held = step(Step::HoldBack, || HeldBack::hold(&prepared.root, &prepared.made))
        .map_err(|e| Failure::own(Step::HoldBack, FailureKind::Disk { reason: e.to_string() }))?;
    session.tell(ToController::Ready);
    let sealed = Arc::new(Sealed::default());
    let (stream, received) = receive(session, prepared, &sealed)?;
    let mut noted = prepared.noted.clone();
    noted.merge(&received);
    let machine = machine(node);
    let raw = prepared.raw.iter().map(finish::names_of_raw);
    let raw: Vec<_> = raw.chain(prepared.members.iter().cloned()).collect();
    let copied = Copied {
        root: &prepared.root,
        plan,
        made: &prepared.made,
        raw: &raw,
        disk: &prepared.disk,
        machine: &machine,
    };
    let last = finish::finish(&copied).map_err(|e| Failure::own(e.step, e.cause.kind()))?;
    if plan.after == FinalAction::Kexec
        && let Err(error) = step(Step::LoadKernel, || kexec::load(&prepared.root))
    {
        // This does not fail the node: without a kernel to start it reboots.
        notes::warn(NoteKind::Finish, format_args!("this node will reboot through its firmware: {error}"));
    }
    step(Step::Immutable, || {
        let notes = unpack::seal(&prepared.root, &sealed)?;
        notes.log();
        noted.merge(notes.tally());
        Ok::<_, UnpackError>(())
    })
    .map_err(|e| Failure::own(Step::Immutable, FailureKind::Disk { reason: e.to_string() }))?;
    step(Step::Uncover, || held.uncover())
        .map_err(|e| Failure::own(Step::Uncover, FailureKind::Disk { reason: e.to_string() }))?;
    step(Step::Unmount, || prepared.unmount()).map_err(|e| Failure::own(Step::Unmount, e.kind()))?;
    step(Step::ReadBack, || prepared.prove()).map_err(|e| Failure::own(Step::ReadBack, e.kind()))?;
    step(Step::Activate, || {
        last.release().map_err(|e| e.kind())?;
        prepared.activate(last.boot_code.as_ref()).map_err(|e| e.kind())
    })
    .map_err(|kind| Failure::own(Step::Activate, kind))?;
    noted.merge(&notes::take());
    session.note(stream, &noted);
    Ok(())
}

/// What the finish needs to know about this machine.
fn machine(node: &Stage1) -> Machine {
    let agent = Path::new(AGENT);
    Machine {
        firmware: hardware::firmware(),
        storage_modules: hardware::storage_modules(),
        cards: hardware::card_modules(&node.network.interface),
        slots: hardware::slotted_cards(),
        mac: Some(node.network.mac),
        address: Some(node.network.address.into()),
        agent: agent.exists().then(|| agent.to_owned()),
    }
}

/// Receives the system. Returns the stream that it came from, and the notes.
fn receive(
    session: &Session,
    prepared: &Prepared,
    sealed: &Arc<Sealed>,
) -> Result<(StreamId, Tally), Failure> {
    let partitions = prepared.raw.iter().map(RawPartition::target).collect::<Result<_, _>>();
    let partitions = partitions.map_err(|e| {
        let reason = format!("cannot share a partition: {e}");
        Failure::own(Step::Receive, FailureKind::System { reason })
    })?;
    let options = Options {
        partitions: Some(partitions),
        // The finish changes files, whatever flags they have.
        sealed: Some(Arc::clone(sealed)),
        // All of it is read back after unmounting.
        read_back: false,
        ..Options::default()
    };
    let over =
        |e: SessionOver| Failure::transient(Step::Receive, FailureKind::Session { reason: e.to_string() });
    let (stream, mut reader) = step(Step::WaitForNodes, || session.wait_for_stream()).map_err(over)?;
    let received = step(Step::ReceiveSystem, || {
        let noted = unpack_into(&mut reader, &prepared.root, &options)?;
        Ok::<_, SinkError>((noted, reader.finish()?))
    });
    let (noted, total) = received.map_err(|e| {
        session.accuse(stream, e.forged());
        e.failure(Step::Receive, stream)
    })?;
    session.note(stream, &noted);
    session.complete(stream, total);
    Ok((stream, noted))
}
