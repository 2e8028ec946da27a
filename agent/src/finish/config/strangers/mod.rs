//! Finds what still names the golden machine in the finished tree.
//!
//! Known places are rewritten one by one, but no list of places is complete. So at the end the whole
//! configuration is searched once for every name of the golden machine that this node does not have. A hit is
//! a warning with file and line, and a failure if the node would not boot.

mod judge;
mod search;
mod terms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ka::notes::NoteKind;
use ka::plan::FinishPlan;

use crate::finish::config::names::Names;
use crate::finish::error::Cause;
use crate::notes;
use judge::Verdict;
use search::{Location, Search};
use terms::Terms;

/// Where a system's configuration and boot files are.
const PLACES: [&str; 3] = ["etc", "boot", "efi"];

/// The maximum number of warnings; the rest are counted.
const MAX_TOLD: usize = 200;

/// The maximum number of lines reported per file and name.
const MAX_LINES: usize = 8;

/// Searches the tree below `root`, which is the process's root. `hostname` is the node's.
pub(in crate::finish) fn report(
    root: &Path,
    plan: &FinishPlan,
    names: &Names<'_>,
    hostname: &str,
) -> Result<(), Cause> {
    let here = |device: &str| root.join(device.trim_start_matches('/')).exists();
    let terms = Terms::new(plan, names, hostname, here);
    if terms.is_empty() {
        return Ok(());
    }
    let mut found: BTreeMap<(PathBuf, usize), Vec<Location>> = BTreeMap::new();
    let mut search = Search::new(&terms)?;
    for place in PLACES {
        search.tree(
            root,
            Path::new(place),
            &mut |hit| match judge::verdict(&hit, terms.get(hit.term), names) {
                Verdict::Harmless => Ok(()),
                Verdict::Fatal(wrong) => {
                    Err(Cause::NotBootable { path: Path::new("/").join(hit.path), wrong })
                }
                Verdict::Warn => {
                    let places = found.entry((hit.path.to_owned(), hit.term)).or_default();
                    if places.len() <= MAX_LINES && places.last() != Some(&hit.location) {
                        places.push(hit.location);
                    }
                    Ok(())
                }
            },
        )?;
    }
    if let Some(unsearched) = search.unsearched() {
        warning!("{unsearched}");
    }
    tell(&found, &terms);
    Ok(())
}

fn tell(found: &BTreeMap<(PathBuf, usize), Vec<Location>>, terms: &Terms) {
    for (number, ((path, term), places)) in found.iter().enumerate() {
        let term = terms.get(*term);
        let text = format!(
            "/{}{}: still names the golden node's {} {}",
            path.display(),
            told(places),
            term.kind.name(),
            term.text
        );
        if number < MAX_TOLD {
            notes::warn(NoteKind::GoldenName, text);
        } else {
            notes::count(NoteKind::GoldenName, &text);
        }
    }
    if let Some(more) = found.len().checked_sub(MAX_TOLD).filter(|more| *more > 0) {
        log::warn!("{more} more places name the golden node");
    }
}

/// `:3,7,12`, or a description of the place in a file without lines.
fn told(places: &[Location]) -> String {
    let lines: Vec<String> = places.iter().take(MAX_LINES).filter_map(Location::line).collect();
    let more = if places.len() > MAX_LINES { ",…" } else { "" };
    if lines.is_empty() {
        return places.first().map_or_else(String::new, |location| format!(" {location}"));
    }
    format!(":{}{more}", lines.join(","))
}

#[cfg(test)]
mod tests;
