//! A session together with the resources that carry out its effects: its source, its stream's threads, and
//! the nodes' logs.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ka::mac::Mac;
use ka::session::{Effect, Event, Input, Piece, Session, SessionSpec};
use ka_net::listen::DataEndpoint;
use mio::Waker;

use super::logs::Logs;
use crate::journal::Journal;
use crate::rendezvous::booted::Booted;
use crate::stream::source::Source;
use crate::stream::{Setup, Stream, StreamNotifier};

/// How long effects may wait until the event that caused them is on disk. After that, the run continues
/// without waiting.
const MAX_SYNC: Duration = Duration::from_secs(10);

/// A session's task and its resources.
pub struct SessionSetup {
    /// The session's parameters.
    pub spec: SessionSpec,
    /// The source of the stream.
    pub source: Arc<dyn Source>,
    /// The directory of the nodes' logs.
    pub log: Option<PathBuf>,
    /// The receiver of first-boot reports, if they are awaited.
    pub booted: Option<Arc<Booted>>,
    /// The journal for the session's events.
    pub journal: Option<Journal>,
    /// The events of an ended process, if this process takes its session over.
    pub resume: Option<Vec<Event>>,
}

/// A session held by this process.
pub(super) struct Held {
    pub(super) session: Session,
    source: Arc<dyn Source>,
    stream: Option<Stream>,
    log: Option<PathBuf>,
    logs: Option<Logs>,
    booted: Option<Arc<Booted>>,
    /// The nodes that the session waits for, and how it treats silent ones.
    wanted: usize,
    dead_after: Duration,
    journal: Option<Journal>,
    waker: Arc<Waker>,
    /// How much of the journal must be on disk before the next effects may be carried out, and since when
    /// this wait lasts.
    needs: u64,
    awaited_since: Option<Duration>,
    /// The pending effects, each with the position in the journal that it follows from.
    queue: VecDeque<(u64, Effect)>,
}

impl Held {
    pub(super) fn new(setup: SessionSetup, waker: Arc<Waker>, now: Duration) -> Self {
        let SessionSetup { spec, source, log, booted, journal, resume } = setup;
        let (wanted, dead_after) = (spec.wanted, spec.dead_after);
        let (session, effects) = match resume {
            Some(events) => Session::resume(spec, &events, now),
            None => (Session::new(spec, now), Vec::new()),
        };
        let mut held = Self {
            session,
            source,
            stream: None,
            log,
            logs: None,
            booted,
            wanted,
            dead_after,
            journal,
            waker,
            needs: 0,
            awaited_since: None,
            queue: VecDeque::new(),
        };
        held.take(effects);
        held
    }

    /// Records the journal effects; all others are queued.
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match (effect, &mut self.journal) {
                (Effect::Record(event), Some(journal)) => {
                    let number = journal.record(&event, &self.waker);
                    if event.is_decision() {
                        self.needs = number;
                    }
                }
                (Effect::Record(_), None) => {}
                (effect, _) => self.queue.push_back((self.needs, effect)),
            }
        }
    }

    /// The next effect whose cause is on disk: a process that takes over must not contradict it.
    fn next_due(&mut self, now: Duration) -> Option<Effect> {
        let (needs, _) = self.queue.front()?;
        let written = self.journal.as_ref().map_or(u64::MAX, Journal::written);
        if *needs > written {
            let since = *self.awaited_since.get_or_insert(now);
            if now.saturating_sub(since) < MAX_SYNC {
                return None;
            }
            log::error!(
                "{}: the journal's disk has not responded for {} s: the run continues, but resuming it may \
                 fail",
                self.session.name(),
                MAX_SYNC.as_secs()
            );
            // Its thread hangs with the disk.
            self.journal.take().into_iter().for_each(Journal::abandon);
        }
        self.awaited_since = None;
        self.queue.pop_front().map(|(_, effect)| effect)
    }

    /// Applies an event to the session.
    pub(super) fn on(&mut self, input: Input, now: Duration) {
        if matches!(input, Input::Tick | Input::Stream(_))
            && let Some(stream) = &self.stream
        {
            let effects = self.session.on(Input::Golden(stream.golden()), now);
            self.take(effects);
        }
        let effects = self.session.on(input, now);
        self.take(effects);
    }

    /// Starts the session with the nodes present, at the operator's request.
    pub(super) fn go(&mut self, now: Duration) -> Result<(), String> {
        let (mut answer, mut effects) = (Ok(()), self.session.on(Input::Go, now));
        effects.retain(|effect| match effect {
            Effect::Went(outcome) => {
                answer.clone_from(outcome);
                false
            }
            _ => true,
        });
        self.take(effects);
        answer
    }

    /// Carries out the effects that concern only this machine, and returns the next one that concerns a
    /// connection, for the hub.
    pub(super) fn next_effect(
        &mut self,
        data: &DataEndpoint,
        notifier: &StreamNotifier,
        now: Duration,
    ) -> Option<Effect> {
        while let Some(effect) = self.next_due(now) {
            match effect {
                Effect::Record(_) => {}
                Effect::Report(line) => log::info!("{line}"),
                Effect::StartStream { golden, window } => {
                    self.start_stream(golden, window, data, notifier, now)
                }
                Effect::PlaceGolden(view) => {
                    if let Some(stream) = &self.stream {
                        stream.place_golden(*view);
                    }
                }
                Effect::ReleaseStream => self.stream.take().into_iter().for_each(Stream::release),
                Effect::GiveUpStream => self.stream.take().into_iter().for_each(Stream::give_up),
                Effect::StoreLog(piece) => self.store_log(piece),
                Effect::AwaitBoot { mac, token } => self.await_boot(mac, &token),
                Effect::Went(_) => {}
                effect @ (Effect::Joined { .. } | Effect::Refused { .. } | Effect::Send { .. }) => {
                    return Some(effect);
                }
            }
        }
        None
    }

    fn start_stream(
        &mut self,
        golden: IpAddr,
        window: u64,
        data: &DataEndpoint,
        notifier: &StreamNotifier,
        now: Duration,
    ) {
        let source = Arc::clone(&self.source);
        let setup = Setup { source, golden, data, window, dead_after: self.dead_after };
        let input = match Stream::start(&setup, notifier) {
            Ok((stream, started)) => {
                self.stream = Some(stream);
                Input::Started(Box::new(started))
            }
            Err(error) => Input::StartFailed(error.to_string()),
        };
        self.on(input, now);
    }

    /// Whether the stream with this id belongs to the session.
    pub(super) fn streams(&self, id: ka::seal::StreamId) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.id == id)
    }

    fn store_log(&mut self, piece: Piece) {
        let Some(directory) = &self.log else { return };
        if self.logs.is_none() {
            match Logs::new(directory.clone(), self.wanted) {
                Ok(logs) => self.logs = Some(logs),
                Err(error) => log::error!("the log of {} cannot be stored: {error}", piece.label),
            }
        }
        if let Some(logs) = &self.logs {
            logs.store(piece);
        }
    }

    fn await_boot(&self, mac: Mac, token: &str) {
        if let Some(booted) = &self.booted {
            booted.expect(mac, token);
        }
    }
}
