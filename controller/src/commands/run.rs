//! `kactl run`: clones this machine onto N nodes.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use ka::mac::Mac;

use super::options::machine_lists;
use super::options::run::RunArgs;
use super::{conclude, offer};
use crate::config::Config;
use crate::exit::{CommandResult, Exit};
use crate::golden::plan;
use crate::journal::{Header, Recorded};
use crate::lists::hosts::Hosts;
use crate::pxe::beside::Beside;
use crate::workflow::clone::{self, End, Request};
use crate::workflow::notify::Notify;
use crate::workflow::select::Permission;

/// Executes `kactl run`, or continues a run.
///
/// # Errors
/// The cause, with the corresponding exit status.
pub fn run(args: &RunArgs, config: &Config, config_file: &Path, recorded: Option<Recorded>) -> CommandResult {
    let notify = Notify::new(args.night.notify.clone(), &args.session);
    let mut report = String::new();
    let outcome = hold(args, (config, config_file), recorded, &notify, &mut report);
    let status = match &outcome {
        Ok(exit) => exit.code(),
        Err(failure) => {
            report.push_str(&format!("kactl run: {:#}\n", failure.error));
            failure.exit.code()
        }
    };
    notify.end(status, &report);
    outcome
}

/// Carries out the run; `report` is for the end-of-run notification.
fn hold(
    args: &RunArgs,
    (config, config_file): (&Config, &Path),
    recorded: Option<Recorded>,
    notify: &Notify,
    report: &mut String,
) -> CommandResult {
    offer::what_is_missing(config)?;
    let request = request(args, config, notify, recorded)?;
    let _serving = match &args.pxe {
        Some(interface) => {
            // Nothing is served for a run that cannot begin.
            clone::check(&request, config)?;
            Some(Beside::start(interface, config_file, &config.directories.run)?)
        }
        None => None,
    };
    match clone::run(&request, config)? {
        End::DryRun(machines) => conclude::dry_run(&args.session, &machines, args.stream.output()),
        End::Held { session, undone, missing, gone } => {
            report.push_str(&conclude::text(&session, &missing, &gone));
            let outcome = conclude::session(&session, args.stream.output())?;
            // The nodes are complete; what was not undone on this machine is left to the operator.
            if outcome == Exit::Ok { Ok(undone.map(|()| Exit::Ok)?) } else { Ok(outcome) }
        }
    }
}

/// The request from the options, with the lists that they name.
fn request<'a>(
    args: &'a RunArgs,
    config: &'a Config,
    notify: &'a Notify,
    recorded: Option<Recorded>,
) -> anyhow::Result<Request<'a>> {
    let count = args.nodes_wanted.map(|count| usize::try_from(count.get())).transpose()?;
    let (permission, names, hosts) = match &recorded {
        // The lists may have been on standard input, or in files that are gone.
        Some(recorded) => {
            let Header { session, .. } = &recorded.header;
            let listed = session.only.clone().map(Permission::Listed);
            let names = session.plans.as_ref().map(|plans| plans.names.clone());
            (listed.unwrap_or_else(|| unlisted(args)), names.unwrap_or_default(), Hosts::default())
        }
        None => {
            let hosts = args.identity.table(config)?;
            (permission(args, count, &hosts, config)?, args.identity.names(hosts.clone()), hosts)
        }
    };
    let macs: Vec<Mac> = match &permission {
        Permission::Listed(macs) => macs.iter().copied().collect(),
        Permission::First | Permission::Ask => Vec::new(),
    };
    let wanted = count.unwrap_or(macs.len());
    if args.yes && !args.dry_run && recorded.is_none() {
        log::warn!(
            "--yes without --nodes: the first {wanted} to boot into this run {} without a question, whichever they are; \
             name them with --nodes",
            if wanted == 1 { "machine is erased" } else { "machines are erased" }
        );
    }
    Ok(Request {
        golden: golden(args, config),
        wanted,
        permission,
        confirm_codes: args.confirm_codes,
        names,
        delay: args.identity.delay,
        wait_booted: args.identity.wait_booted,
        hooks: args.hooks.hooks(),
        store_log: args.store_log.clone(),
        store_log_password: args.store_log_password.clone(),
        dry_run: args.dry_run,
        wake: args.night.wake(&macs, &hosts, config)?,
        at: args.night.at,
        notify,
        recorded,
        stream: args.stream.streaming(config)?,
    })
}

fn golden<'a>(args: &'a RunArgs, config: &'a Config) -> plan::Request<'a> {
    plan::Request {
        run: &args.session,
        disks: &args.disks.disks,
        exclude_dirs: &args.exclude_dirs,
        exclude_disks: &args.exclude_disks,
        own_dirs: config.directories.own(),
        raw: &args.raw,
        boot_code: &args.disks.boot_code,
        scale: args.scale,
        keep_uuids: args.keep_uuids,
        sizes: &args.lv,
        stage2: Some(config.directories.stage2()),
        boot: args.boot.plan(),
        after: args.boot.after,
    }
}

fn permission(
    args: &RunArgs,
    count: Option<usize>,
    hosts: &Hosts,
    config: &Config,
) -> anyhow::Result<Permission> {
    let Some(argument) = &args.nodes else { return Ok(unlisted(args)) };
    let is_stdin = |path: Option<&PathBuf>| path.is_some_and(|path| path.as_os_str() == "-");
    ensure!(
        !(is_stdin(Some(argument)) && is_stdin(args.identity.hosts.as_ref())),
        "only one of --nodes and --hosts can be read from standard input"
    );
    let listed = machine_lists::nodes(argument, hosts, config)?;
    let wanted = count.unwrap_or(listed.len());
    ensure!(
        listed.len() >= wanted,
        "{} lists {} machines, and -n asks for {wanted}",
        argument.display(),
        listed.len()
    );
    Ok(Permission::Listed(listed.into_iter().collect()))
}

/// What allows a machine to be erased if no list does.
fn unlisted(args: &RunArgs) -> Permission {
    if args.yes { Permission::First } else { Permission::Ask }
}
