//! Proof that a stream is the golden node's, whichever node relayed it.
//!
//! All members of a chain share the key of its blocks, so a relay could seal different blocks and pass them
//! on. But no relay can impersonate the controller. So the golden node and the nodes hash the content of all
//! blocks in order, and the controller sends the golden node's roots over the control connections: one for
//! each segment, and the last with the uncompressed stream's length. A node that compares them detects a
//! forgery at once, with its segment. Nothing of the stream counts as received before the last root has been
//! compared.
//!
//! The hash is BLAKE3, a hash tree: the root of a prefix costs nothing beyond the hashing itself.
//!
//! ```
//! use ka::proof::{Checker, Proof, Roots};
//!
//! let (mut golden, mut node) = (Roots::default(), Checker::default());
//! golden.update(b"content", |_| ());
//! node.on_content(b"content", None).unwrap();
//! let proof = Proof { root: golden.root(), last: None };
//! node.on_proof(proof).unwrap();
//! ```

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::chain::NodeId;
use crate::seal::Total;

/// Content between two roots, in bytes.
pub const SEGMENT: u64 = 16 << 20;

/// The hash of a stream's content from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The length of that content in bytes.
    pub length: u64,
    /// Its BLAKE3 hash.
    pub hash: [u8; 32],
}

/// The controller's statement about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The golden node's root.
    pub root: Root,
    /// In the last proof: the summary of the uncompressed stream with this content.
    pub last: Option<Total>,
}

/// The content is not the golden node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("the stream that arrived is not the golden node's between bytes {from} and {to}")]
pub struct Forged {
    /// The content is proven up to here.
    pub from: u64,
    /// The position of the first differing root.
    pub to: u64,
    /// The sender of the content in between, if all of it came from the same one.
    pub sender: Option<NodeId>,
}

/// Hashes content, and returns the root at the end of each segment.
#[derive(Clone)]
pub struct Roots {
    hasher: blake3::Hasher,
    length: u64,
    segment: u64,
}

impl Default for Roots {
    fn default() -> Self {
        Self::with_segments(SEGMENT)
    }
}

impl Roots {
    /// Roots at this interval: for the simulator, whose streams are short.
    #[doc(hidden)]
    #[must_use]
    pub fn with_segments(segment: u64) -> Self {
        Self { hasher: blake3::Hasher::new(), length: 0, segment }
    }

    /// Hashes more content.
    pub fn update(&mut self, mut content: &[u8], mut segment: impl FnMut(Root)) {
        while !content.is_empty() {
            let room = usize::try_from(self.segment - self.length % self.segment).unwrap_or(usize::MAX);
            let (now, later) = content.split_at(content.len().min(room));
            self.hasher.update(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(self.segment) {
                segment(self.root());
            }
            content = later;
        }
    }

    /// The root of all content so far.
    #[must_use]
    pub fn root(&self) -> Root {
        Root { length: self.length, hash: self.hasher.finalize().into() }
    }
}

/// Compares a node's own roots with the golden node's, in whichever order they arrive.
#[derive(Default)]
pub struct Checker {
    own: Roots,
    /// Own roots without a proof yet, and proofs without content yet.
    unproven: BTreeMap<u64, [u8; 32]>,
    promised: BTreeMap<u64, [u8; 32]>,
    proven: u64,
    last: Option<(Root, Total)>,
    /// The senders of the content that is not proven yet, and where each began.
    senders: VecDeque<(u64, Option<NodeId>)>,
}

impl Checker {
    /// Like [`Roots::with_segments`].
    #[doc(hidden)]
    #[must_use]
    pub fn with_segments(segment: u64) -> Self {
        Self { own: Roots::with_segments(segment), ..Self::default() }
    }

    /// Takes content from this member; `None` if it came from several.
    ///
    /// # Errors
    /// [`Forged`] if a proof contradicts it.
    pub fn on_content(&mut self, content: &[u8], from: Option<NodeId>) -> Result<(), Forged> {
        if self.senders.back().is_none_or(|(_, last)| *last != from) {
            self.senders.push_back((self.own.length, from));
        }
        let mut roots = Vec::new();
        self.own.update(content, |root| roots.push(root));
        for root in roots {
            match self.promised.remove(&root.length) {
                Some(promised) => self.compare(root, promised)?,
                None => drop(self.unproven.insert(root.length, root.hash)),
            }
        }
        // Content beyond the whole stream must be forged.
        match self.last {
            Some((end, _)) if self.own.length > end.length => Err(self.forged(end.length)),
            _ => Ok(()),
        }
    }

    /// Takes a proof from the controller.
    ///
    /// # Errors
    /// [`Forged`] if it contradicts received content.
    pub fn on_proof(&mut self, Proof { root, last }: Proof) -> Result<(), Forged> {
        if let Some(total) = last {
            self.last = Some((root, total));
            return if self.own.length > root.length { Err(self.forged(root.length)) } else { Ok(()) };
        }
        match self.unproven.remove(&root.length) {
            Some(hash) => self.compare(Root { length: root.length, hash }, root.hash),
            None if root.length > self.own.length => {
                self.promised.insert(root.length, root.hash);
                Ok(())
            }
            // Repeated after an outage.
            None => Ok(()),
        }
    }

    /// Called when all content has been received, and claims to be this stream. Returns whether that is
    /// proven; if not, the last proof is missing.
    ///
    /// # Errors
    /// [`Forged`] if it is a different stream.
    pub fn on_end(&self, claimed: Total) -> Result<bool, Forged> {
        match self.last {
            None => Ok(false),
            Some((root, total)) if root == self.own.root() && total == claimed => Ok(true),
            Some((root, _)) => Err(self.forged(root.length.max(self.own.length))),
        }
    }

    /// The position up to which the content is proven.
    #[must_use]
    pub fn proven(&self) -> u64 {
        self.proven
    }

    fn compare(&mut self, own: Root, golden: [u8; 32]) -> Result<(), Forged> {
        if own.hash != golden {
            return Err(self.forged(own.length));
        }
        self.proven = self.proven.max(own.length);
        while self.senders.get(1).is_some_and(|(start, _)| *start <= self.proven) {
            self.senders.pop_front();
        }
        Ok(())
    }

    fn forged(&self, to: u64) -> Forged {
        let mut senders = self.senders.iter().filter(|(start, _)| *start < to).map(|(_, sender)| *sender);
        let sender = senders.next().flatten().filter(|first| senders.all(|other| other == Some(*first)));
        Forged { from: self.proven, to, sender }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Total = Total { length: 7, hash: [7; 32], sha256: None };
    const FORGED: Forged = Forged { from: 0, to: 1000, sender: None };

    fn content(length: u64) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    /// The golden node's proofs, including the last.
    fn proofs(content: &[u8]) -> Vec<Proof> {
        let (mut roots, mut proofs) = (Roots::default(), Vec::new());
        roots.update(content, |root| proofs.push(Proof { root, last: None }));
        proofs.push(Proof { root: roots.root(), last: Some(TOTAL) });
        proofs
    }

    #[test]
    fn what_is_the_same_is_proven_in_whichever_order() {
        let sent = content(2 * SEGMENT + 5);
        let proofs = proofs(&sent);
        assert_eq!(proofs.len(), 3);
        let mut early = Checker::default();
        proofs.iter().for_each(|proof| early.on_proof(*proof).unwrap());
        sent.chunks(100_003).for_each(|piece| early.on_content(piece, None).unwrap());
        assert_eq!((early.proven(), early.on_end(TOTAL)), (2 * SEGMENT, Ok(true)));
        let mut late = Checker::default();
        late.on_content(&sent, None).unwrap();
        assert_eq!(late.on_end(TOTAL), Ok(false));
        proofs.iter().for_each(|proof| late.on_proof(*proof).unwrap());
        // The same again, as after an outage.
        late.on_proof(proofs[0]).unwrap();
        assert_eq!((late.proven(), late.on_end(TOTAL)), (2 * SEGMENT, Ok(true)));
    }

    #[test]
    fn what_differs_is_found_in_its_segment() {
        let sent = content(3 * SEGMENT);
        let golden = proofs(&sent);
        let mut altered = sent.clone();
        altered[usize::try_from(SEGMENT).unwrap() + 9] ^= 1;
        let mut node = Checker::default();
        golden.iter().for_each(|proof| node.on_proof(*proof).unwrap());
        let found = altered.chunks(1 << 20).find_map(|piece| node.on_content(piece, Some(NodeId(7))).err());
        assert_eq!(found, Some(Forged { from: SEGMENT, to: 2 * SEGMENT, sender: Some(NodeId(7)) }));
    }

    #[test]
    fn too_short_too_long_and_another_total_are_forged() {
        let sent = content(1000);
        let last = proofs(&sent)[0];
        let end = |content: &[u8], total: Total| {
            let mut node = Checker::default();
            node.on_content(content, None)
                .and_then(|()| node.on_proof(last))
                .and_then(|()| node.on_end(total))
        };
        assert_eq!(end(&sent, TOTAL), Ok(true));
        assert_eq!(end(&sent[..999], TOTAL), Err(FORGED));
        assert_eq!(end(&[&sent[..], b"x"].concat(), TOTAL), Err(FORGED));
        assert_eq!(end(&sent, Total { length: 8, ..TOTAL }), Err(FORGED));
        let mut node = Checker::default();
        node.on_proof(last).unwrap();
        assert_eq!(node.on_content(&[0; 1001], None), Err(FORGED));
    }

    #[test]
    fn the_sender_is_named_only_if_it_alone_can_have_lied() {
        let sent = content(3 * 100);
        let golden = {
            let (mut roots, mut proofs) = (Roots::with_segments(100), Vec::new());
            roots.update(&sent, |root| proofs.push(Proof { root, last: None }));
            proofs
        };
        for (lie, sender) in [(150, None), (250, Some(NodeId(2)))] {
            let mut altered = sent.clone();
            altered[lie] ^= 1;
            let mut node = Checker::with_segments(100);
            golden.iter().for_each(|proof| node.on_proof(*proof).unwrap());
            // Its predecessor changed within the second segment.
            let found = node
                .on_content(&altered[..130], Some(NodeId(1)))
                .and_then(|()| node.on_content(&altered[130..], Some(NodeId(2))));
            assert_eq!(found.unwrap_err().sender, sender, "{lie}");
        }
    }
}
