//! The work of a node, from the kernel's command line to its own disk.
//!
//! It runs as the child of PID 1. Stage1 finds the controller and fetches stage2 into memory. From then on
//! this process lives in stage2, with its tools, and becomes a copy of the golden node.

mod install;
mod outbox;
mod stage1;
mod stage2;

pub use stage1::KEY_FILE;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ka::plan::Secret;
use ka::step::Step;
use log::LevelFilter;

use crate::console::trace::{self, StepFile};
use crate::init::{self, ExitAction};
use crate::step::{self, step};
use ka::cmdline::{self, CommandLine};
use ka_host::hardware;

/// Does all the work of a node; PID 1 acts on the outcome.
///
/// # Errors
/// The reason, which is already logged, and reported to the controller if that could be reached.
pub fn work() -> Result<ExitAction, String> {
    // The log level comes with the command line; until then little is logged.
    init::log::start(LevelFilter::Info).map_err(|e| format!("cannot log: {e}"))?;
    match StepFile::create(Path::new(trace::STEP)) {
        Ok(file) => step::keep(move |doing| file.set(&doing.to_string())),
        Err(error) => log::warn!("{}: {error}: the console shows no step", trace::STEP),
    }
    let outcome = stage1::fetch_stage2()
        .and_then(|node| {
            stage2::enter()?;
            let inventory = stage2::take_stock(&node)?;
            install::install(&node, inventory)
        })
        .inspect_err(|reason| log::error!("{reason}"));
    log::logger().flush();
    store_log();
    outcome
}

/// The plan's settings for the log server.
static LOG_PASSWORD: Mutex<Option<Secret>> = Mutex::new(None);

/// Stores the log where the command line says. A failure here does not fail a node that is done.
fn store_log() {
    let text = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let Ok(CommandLine { store_log: Some(server), bootif, .. }) = cmdline::parse(&text) else { return };
    let name =
        bootif.map(|mac| mac.to_string()).or_else(hardware::first_card).unwrap_or_else(|| "node".into());
    let name = format!("{}.log", name.replace(':', "-"));
    let password = LOG_PASSWORD.lock().unwrap_or_else(PoisonError::into_inner).take();
    let server = match password {
        Some(password) => server.with_password(&password.0),
        None => server,
    };
    if server.lacks_password() {
        log::warn!("the log server may need a password, which arrives with the plan: no plan has arrived");
    }
    // A failure is logged with its step.
    let _ = step(Step::StoreLog, || crate::store_log::store(&server, &name, Path::new(init::log::FILE)));
}

/// An error's text with the failed action.
fn trouble<E: Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
