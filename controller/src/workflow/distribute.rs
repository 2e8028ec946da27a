//! Files for hosts that run already: one session, without a plan.

use std::path::PathBuf;
use std::sync::Arc;

use ka::session::{Gate, SessionSpec};

use super::streaming::Streaming;
use super::watch;
use crate::config::{Config, keys};
use crate::exit::Failure;
use crate::hub::{Hub, Place, SessionSetup, Snapshot};
use crate::stream::source::Source;
use crate::view::progress::Progress;

/// What is sent to whom.
pub struct Request {
    /// The name by which the hosts find the session.
    pub session: String,
    /// What they receive.
    pub source: Arc<dyn Source>,
    /// How many hosts to wait for.
    pub wanted: usize,
    /// The directory of the keys, if it is not the configuration's.
    pub keys: Option<PathBuf>,
    /// How the stream is held.
    pub stream: Streaming,
}

/// Waits for the hosts, streams, and gives the session as it ended.
///
/// # Errors
/// What stopped it, with the exit status that says so.
pub fn run(request: &Request, config: &Config) -> Result<Snapshot, Failure> {
    let hub = listen(request, config)?;
    log::info!("the session {} waits for {} nodes on port {}", request.session, request.wanted, hub.port);
    watch::until_over(&hub, &request.session, &mut Progress::start(request.stream.json), |_| ())
}

fn listen(request: &Request, config: &Config) -> anyhow::Result<Hub> {
    let Request { session, source, wanted, stream, .. } = request;
    let keys = keys::load(request.keys.as_deref().unwrap_or(&config.directories.keys))?;
    let spec = SessionSpec { timeout: stream.timeout, ..stream.session(session, *wanted, Gate::First) };
    let setup = SessionSetup { spec, source: Arc::clone(source), log: None, booted: None };
    Ok(Hub::start(&Place::new(config, stream.listen, stream.interface.clone()), keys, vec![setup])?)
}
