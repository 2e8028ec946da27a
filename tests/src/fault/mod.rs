//! Faults that tests can put below, beside and between ka's programs: disks that fail, file systems that are damaged,
//! wires that lose and change what they carry. [`campaign`] draws them from seeds.
//!
//! Needs root, `/dev/fuse`, loop devices and network namespaces; what is missing fails the test.

pub mod campaign;
pub mod disk;
pub mod file_system;
pub mod frame;
pub mod wire;
