//! One file a subcommand.

pub mod desc;
