//! Maps the nodes' disks that the operator names to disks of this machine.

use super::{PlanError, Request, WantedDisk};
use crate::golden::scan::{self, GoldenDisk, ScanError};
use ka::disk::choice::DiskChoice;
use ka::inventory::Disk;
use ka_host::mountinfo;
use ka_host::sysfs;
use std::path::Path;

/// The golden disks, and the choices with their sources on them, both in the order of the request.
pub(super) fn disks(request: &Request<'_>) -> Result<(Vec<DiskChoice>, Vec<GoldenDisk>), PlanError> {
    let machine = ka_host::hardware::disks(false);
    let names = names(request, &machine)?;
    let mut choices = Vec::new();
    let mut disks = Vec::new();
    for (wanted, name) in request.disks.iter().zip(names) {
        let excluded = |x: &String| *x == name || Some(x.as_str()) == wanted.disk.name();
        if request.exclude_disks.iter().any(excluded) {
            return Err(PlanError::Excluded(name));
        }
        let golden = scan::scan(&name)?;
        choices.push(match &wanted.disk {
            DiskChoice::Auto { .. } => {
                let bus = machine.iter().find(|disk| disk.name == name).map(|disk| disk.bus.clone());
                DiskChoice::Auto {
                    bus: bus.unwrap_or_default(),
                    size: golden.size.bytes(),
                    except: request.exclude_disks.to_vec(),
                }
            }
            other => other.clone(),
        });
        disks.push(golden);
    }
    Ok((choices, disks))
}

/// The names of the golden disks: those with the given names, and the disk with the root file system for the
/// one whose name does not exist here.
fn names(request: &Request<'_>, machine: &[Disk]) -> Result<Vec<String>, PlanError> {
    let mut names: Vec<Option<String>> = Vec::new();
    for wanted in request.disks {
        names.push(same(wanted, machine)?);
    }
    let mut resolved = Vec::new();
    for (wanted, name) in request.disks.iter().zip(&names) {
        let wrong = |reason: String| PlanError::Choice { choice: wanted.disk.to_string(), reason };
        let name = match name {
            Some(name) => name.clone(),
            None => {
                let root = root_disk(&wanted.disk)?;
                if names.iter().flatten().any(|name| *name == root) {
                    return Err(wrong(format!(
                        "which disk of this machine is to be copied there? {root}, with the root file system, is \
                         copied elsewhere; name the nodes' disk as this machine names the golden one"
                    )));
                }
                root
            }
        };
        if resolved.contains(&name) {
            return Err(wrong(format!("{name} of this machine is copied to another disk already")));
        }
        resolved.push(name);
    }
    Ok(resolved)
}

/// The disk of this machine that a choice refers to, if there is one.
fn same(wanted: &WantedDisk, machine: &[Disk]) -> Result<Option<String>, PlanError> {
    match &wanted.disk {
        DiskChoice::Name { name, .. } => match scan::find(name) {
            Ok(name) => Ok(Some(name)),
            Err(ScanError::NoDisk { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        },
        DiskChoice::Auto { .. } => Ok(None),
        DiskChoice::ById(_) => {
            // The golden disk is in use, and is only read.
            let unused = |disk: &Disk| Disk { removable: false, in_use: false, usage: None, ..disk.clone() };
            let machine: Vec<Disk> = machine.iter().map(unused).collect();
            Ok(wanted.disk.find(&machine).ok().map(|disk| disk.name.clone()))
        }
    }
}

fn root_disk(wanted: &DiskChoice) -> Result<String, PlanError> {
    let failed = |source| PlanError::Scan(ScanError::Io { path: "/".into(), error: source });
    let mounts = mountinfo::read().map_err(failed)?;
    let root = mounts.iter().rfind(|m| m.mount_point == Path::new("/"));
    let device = root.map(|m| sysfs::source_number(m).unwrap_or(m.device));
    let name = device.and_then(|d| sysfs::name_of(d).ok()).unwrap_or_else(|| "no disk".to_owned());
    // The partitions that a logical volume is ultimately made of.
    let mut devices = vec![name.clone()];
    while let Some(below) = devices.iter().position(|device| !sysfs::slaves(device).is_empty()) {
        let device = devices.swap_remove(below);
        devices.extend(sysfs::slaves(&device));
    }
    for disk in sysfs::disks().map_err(failed)? {
        if sysfs::partitions(&disk).map_err(failed)?.iter().any(|p| devices.contains(&p.name)) {
            return Ok(disk);
        }
    }
    Err(PlanError::Root { root: name, disk: wanted.to_string() })
}

/// Notes about the other disks: what is mounted from them is not copied.
pub(super) fn left_out(chosen: &[GoldenDisk], meant: &[String]) -> Vec<String> {
    let is_meant = |name: &String| {
        chosen.iter().any(|disk| disk.name == *name) || meant.contains(name) || name.starts_with("loop")
    };
    let (Ok(mounts), Ok(disks)) = (mountinfo::read(), sysfs::disks()) else { return Vec::new() };
    let mut notes = Vec::new();
    for disk in disks.iter().filter(|name| !is_meant(name)) {
        let partitions = sysfs::partitions(disk).unwrap_or_default();
        let devices = std::iter::once(disk.clone()).chain(partitions.into_iter().map(|p| p.name));
        let numbers: Vec<_> = devices.filter_map(|name| sysfs::device_number(&name).ok()).collect();
        let is_on = |m: &&mountinfo::Mount| {
            numbers.contains(&m.device) || sysfs::source_number(m).is_some_and(|n| numbers.contains(&n))
        };
        if let Some(mount) = mounts.iter().find(is_on) {
            notes.push(format!(
                "{disk} is not copied: {} is mounted from it; confirm this with `-X {disk}`",
                mount.mount_point.display()
            ));
        }
    }
    notes
}
