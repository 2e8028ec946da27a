//! The second list: identities kept by other software, in groups, off by default.

use super::rule::{Rule, parse};
use crate::finish::error::Cause;

/// The list that comes with ka.
const KNOWN: &str = include_str!("other.list");

/// Enables the whole list.
const ALL: &str = "all";

/// The groups with their rules, in order.
pub(super) fn groups() -> Result<Vec<(&'static str, Vec<Rule>)>, Cause> {
    let mut groups: Vec<(&str, Vec<Rule>)> = Vec::new();
    for (number, line) in (1..).zip(KNOWN.lines()) {
        if let Some(name) = line.strip_prefix("group ") {
            groups.push((name.trim(), Vec::new()));
            continue;
        }
        let rule =
            parse(line).map_err(|wrong| Cause::List { file: "other.list".into(), line: number, wrong })?;
        if let Some((_, rules)) = groups.last_mut() {
            rules.extend(rule);
        }
    }
    Ok(groups)
}

/// The rules that `enable WHAT` adds: all, those of a group, or a single one by its path.
pub(super) fn enabled(what: &str) -> Result<Vec<Rule>, String> {
    let groups = groups().map_err(|e| e.to_string())?;
    let found: Vec<Rule> = if what == ALL {
        groups.into_iter().flat_map(|(_, rules)| rules).collect()
    } else if what.starts_with('/') {
        let is_it = |rule: &Rule| rule.pattern == what.trim_matches('/');
        groups.into_iter().flat_map(|(_, rules)| rules).filter(is_it).collect()
    } else {
        groups.into_iter().filter(|(name, _)| *name == what).flat_map(|(_, rules)| rules).collect()
    };
    if found.is_empty() {
        let names: Vec<&str> =
            self::groups().map_err(|e| e.to_string())?.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "expected `enable` with all, a path of the list, or one of {}; found '{what}'",
            names.join(", ")
        ));
    }
    Ok(found)
}
