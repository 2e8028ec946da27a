//! Why a node is removed, as text with members still by number: only the controller knows their names.

use std::fmt;

use super::ids::NodeId;

/// A reason for the operator. Unresolved, it names nodes by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason(Vec<Part>);

/// A piece of a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// A member.
    Node(NodeId),
}

impl Reason {
    /// Builds a reason from these pieces.
    #[must_use]
    pub fn new<const N: usize>(parts: [Part; N]) -> Self {
        Self(parts.into())
    }

    /// The text, with `name` for each member except the golden node.
    pub fn named(&self, name: impl Fn(NodeId) -> String) -> String {
        let told = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Node(NodeId::GOLDEN) => NodeId::GOLDEN.to_string(),
            Part::Node(node) => name(*node),
        };
        self.0.iter().map(told).collect()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named(|node| node.to_string()))
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::new([text.into()])
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<NodeId> for Part {
    fn from(node: NodeId) -> Self {
        Self::Node(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_called_what_a_person_calls_them() {
        let reason =
            Reason::new(["the link from ".into(), NodeId::GOLDEN.into(), " to ".into(), NodeId(7).into()]);
        assert_eq!(reason.to_string(), "the link from the golden node to node 7");
        assert_eq!(reason.named(|node| format!("pc{}", node.0)), "the link from the golden node to pc7");
    }
}
