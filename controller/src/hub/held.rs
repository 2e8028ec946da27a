//! A session with what carries out its effects: its source, its stream's threads, and the nodes' logs.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ka::mac::Mac;
use ka::session::{Effect, Input, Piece, Session, SessionSpec};
use ka_net::listen::DataPlace;

use super::logs::Logs;
use crate::rendezvous::booted::Booted;
use crate::stream::source::Source;
use crate::stream::{Bell, Setup, Stream};

/// What a session is to do, and with what.
pub struct SessionSetup {
    /// What it is to do.
    pub spec: SessionSpec,
    /// What it streams.
    pub source: Arc<dyn Source>,
    /// Where the nodes' logs go.
    pub log: Option<PathBuf>,
    /// Who hears of the nodes' first boots, if they are awaited.
    pub booted: Option<Arc<Booted>>,
}

/// A session that is held.
pub(super) struct Held {
    pub(super) session: Session,
    source: Arc<dyn Source>,
    stream: Option<Stream>,
    log: Option<PathBuf>,
    logs: Option<Logs>,
    booted: Option<Arc<Booted>>,
    /// The nodes that it waits for, and what silence means to them.
    wanted: usize,
    dead_after: Duration,
    /// What is still to be carried out.
    queue: VecDeque<Effect>,
}

impl Held {
    pub(super) fn new(setup: SessionSetup, now: Duration) -> Self {
        let SessionSetup { spec, source, log, booted } = setup;
        let (wanted, dead_after) = (spec.wanted, spec.dead_after);
        let session = Session::new(spec, now);
        let queue = VecDeque::new();
        Self { session, source, stream: None, log, logs: None, booted, wanted, dead_after, queue }
    }

    /// The session takes what has happened.
    pub(super) fn on(&mut self, input: Input, now: Duration) {
        if matches!(input, Input::Tick | Input::Stream(_))
            && let Some(stream) = &self.stream
        {
            self.queue.extend(self.session.on(Input::Golden(stream.golden()), now));
        }
        self.queue.extend(self.session.on(input, now));
    }

    /// The operator wants the session to start with the nodes present.
    pub(super) fn go(&mut self, now: Duration) -> Result<(), String> {
        let mut answer = Ok(());
        for effect in self.session.on(Input::Go, now) {
            match effect {
                Effect::Went(outcome) => answer = outcome,
                other => self.queue.push_back(other),
            }
        }
        answer
    }

    /// Carries out what concerns this machine alone; the next effect that concerns a connection is for the hub.
    pub(super) fn next_effect(&mut self, data: &DataPlace, bell: &Bell, now: Duration) -> Option<Effect> {
        while let Some(effect) = self.queue.pop_front() {
            match effect {
                Effect::Record(_) => {}
                Effect::StartStream { golden, window } => self.start_stream(golden, window, data, bell, now),
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
        golden: std::net::IpAddr,
        window: u64,
        data: &DataPlace,
        bell: &Bell,
        now: Duration,
    ) {
        let source = Arc::clone(&self.source);
        let setup = Setup { source, golden, data, window, dead_after: self.dead_after };
        let input = match Stream::start(&setup, bell) {
            Ok((stream, started)) => {
                self.stream = Some(stream);
                Input::Started(Box::new(started))
            }
            Err(error) => Input::StartFailed(error.to_string()),
        };
        self.on(input, now);
    }

    /// Whether the stream with this id is the session's.
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
