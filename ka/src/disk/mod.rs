//! Partition tables: the desc, the layout that it gives on a disk of some size, and the MBR's bytes.

pub mod desc;
