//! Sends files to running hosts: one session, without a plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka::session::{AdmissionPolicy, SessionSpec};

use super::faults::Faults;
use super::memory::{self, Memory};
use super::reach;
use super::streaming::Streaming;
use super::watch;
use crate::config::{Config, keys};
use crate::exit::FatalError;
use crate::hub::{Hub, HubSetup, SessionSetup, Snapshot};
use crate::journal::Recorded;
use crate::stream::source::Source;
use crate::view::progress::ProgressView;

/// A request to send files.
pub struct Request {
    /// The name by which the hosts find the session.
    pub session: String,
    /// The data to send.
    pub source: Arc<dyn Source>,
    /// The number of hosts to wait for.
    pub wanted: usize,
    /// The directory of the keys, if it differs from the configuration's.
    pub keys: Option<PathBuf>,
    /// The stream's settings.
    pub stream: Streaming,
    /// The session as recorded by a process that ended unexpectedly, if this process continues it.
    pub recorded: Option<Recorded>,
}

/// Checks everything that can be known before the session waits, and before its source is opened.
///
/// # Errors
/// All faults at once.
pub fn check(
    config: &Config,
    keys: Option<&Path>,
    stream: &Streaming,
    recorded: Option<&Recorded>,
) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    faults.take(keys::load(keys.unwrap_or(&config.directories.keys)).map_err(Into::into));
    faults.take(reach::check(&hub_setup(config, stream, recorded)));
    faults.end()
}

/// Where the session listens; a session that goes on, where its hosts look for it.
fn hub_setup(config: &Config, stream: &Streaming, recorded: Option<&Recorded>) -> HubSetup {
    let mut hub_setup = HubSetup::new(config, stream.listen, stream.interface.clone());
    if let Some(recorded) = recorded {
        hub_setup.control = recorded.header.port;
    }
    hub_setup
}

/// Waits for the hosts, streams, and returns the session's final state.
///
/// # Errors
/// The cause, with the corresponding exit status.
pub fn run(request: &Request, config: &Config) -> Result<Snapshot, FatalError> {
    let hub = listen(request, config)?;
    log::info!("the session {} waits for {} nodes on port {}", request.session, request.wanted, hub.port);
    watch::until_over(&hub, &request.session, &mut ProgressView::start(), |_| ())
}

fn listen(request: &Request, config: &Config) -> anyhow::Result<Hub> {
    let Request { session, source, wanted, stream, recorded, .. } = request;
    let directory = request.keys.as_deref().unwrap_or(&config.directories.keys);
    let mut keys = keys::load(directory)?;
    let hub_setup = hub_setup(config, stream, recorded.as_ref());
    let spec = match recorded {
        Some(recorded) => {
            keys = memory::same_keys(recorded, keys, directory)?;
            recorded.header.session.clone()
        }
        None => SessionSpec {
            timeout: stream.timeout,
            total: source.length(),
            ..stream.session(session, *wanted, AdmissionPolicy::First)
        },
    };
    let mut header = memory::header(spec.clone(), &keys, None)?;
    let memory = match Memory::of(recorded.as_ref(), &config.directories, session) {
        Ok(memory) => Some(memory),
        Err(error) if recorded.is_none() => {
            log::warn!("this session cannot be resumed: {error:#}");
            None
        }
        Err(error) => return Err(error),
    };
    let (home, journal, resume) = Memory::split(memory);
    let source = stream.tuned(Arc::clone(source));
    let setup = SessionSetup { spec, source, log: None, booted: None, journal, resume };
    config.directories.make_run()?;
    let hub = Hub::start(&hub_setup, keys, vec![setup])?;
    match (recorded, home) {
        (Some(recorded), _) => memory::same_port(recorded, hub.port)?,
        (None, Some(home)) => {
            header.port = hub.port;
            header.write(&home)?;
        }
        (None, None) => {}
    }
    Ok(hub)
}
