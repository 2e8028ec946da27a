//! LVM volume groups, created with lvm2's own tools, which stage2 takes from the golden node.
//!
//! No udev runs on a node, so the tools create the device nodes themselves. They ignore the site's settings
//! and keep nothing in `/etc/lvm`. A group is active from its creation until [`Active`] is dropped.

mod report;

use super::error::DiskError;
use ka::plan::{
    Allotment, Allotted, LogicalLayout, LogicalVolume, RaidLevel, Storage, VolumeGroup, VolumeId, is_name,
    mapper_name,
};
use ka_host::tool;
use report::Member;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The time limit for a tool: zeroing new volumes on a slow disk.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Where the tools keep their locks.
const LOCKS: &str = "/run/lock/lvm";

/// Settings that replace all of the site's.
const CONFIG: &str = "devices { dir=\"/dev\" scan=[\"/dev\"] use_devicesfile=0 obtain_device_list_from_udev=0 \
    external_device_info_source=\"none\" filter=[\"a|.*|\"] global_filter=[\"a|.*|\"] } \
    activation { udev_sync=0 udev_rules=0 monitoring=0 } \
    backup { backup=0 archive=0 } global { locking_dir=\"/run/lock/lvm\" }";

/// Active groups. Dropping this deactivates them, since a disk in use can be neither cleared nor partitioned
/// again.
#[derive(Debug, Default)]
pub(super) struct Active(Vec<String>);

impl Active {
    /// Deactivates the groups.
    pub(super) fn deactivate(&mut self) -> Result<(), DiskError> {
        while let Some(group) = self.0.last() {
            run(&["vgchange", "-a", "n", group], group)?;
            self.0.pop();
        }
        Ok(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Err(e) = self.deactivate() {
            log::error!("{e}");
        }
    }
}

/// Checks that the groups of a plan can be created: the tools are present, and no other disk of this machine
/// has a group with the same name. `disks` are the disks that are erased.
pub(super) fn check(storage: &Storage, disks: &[&str]) -> Result<(), DiskError> {
    let Some(first) = storage.groups.first() else { return Ok(()) };
    let volumes = storage.groups.iter().flat_map(|group| storage.logical_volumes(group.id));
    let names = storage.groups.iter().map(|group| &group.name).chain(volumes.map(|(_, lv)| &lv.name));
    if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
        return Err(DiskError::LvmName(name.clone()));
    }
    start(&first.name)?;
    let members = report::members(&ask(&["pvs", "-o", "pv_name,vg_name"], &first.name)?)
        .map_err(|reason| failed("pvs", &first.name, reason, String::new()))?;
    for group in &storage.groups {
        let is_elsewhere = |member: &&Member| member.group == group.name && !is_on(&member.device, disks);
        if let Some(other) = members.iter().find(is_elsewhere) {
            return Err(DiskError::GroupExists { group: group.name.clone(), on: other.device.clone() });
        }
    }
    Ok(())
}

/// Whether a device is one of these disks, or a partition of one.
fn is_on(device: &Path, disks: &[&str]) -> bool {
    let Some(name) = device.file_name().and_then(|name| name.to_str()) else { return false };
    disks.iter().any(|disk| {
        let rest = name.strip_prefix(disk);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        rest.is_some_and(|rest| match rest.strip_prefix('p') {
            Some(number) => is_number(number),
            None => rest.is_empty() || is_number(rest) && !disk.ends_with(|c: char| c.is_ascii_digit()),
        })
    })
}

/// Creates a group on its physical volumes, with its logical volumes. Returns their device nodes.
pub(super) fn make(
    storage: &Storage,
    group: &VolumeGroup,
    allotment: &Allotment,
    nodes: &BTreeMap<VolumeId, PathBuf>,
    active: &mut Active,
) -> Result<BTreeMap<VolumeId, PathBuf>, DiskError> {
    let name = group.name.as_str();
    let node = |id: &VolumeId| nodes.get(id).map(|path| path.display().to_string());
    let members: Vec<String> = allotment.members.iter().filter_map(|(id, _)| node(id)).collect();
    let extent = format!("{}b", group.extent);
    let mut pvcreate = vec!["pvcreate", "-ff", "-y", "--dataalignment", "1m", "--metadatatype", "2"];
    pvcreate.extend(members.iter().map(String::as_str));
    run(&pvcreate, name)?;
    let mut vgcreate = vec!["vgcreate", "-y", "--physicalextentsize", &extent, name];
    vgcreate.extend(members.iter().map(String::as_str));
    active.0.push(name.to_owned());
    run(&vgcreate, name)?;
    let mut made = BTreeMap::new();
    for one in &allotment.volumes {
        let Some(lv) = storage.logical(one.volume) else { continue };
        let on: Vec<String> = one.members.iter().filter_map(node).collect();
        let arguments = lvcreate(storage, group, lv, one, &on);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments, &format!("{name}/{}", lv.name))?;
        if let Some(node) = self::node(storage, one.volume) {
            made.insert(one.volume, node);
        }
    }
    Ok(made)
}

/// The device node of a logical volume of the plan on this machine.
pub(super) fn node(storage: &Storage, volume: VolumeId) -> Option<PathBuf> {
    let lv = storage.logical(volume)?;
    let group = storage.group(lv.group)?;
    Some(Path::new("/dev/mapper").join(mapper_name(&group.name, &lv.name)))
}

/// The command that creates a logical volume.
fn lvcreate(
    storage: &Storage,
    group: &VolumeGroup,
    lv: &LogicalVolume,
    one: &Allotted,
    members: &[String],
) -> Vec<String> {
    let mut words: Vec<String> = ["lvcreate", "-y", "-n", &lv.name].map(str::to_owned).to_vec();
    // Remains of an old file system must not be detected. A pool does not accept `-Wy`.
    match &lv.layout {
        LogicalLayout::ThinPool { .. } => words.push("-Zy".to_owned()),
        LogicalLayout::Thin { .. } => {}
        _ => words.extend(["-Wy", "-Zy"].map(str::to_owned)),
    }
    let mut add = |more: &[String]| words.extend_from_slice(more);
    let text = |word: &str| word.to_owned();
    let extents = [text("-l"), one.extents.to_string()];
    let kib = |bytes: u64| format!("{}k", bytes / 1024);
    match &lv.layout {
        LogicalLayout::Linear => {
            add(&[text("--type"), text("linear")]);
            add(&extents);
        }
        LogicalLayout::Striped { stripes, stripe_size } => {
            add(&[text("--type"), text("striped"), text("-i"), stripes.to_string()]);
            add(&[text("-I"), kib(*stripe_size)]);
            add(&extents);
        }
        LogicalLayout::Raid(raid) => {
            add(&[text("--type"), text(raid.level.name())]);
            match raid.level {
                RaidLevel::Raid1 => add(&[text("-m"), raid.redundant.to_string()]),
                RaidLevel::Raid10 => {
                    let copies = raid.redundant.checked_div(raid.data).unwrap_or(1).max(1);
                    add(&[text("-i"), raid.data.to_string(), text("-m"), copies.to_string()]);
                }
                RaidLevel::Raid0 | RaidLevel::Raid4 | RaidLevel::Raid5 | RaidLevel::Raid6 => {
                    add(&[text("-i"), raid.data.to_string()]);
                }
            }
            if raid.stripe_size > 0 {
                add(&[text("-I"), kib(raid.stripe_size)]);
            }
            add(&extents);
        }
        LogicalLayout::ThinPool { metadata, chunk } => {
            add(&[text("--type"), text("thin-pool"), text("--poolmetadatasize"), format!("{metadata}b")]);
            add(&[text("--chunksize"), kib(*chunk)]);
            add(&extents);
        }
        LogicalLayout::Thin { pool } => {
            let pool = storage.logical(*pool).map(|pool| pool.name.clone()).unwrap_or_default();
            add(&[text("--type"), text("thin"), text("-V"), format!("{}b", one.size)]);
            words.extend([text("--thinpool"), pool, group.name.clone()]);
            return words;
        }
    }
    words.push(group.name.clone());
    words.extend_from_slice(members);
    words
}

/// The module that every tool requires, and the directory for the locks.
fn start(group: &str) -> Result<(), DiskError> {
    std::fs::create_dir_all(LOCKS)
        .map_err(|e| DiskError::io(LOCKS, "make the directory of LVM's locks", e))?;
    if !Path::new("/dev/mapper/control").exists() {
        let mut modprobe = Command::new("modprobe");
        let output = tool::output(modprobe.arg("dm-mod").stdin(Stdio::null()), LIMIT);
        let output = output.map_err(|e| failed("modprobe", group, e.to_string(), String::new()))?;
        if !output.end.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(failed("modprobe", group, output.end.to_string(), said));
        }
    }
    Ok(())
}

fn ask(arguments: &[&str], of: &str) -> Result<String, DiskError> {
    let mut all = arguments.to_vec();
    all.extend(["--reportformat", "json"]);
    lvm(&all, of)
}

fn run(arguments: &[&str], of: &str) -> Result<(), DiskError> {
    log::info!("lvm {}", arguments.join(" "));
    lvm(arguments, of).map(drop)
}

fn lvm(arguments: &[&str], of: &str) -> Result<String, DiskError> {
    let (name, rest) = arguments.split_first().unwrap_or((&"version", &[]));
    let mut command = Command::new("lvm");
    command.arg(name).args(["--config", CONFIG]).args(rest).stdin(Stdio::null());
    command.env("LC_ALL", "C").env("LVM_SUPPRESS_FD_WARNINGS", "1");
    let output = tool::output(&mut command, LIMIT)
        .map_err(|e| failed(name, of, format!("cannot start it: {e}"), String::new()))?;
    let mut said = String::new();
    for line in String::from_utf8_lossy(&output.stderr).lines().filter(|line| !line.trim().is_empty()) {
        // Writing to a string cannot fail.
        let _ = write!(said, ": {}", line.trim());
    }
    if output.end.success() {
        if !said.is_empty() {
            log::info!("lvm {name}{said}");
        }
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(name, of, output.end.to_string(), said))
}

fn failed(tool: &str, of: &str, outcome: String, output: String) -> DiskError {
    DiskError::Lvm { tool: tool.to_owned(), of: of.to_owned(), outcome, output }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::plan::{Backing, GroupId, LogicalSize, Raid, VolumeContent};

    #[test]
    fn every_layout_has_its_command() {
        let group = VolumeGroup { id: GroupId(0), name: "vg0".into(), extent: 4 << 20, golden_extents: 100 };
        let mut storage = Storage::default();
        let mut command = |name: &str, layout: LogicalLayout| {
            let size = LogicalSize::Fixed(40 << 20);
            let lv = LogicalVolume { group: group.id, name: name.into(), size, layout };
            let id = storage.add(Backing::LogicalVolume(lv.clone()), VolumeContent::Nothing);
            let one = Allotted { volume: id, size: 40 << 20, extents: 10, members: Vec::new() };
            (id, lvcreate(&storage, &group, &lv, &one, &["/dev/sda2".into(), "/dev/sdb2".into()]).join(" "))
        };
        let raid = |level, data, redundant, stripe_size| {
            LogicalLayout::Raid(Raid { level, data, redundant, stripe_size })
        };
        let on = "vg0 /dev/sda2 /dev/sdb2";
        for (name, layout, words) in [
            ("root", LogicalLayout::Linear, "--type linear -l 10"),
            (
                "fast",
                LogicalLayout::Striped { stripes: 2, stripe_size: 65_536 },
                "--type striped -i 2 -I 64k -l 10",
            ),
            ("safe", raid(RaidLevel::Raid1, 1, 1, 0), "--type raid1 -m 1 -l 10"),
            ("r5", raid(RaidLevel::Raid5, 2, 1, 65_536), "--type raid5 -i 2 -I 64k -l 10"),
            ("r6", raid(RaidLevel::Raid6, 3, 2, 65_536), "--type raid6 -i 3 -I 64k -l 10"),
            ("r10", raid(RaidLevel::Raid10, 2, 2, 65_536), "--type raid10 -i 2 -m 1 -I 64k -l 10"),
        ] {
            assert_eq!(command(name, layout).1, format!("lvcreate -y -n {name} -Wy -Zy {words} {on}"));
        }
        let pool = LogicalLayout::ThinPool { metadata: 4 << 20, chunk: 65_536 };
        let (pool, words) = command("pool", pool);
        assert_eq!(
            words,
            format!(
                "lvcreate -y -n pool -Zy --type thin-pool --poolmetadatasize 4194304b --chunksize 64k -l 10 {on}"
            )
        );
        let (_, words) = command("thin", LogicalLayout::Thin { pool });
        assert_eq!(words, "lvcreate -y -n thin --type thin -V 41943040b --thinpool pool vg0");
    }

    #[test]
    fn a_partition_is_on_its_disk() {
        let disks = ["sda", "nvme0n1"];
        for (device, on) in [
            ("/dev/sda", true),
            ("/dev/sda3", true),
            ("/dev/nvme0n1p2", true),
            ("/dev/sdaa1", false),
            ("/dev/sdb1", false),
            ("/dev/nvme0n12", false),
            ("/dev/nvme0n1", true),
            ("/dev/dm-3", false),
        ] {
            assert_eq!(is_on(Path::new(device), &disks), on, "{device}");
        }
    }
}
