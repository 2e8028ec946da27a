//! Options that several commands share, or that form a topic of their own.

pub mod boot;
pub mod disks;
pub mod hooks;
pub mod identity;
pub mod machine_lists;
pub mod night;
pub mod run;
pub mod stream;
