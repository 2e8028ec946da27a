//! The volume groups of the golden node, as reported by LVM's own tools.
//!
//! The reports are JSON from lvm2's `--reportformat json`: every value is a text, and sizes are bytes
//! (`--units b --nosuffix`). A volume with several segments has one row for each.

use ka::plan::{LogicalLayout, Raid, RaidLevel};
use ka_host::tool;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The time limit for a report.
const LIMIT: Duration = Duration::from_secs(60);

const VG_FIELDS: &str =
    "vg_name,vg_uuid,vg_attr,vg_extent_size,vg_extent_count,vg_free_count,vg_missing_pv_count,pv_count";
const PV_FIELDS: &str = "pv_name,pv_uuid,vg_name";
const LV_FIELDS: &str = "lv_name,vg_name,lv_uuid,lv_size,lv_attr,lv_role,segtype,stripes,data_stripes,stripe_size,\
    pool_lv,origin,chunk_size,lv_metadata_size,data_percent,metadata_percent,lv_health_status,lv_dm_path";

/// A volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The size of an extent in bytes.
    pub extent: u64,
    /// The number of its extents.
    pub extents: u64,
    /// The device nodes of its physical volumes.
    pub members: Vec<PathBuf>,
    /// Its logical volumes; pools come before the volumes inside them.
    pub volumes: Vec<Logical>,
    /// The problem that prevents copying it.
    pub fault: Option<String>,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its device node.
    pub node: PathBuf,
    /// How it is treated.
    pub fate: Fate,
}

/// How a logical volume is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is created on the clones.
    Made {
        /// Its layout on the physical volumes.
        layout: GoldenLayout,
        /// What the clone's volume lacks: its cache.
        without: Option<&'static str>,
    },
    /// It is not part of the clones: a snapshot.
    Skipped,
    /// It cannot be created, for this reason.
    Refused(String),
}

/// The layout of a golden volume on the physical volumes; a thin volume names its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoldenLayout {
    /// As in the plan.
    Of(LogicalLayout),
    /// In the pool with this name.
    ThinIn(String),
}

/// Why the groups cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// The tool cannot be run, or fails.
    #[error("lvm {report}: {reason}: the contents of LVM's physical volumes are unknown (package lvm2)")]
    Tool {
        /// The report that was asked for.
        report: &'static str,
        /// The failure.
        reason: String,
    },
    /// Its output is not understood.
    #[error("lvm {report}: {error}")]
    Json {
        /// The report that was asked for.
        report: &'static str,
        /// The problem.
        error: serde_json::Error,
    },
    /// A value is not a number.
    #[error("lvm {report}: expected a number for {field} of {of}, found `{found}`")]
    Number {
        /// The report.
        report: &'static str,
        /// The field.
        field: &'static str,
        /// The group or volume.
        of: String,
        /// The value.
        found: String,
    },
}

/// All groups on this machine.
///
/// # Errors
/// LVM's tools are missing, fail, or print something that is not understood.
pub fn groups() -> Result<Vec<Group>, LvmError> {
    parse(&report("vgs", VG_FIELDS)?, &report("pvs", PV_FIELDS)?, &report("lvs", LV_FIELDS)?)
}

fn report(name: &'static str, fields: &str) -> Result<String, LvmError> {
    let failed = |reason: String| LvmError::Tool { report: name, reason };
    let mut command = Command::new("lvm");
    command.args([name, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields]);
    command.env("LC_ALL", "C").env("LVM_SUPPRESS_FD_WARNINGS", "1").stdin(Stdio::null());
    let output = tool::output(&mut command, LIMIT).map_err(|e: io::Error| failed(e.to_string()))?;
    if output.end.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(format!("{}: {}", output.end, String::from_utf8_lossy(&output.stderr).trim())))
}

#[derive(Deserialize)]
struct Report<T> {
    report: Vec<T>,
}

#[derive(Deserialize)]
struct Vgs {
    vg: Vec<Vg>,
}

#[derive(Deserialize)]
struct Pvs {
    pv: Vec<Pv>,
}

#[derive(Deserialize)]
struct Lvs {
    lv: Vec<Lv>,
}

#[derive(Deserialize)]
struct Vg {
    vg_name: String,
    vg_attr: String,
    vg_extent_size: String,
    vg_extent_count: String,
    vg_missing_pv_count: String,
}

#[derive(Deserialize)]
struct Pv {
    pv_name: String,
    vg_name: String,
}

#[derive(Clone, Deserialize)]
struct Lv {
    lv_name: String,
    vg_name: String,
    lv_size: String,
    lv_role: String,
    segtype: String,
    stripes: String,
    data_stripes: String,
    stripe_size: String,
    pool_lv: String,
    chunk_size: String,
    lv_metadata_size: String,
    data_percent: String,
    metadata_percent: String,
    lv_health_status: String,
    lv_dm_path: String,
}

/// Builds the groups from three reports.
fn parse(vgs: &str, pvs: &str, lvs: &str) -> Result<Vec<Group>, LvmError> {
    let members: Vec<Pv> = rows::<Pvs>("pvs", pvs)?.into_iter().flat_map(|report| report.pv).collect();
    let segments: Vec<Lv> = rows::<Lvs>("lvs", lvs)?.into_iter().flat_map(|report| report.lv).collect();
    let mut groups = Vec::new();
    for vg in rows::<Vgs>("vgs", vgs)?.into_iter().flat_map(|report| report.vg) {
        let figure = |field, text: &str| number("vgs", field, &vg.vg_name, text);
        let own = members.iter().filter(|pv| pv.vg_name == vg.vg_name);
        let missing = figure("vg_missing_pv_count", &vg.vg_missing_pv_count)?;
        groups.push(Group {
            extent: figure("vg_extent_size", &vg.vg_extent_size)?,
            extents: figure("vg_extent_count", &vg.vg_extent_count)?,
            members: own
                .filter(|pv| pv.pv_name != "[unknown]")
                .map(|pv| PathBuf::from(&pv.pv_name))
                .collect(),
            volumes: volumes(segments.iter().filter(|lv| lv.vg_name == vg.vg_name))?,
            fault: fault(&vg.vg_attr, missing),
            name: vg.vg_name,
        });
    }
    Ok(groups)
}

fn rows<T: DeserializeOwned>(report: &'static str, text: &str) -> Result<Vec<T>, LvmError> {
    let parsed: Report<T> = serde_json::from_str(text).map_err(|error| LvmError::Json { report, error })?;
    Ok(parsed.report)
}

fn number(report: &'static str, field: &'static str, of: &str, text: &str) -> Result<u64, LvmError> {
    // An empty value means that the field does not apply.
    if text.is_empty() {
        return Ok(0);
    }
    let wrong = || LvmError::Number { report, field, of: of.to_owned(), found: text.to_owned() };
    text.parse().map_err(|_| wrong())
}

/// Why a group cannot be copied, according to its attributes (vgs(8)) and the number of missing physical
/// volumes.
fn fault(attributes: &str, missing: u64) -> Option<String> {
    let bit = |place: usize| attributes.as_bytes().get(place).copied().unwrap_or(b'-');
    if missing > 0 || bit(3) == b'p' {
        return Some(format!(
            "{missing} of its physical volumes are missing: attach their disks, or remove them (`vgreduce \
             --removemissing`)"
        ));
    }
    if bit(2) == b'x' {
        return Some("it is exported: import it first (`vgimport`)".to_owned());
    }
    matches!(bit(5), b'c' | b's').then(|| "it is shared by a cluster, which cannot be copied".to_owned())
}

/// Builds the volumes from their segments, in the order of the report but with pools first.
fn volumes<'a>(segments: impl Iterator<Item = &'a Lv>) -> Result<Vec<Logical>, LvmError> {
    let mut by_name: Vec<(&str, Vec<&Lv>)> = Vec::new();
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    for lv in segments {
        let at = *index.entry(&lv.lv_name).or_insert_with(|| {
            by_name.push((&lv.lv_name, Vec::new()));
            by_name.len() - 1
        });
        if let Some((_, all)) = by_name.get_mut(at) {
            all.push(lv);
        }
    }
    let mut volumes = Vec::new();
    for (name, segments) in by_name {
        let Some(first) = segments.first() else { continue };
        volumes.push(Logical {
            name: name.to_owned(),
            size: number("lvs", "lv_size", name, &first.lv_size)?,
            node: PathBuf::from(&first.lv_dm_path),
            fate: fate(first, &segments)?,
        });
    }
    let is_thin =
        |volume: &Logical| matches!(volume.fate, Fate::Made { layout: GoldenLayout::ThinIn(_), .. });
    volumes.sort_by_key(is_thin);
    Ok(volumes)
}

fn fate(lv: &Lv, segments: &[&Lv]) -> Result<Fate, LvmError> {
    let figure = |field, text: &str| number("lvs", field, &lv.lv_name, text);
    let refused = |reason: &str| Ok(Fate::Refused(reason.to_owned()));
    let has_role = |role: &str| lv.lv_role.split(',').any(|own| own == role);
    if has_role("snapshot") || lv.segtype == "snapshot" {
        return Ok(Fate::Skipped);
    }
    if lv.lv_health_status == "partial" {
        return refused("a part of it is on a physical volume that is missing");
    }
    let of = |layout| Ok(Fate::Made { layout: GoldenLayout::Of(layout), without: None });
    let images = u32::try_from(figure("stripes", &lv.stripes)?).unwrap_or(u32::MAX);
    let data = u32::try_from(figure("data_stripes", &lv.data_stripes)?).unwrap_or(u32::MAX);
    let stripe_size = figure("stripe_size", &lv.stripe_size)?;
    let is_mixed = segments.iter().any(|segment| segment.segtype != lv.segtype);
    match lv.segtype.as_str() {
        // A volume whose segments differ in layout is treated as a linear one.
        "linear" => of(LogicalLayout::Linear),
        "striped" if is_mixed || images < 2 => of(LogicalLayout::Linear),
        "striped" => of(LogicalLayout::Striped { stripes: images, stripe_size }),
        "mirror" => of(raid(RaidLevel::Raid1, images, 1, 0)),
        "cache" | "writecache" => {
            let layout = GoldenLayout::Of(LogicalLayout::Linear);
            Ok(Fate::Made { layout, without: Some("its cache") })
        }
        "thin-pool" => {
            let full = |percent: &str| percent.parse::<f64>().is_ok_and(|percent| percent >= 100.0);
            if full(&lv.data_percent) || full(&lv.metadata_percent) {
                return refused("the thin pool is full: extend it (`lvextend`), or remove volumes from it");
            }
            of(LogicalLayout::ThinPool {
                metadata: figure("lv_metadata_size", &lv.lv_metadata_size)?,
                chunk: figure("chunk_size", &lv.chunk_size)?,
            })
        }
        "thin" => {
            let pool = lv.pool_lv.trim_matches(['[', ']']).to_owned();
            Ok(Fate::Made { layout: GoldenLayout::ThinIn(pool), without: None })
        }
        other => match raid_level(other) {
            Some(level) => of(raid(level, images, data, stripe_size)),
            None => Ok(Fate::Refused(format!("volumes of the type {other} cannot be created yet"))),
        },
    }
}

/// The RAID level in LVM's segment name: `raid5_ls`, `raid0_meta`.
fn raid_level(segment: &str) -> Option<RaidLevel> {
    let all = [
        RaidLevel::Raid10,
        RaidLevel::Raid0,
        RaidLevel::Raid1,
        RaidLevel::Raid4,
        RaidLevel::Raid5,
        RaidLevel::Raid6,
    ];
    all.into_iter().find(|level| {
        segment.strip_prefix(level.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

/// A RAID with this many images, and this many of them with data of their own.
fn raid(level: RaidLevel, images: u32, data: u32, stripe_size: u64) -> LogicalLayout {
    let data = if level == RaidLevel::Raid1 { 1 } else { data.clamp(1, images.max(1)) };
    LogicalLayout::Raid(Raid { level, data, redundant: images.saturating_sub(data), stripe_size })
}

#[cfg(test)]
mod tests;
