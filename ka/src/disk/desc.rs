//! The description of a disk, as an administrator writes it.

use serde::{Deserialize, Serialize};

/// A checked description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desc {}
