//! Records machines during a run in a separate thread: the hub never waits for a disk.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use ka::inventory::Inventory;
use ka::keys::Key;
use ka::mac::Mac;
use ka::wire::control::Hello;

use super::record::{LastRun, Record, RunOutcome, now};
use super::store::Store;
use crate::status::{Phase, RunStatus};

/// The maximum number of entries that may wait for the disk.
const MAX_WAITING: usize = 8192;

/// A machine that has joined, as it reports itself.
pub struct Seen {
    mac: Mac,
    address: IpAddr,
    key: Key,
    inventory: Inventory,
}

impl Seen {
    /// A machine that has joined from `address`; `None` if it does not identify itself.
    #[must_use]
    pub fn of(hello: &Hello, address: IpAddr) -> Option<Self> {
        let mac = hello.inventory.cards.first()?.mac.parse().ok()?;
        Some(Self { mac, address, key: hello.key, inventory: hello.inventory.clone() })
    }
}

enum News {
    Seen(Box<Seen>),
    Became { mac: Mac, name: String, last: LastRun },
}

/// Records the machines of one run. Dropping it writes everything queued.
pub struct Recorder {
    run: String,
    news: Option<SyncSender<(u64, News)>>,
    known: BTreeMap<Mac, RunOutcome>,
    complained: bool,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts recording the machines of the run `run`.
    ///
    /// # Errors
    /// No thread is available.
    pub fn start(store: Store, run: &str) -> io::Result<Self> {
        let (news, heard) = sync_channel(MAX_WAITING);
        let thread =
            thread::Builder::new().name("machines".into()).spawn(move || record_all(&store, &heard))?;
        Ok(Self {
            run: run.to_owned(),
            news: Some(news),
            known: BTreeMap::new(),
            complained: false,
            thread: Some(thread),
        })
    }

    /// Records that a machine has joined.
    pub fn joined(&mut self, seen: Seen) {
        self.add(News::Seen(Box::new(seen)));
    }

    /// Records the states of a session's nodes, if it is the run's own session.
    pub fn look(&mut self, session: &str, status: &RunStatus) {
        if session != self.run {
            return;
        }
        for node in &status.nodes {
            let Some(mac) = node.mac else { continue };
            let outcome = match node.phase {
                Phase::Joined => RunOutcome::Waiting,
                Phase::Complete | Phase::Booted => RunOutcome::Complete,
                Phase::Failed if node.may_come_again => RunOutcome::Running,
                Phase::Failed => RunOutcome::Failed,
                _ => RunOutcome::Running,
            };
            if self.known.insert(mac, outcome) == Some(outcome) {
                continue;
            }
            let failure = node.failure.as_ref().filter(|_| outcome == RunOutcome::Failed);
            let last = LastRun {
                run: self.run.clone(),
                at: now(),
                outcome,
                step: failure.map(|failure| failure.step.words().to_owned()),
                reason: failure.map(|failure| failure.kind.to_string()),
            };
            self.add(News::Became { mac, name: node.hostname.clone(), last });
        }
    }

    fn add(&mut self, news: News) {
        let Some(sender) = &self.news else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send((now(), news))
            && !std::mem::replace(&mut self.complained, true)
        {
            log::error!("not all machines are recorded: the disk is too slow");
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.news = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that records machines has panicked");
        }
    }
}

fn record_all(store: &Store, heard: &Receiver<(u64, News)>) {
    let mut failed = false;
    while let Ok((now, news)) = heard.recv() {
        let mac = match &news {
            News::Seen(seen) => seen.mac,
            News::Became { mac, .. } => *mac,
        };
        let outcome = store.change(mac, now, |record| news.apply(record, now));
        // One log line is enough: the run does not depend on the records.
        if let Err(error) = outcome
            && !std::mem::replace(&mut failed, true)
        {
            log::error!("machines cannot be recorded: {:#}", anyhow::Error::from(error));
        }
    }
}

impl News {
    fn apply(self, record: &mut Record, now: u64) {
        match self {
            Self::Seen(seen) => {
                record.address = Some(seen.address);
                record.last_seen = now;
                record.set_key(&seen.key);
                record.learn(&seen.inventory);
            }
            Self::Became { name, last, .. } => {
                if !name.is_empty() {
                    record.name = name;
                }
                record.last_run = Some(last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::NodeStatus;
    use ka::failure::{Failure, FailureKind};
    use ka::step::Step;
    use std::time::SystemTime;

    fn status(nodes: Vec<NodeStatus>) -> RunStatus {
        RunStatus { nodes, ..RunStatus::new("lab", "lab", SystemTime::now()) }
    }

    #[test]
    fn a_machine_is_recorded_from_its_arrival_to_its_outcome() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::of(state.path());
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let mut recorder = Recorder::start(store.clone(), "lab").unwrap();
        let inventory = Inventory { memory: 7, ..Inventory::default() };
        recorder.joined(Seen { mac, address: [10, 0, 0, 7].into(), key: [3; 32], inventory });
        let mut node = NodeStatus {
            phase: Phase::Receiving,
            failure: None,
            hostname: "node07".into(),
            ..NodeStatus::vanished(mac)
        };
        recorder.look("getstage2.lab", &status(vec![node.clone()]));
        recorder.look("lab", &status(vec![node.clone()]));
        node.phase = Phase::Failed;
        node.failure = Some(Failure::own(Step::Receive, FailureKind::System { reason: "no space".into() }));
        recorder.look("lab", &status(vec![node.clone()]));
        drop(recorder);
        let record = store.get(mac).unwrap().unwrap();
        assert_eq!((record.name.as_str(), record.key(), record.memory), ("node07", Some([3; 32]), 7));
        assert_eq!(record.address, Some([10, 0, 0, 7].into()));
        let last = record.last_run.unwrap();
        assert_eq!((last.run.as_str(), last.outcome), ("lab", RunOutcome::Failed));
        assert_eq!((last.step.as_deref(), last.reason.as_deref()), (Some("receive"), Some("no space")));
        // A later success replaces the failure.
        let mut recorder = Recorder::start(store.clone(), "lab").unwrap();
        node.phase = Phase::Complete;
        node.failure = None;
        recorder.look("lab", &status(vec![node]));
        drop(recorder);
        let last = store.get(mac).unwrap().unwrap().last_run.unwrap();
        assert_eq!((last.outcome, last.reason), (RunOutcome::Complete, None));
    }
}
