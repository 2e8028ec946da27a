//! Partition tables: the desc, the layout that it gives on a disk of some size, what has to fit, and
//! the MBR's bytes.

pub mod choice;
pub mod desc;
pub mod fit;
pub mod layout;
pub mod mbr;
pub mod units;
