//! Directories whose attributes are set at the end.
//!
//! There may be millions of them, so each one takes little memory: usual paths are short, and equal
//! attributes, such as labels and ACLs, are stored once for all directories that have them. Everything beyond
//! that has a budget; otherwise an archive with a few hundred entries could fill the memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ka::archive::Xattr;

use super::UnpackError;
use super::attributes::Attributes;
use super::tree::beginning;

/// The budget for long paths and distinct attributes, in bytes.
const BUDGET: usize = 64 << 20;
/// The length of a path that is free of charge. No usual path is longer.
const USUAL: usize = 1024;

/// The directories by path.
#[derive(Default)]
pub(super) struct Deferred {
    directories: BTreeMap<Vec<u8>, Attributes>,
    shared: HashSet<Arc<Vec<Xattr>>>,
    spent: usize,
}

impl Deferred {
    /// Stores a directory's attributes, replacing those of an earlier entry.
    pub(super) fn insert(&mut self, path: Vec<u8>, mut attributes: Attributes) -> Result<(), UnpackError> {
        let mut cost = path.len().saturating_sub(USUAL);
        for xattrs in attributes.lists() {
            cost += self.share(xattrs);
        }
        self.spent += cost;
        if self.spent > BUDGET {
            let reason = "the attributes and long paths of its directories take too much memory";
            return Err(UnpackError::Refused { path: beginning(&path), reason });
        }
        self.directories.insert(path, attributes);
        Ok(())
    }

    /// It is no longer a directory.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.directories.remove(path);
    }

    /// All directories, deepest first.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Vec<u8>, Attributes)> + use<> {
        std::mem::take(self).directories.into_iter().rev()
    }

    /// Replaces a list by an equal one of an earlier directory. Returns the cost if there is none.
    fn share(&mut self, xattrs: &mut Arc<Vec<Xattr>>) -> usize {
        match self.shared.get(xattrs) {
            Some(same) => {
                *xattrs = Arc::clone(same);
                0
            }
            None => {
                self.shared.insert(Arc::clone(xattrs));
                xattrs.iter().map(|xattr| size_of::<Xattr>() + xattr.name.len() + xattr.value.len()).sum()
            }
        }
    }
}
