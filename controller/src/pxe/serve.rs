//! The boot server's life: dnsmasq runs, the menu follows the runs' leases, and at the end every machine
//! boots from its disk again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::confine::Confined;
use super::dnsmasq::{Death, Dnsmasq, DnsmasqError};
use super::files::BootDirectory;
use super::http::{self, HttpError};
use super::menu;
use super::restart::{Restarts, Verdict};
use super::rights;
use super::run_image::RunImages;
use super::service::Service;
use crate::rendezvous::lease::{self, LeaseError};
use ka_host::atomic::FileError;
use ka_host::guarded;
use ka_host::ports::{self, Transport};
use ka_host::sys::queue::unacknowledged;
use ka_net::http::server::Endpoint;

/// How often the leases are read. A killed run's nodes can boot `kamethod` for that much longer.
const LEASES_EVERY: Duration = Duration::from_millis(500);

/// Why the boot server cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another one is running.
    #[error("another kactl pxe is running (it holds {})", path.display())]
    Running {
        /// Its lock.
        path: PathBuf,
    },
    /// dnsmasq dies every time it is started.
    #[error(
        "dnsmasq ended {deaths} times in a row, at last with {}; it said:{}{}",
        death.status,
        indent(&death.output),
        holders
    )]
    KeepsDying {
        /// The number of deaths.
        deaths: u32,
        /// The last death.
        death: Death,
        /// The owners of the ports that it needs, found before its first start.
        holders: String,
    },
    /// dnsmasq cannot be started or watched.
    #[error(transparent)]
    Dnsmasq(#[from] DnsmasqError),
    /// The files cannot be served over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The menu cannot be written. Continuing could offer `kamethod` after its run has ended.
    #[error("what machines boot cannot be kept up to date")]
    Menu(#[source] FileError),
    /// Another user can open the lock.
    #[error(transparent)]
    Lock(FileError),
    /// The leases cannot be read.
    #[error("cannot read the runs' leases")]
    Leases(#[from] LeaseError),
    /// The interface has disappeared. dnsmasq would wait for it for ever, and the other sockets belong to the
    /// old one.
    #[error("the interface {name} is gone: start kactl pxe again when it is back")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Another system call failed.
    #[error("cannot {action}")]
    System {
        /// The operation.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Only one boot server at a time: two would undo each other's menu.
#[derive(Debug)]
pub struct OnlyOne {
    _locked: File,
}

impl OnlyOne {
    /// Takes the boot server's lock in the run directory.
    ///
    /// # Errors
    /// [`ServeError::Running`] if a living process holds it.
    pub fn take(run: &Path) -> Result<Self, ServeError> {
        let path = run.join("pxe.lock");
        let file = guarded::lock(&path).map_err(ServeError::Lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _locked: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(ServeError::Running { path }),
            Err(e) => Err(system("lock the boot server's lock")(e.into())),
        }
    }
}

/// Serves until SIGTERM, SIGINT or SIGHUP. Must be called from the main thread before any other is started:
/// the signals must be blocked in all threads.
///
/// # Errors
/// [`ServeError`]. Even then dnsmasq is stopped, and the menu is set to `local` if it can be written at all.
pub fn serve(
    boot: &BootDirectory,
    service: &Service,
    dnsmasq: (&Path, Option<Confined>),
    runs: &Path,
    mut images: Option<&mut RunImages>,
) -> Result<(), ServeError> {
    let signals = stop_signals()?;
    let endpoint = Endpoint {
        address: (service.address(), service.http).into(),
        interface: Some(service.interface.clone()),
        queue: unacknowledged,
    };
    let listening = http::listen(&endpoint)?;
    let holders = holders();
    if let Err(error) = rights::keep_needed() {
        log::warn!("cannot drop unneeded rights: {error}");
    }
    http::serve(listening, boot.root())?;
    let mut server = Server::start(dnsmasq, holders)?;
    let outcome = follow(boot, (runs, images.as_deref_mut()), &signals, &mut server, &service.interface);
    // Done before dnsmasq stops, so that there is no moment at which it serves an outdated menu.
    let menu = boot.all_local();
    if let Some(images) = images {
        images.follow(&mut Vec::new());
    }
    drop(server);
    outcome?;
    menu.map_err(ServeError::Menu)
}

fn follow(
    boot: &BootDirectory,
    (runs, mut images): (&Path, Option<&mut RunImages>),
    signals: &SignalFd,
    server: &mut Server<'_>,
    interface: &str,
) -> Result<(), ServeError> {
    let gone = || ServeError::NoInterface { name: interface.to_owned() };
    let index = if_nametoindex(interface).map_err(|_| gone())?;
    loop {
        let mut leases = lease::alive(runs)?;
        match &mut images {
            Some(images) => images.follow(&mut leases),
            None => leases.iter_mut().for_each(|(_, lease)| lease.join = None),
        }
        boot.apply(&menu::choose(&leases, boot.settings())).map_err(ServeError::Menu)?;
        boot.hide_long_lived_key(images.is_some()).map_err(ServeError::Menu)?;
        wait(signals, server)?;
        if let Some(signal) = signals.read_signal().map_err(|e| system("read signals")(e.into()))? {
            log::info!("stopping: signal {}", signal.ssi_signo);
            return Ok(());
        }
        server.keep_up()?;
        if if_nametoindex(interface) != Ok(index) {
            return Err(gone());
        }
    }
}

/// Waits for a signal, for dnsmasq to end, or until the leases are to be read again.
fn wait(signals: &SignalFd, server: &Server<'_>) -> Result<(), ServeError> {
    let ended = server.dnsmasq.as_ref().map(Dnsmasq::ended);
    let mut events = vec![PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    events.extend(ended.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let timeout = Timespec::try_from(LEASES_EVERY).map_err(|e| system("wait")(io::Error::other(e)))?;
    match poll(&mut events, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(system("wait for signals")(e.into())),
    }
}

fn stop_signals() -> Result<SignalFd, ServeError> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals
        .thread_block()
        .and_then(|()| {
            use nix::sys::signalfd::SfdFlags;
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        })
        .map_err(|e| system("listen for signals")(e.into()))
}

/// dnsmasq, restarted when it dies.
struct Server<'a> {
    config: &'a Path,
    user: Option<Confined>,
    dnsmasq: Option<Dnsmasq>,
    restarts: Restarts,
    holders: String,
    /// When it will be restarted, while it is down.
    next_start: Instant,
}

impl<'a> Server<'a> {
    fn start((config, user): (&'a Path, Option<Confined>), holders: String) -> Result<Self, ServeError> {
        let dnsmasq = Some(Dnsmasq::start(config, user)?);
        let restarts = Restarts::default();
        Ok(Self { config, user, dnsmasq, restarts, holders, next_start: Instant::now() })
    }

    fn keep_up(&mut self) -> Result<(), ServeError> {
        match &mut self.dnsmasq {
            Some(dnsmasq) => {
                if let Some(death) = dnsmasq.death()? {
                    self.dnsmasq = None;
                    self.judge(death)?;
                }
            }
            None if Instant::now() >= self.next_start => {
                self.dnsmasq = Some(Dnsmasq::start(self.config, self.user)?)
            }
            None => {}
        }
        Ok(())
    }

    fn judge(&mut self, death: Death) -> Result<(), ServeError> {
        match self.restarts.died(death.lived) {
            Verdict::After(pause) => {
                log::warn!("dnsmasq ended ({}); restarting it in {pause:?}", death.status);
                self.next_start = Instant::now() + pause;
                Ok(())
            }
            Verdict::GiveUp { deaths } => {
                Err(ServeError::KeepsDying { deaths, death, holders: self.holders.clone() })
            }
        }
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::System { action, source }
}

/// The owners of the ports that dnsmasq needs, before it is started.
fn holders() -> String {
    let name =
        |port| Some(format!("\n    UDP port {port} is held by {}", ports::holder(Transport::Udp, port)?));
    [67, 69, 4011].into_iter().filter_map(name).collect()
}

fn indent(lines: &[String]) -> String {
    if lines.is_empty() {
        return " nothing".into();
    }
    lines.iter().map(|line| format!("\n    {line}")).collect()
}
