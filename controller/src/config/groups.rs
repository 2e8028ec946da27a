//! `[groups]`: named lists of nodes.

use toml::de::DeValue;

use super::read::Section;
use crate::lists::node_set::{Groups, NodeSetError, expand};

/// Reads and validates the groups: an invalid one is found now, not in the middle of the night.
pub(super) fn read(mut section: Section<'_>) -> Groups {
    let (mut groups, mut places) = (Groups::new(), Vec::new());
    for (name, value) in section.rest() {
        let at = value.span().start;
        match value.into_inner() {
            DeValue::String(list) => {
                groups.insert(name.value.clone(), list.into_owned());
                places.push((name.value, at));
            }
            _ => section.fault_at_byte(at, format!("{}: expected a list of nodes in quotes", name.value)),
        }
    }
    for (name, at) in places {
        if let Err(error) = groups.get(&name).map_or(Ok(Vec::new()), |list| expand(list, &groups)) {
            section.fault_at_byte(at, told(&error));
        }
    }
    section.end();
    groups
}

/// The position of an error in the list's text is relative to the named position.
fn told(error: &NodeSetError) -> String {
    match error {
        NodeSetError::Text { column, problem, .. } => format!("character {column}: {problem}"),
        other => other.to_string(),
    }
}
