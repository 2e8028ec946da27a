//! Faults that tests can inject below, next to and between ka's programs: failing disks, damaged file
//! systems, and networks that lose and alter frames. [`campaign`] derives them from seeds.
//!
//! Needs root, `/dev/fuse`, loop devices and network namespaces; a missing one fails the test.

pub mod campaign;
pub mod disk;
pub mod file_system;
pub mod frame;
pub mod wire;
