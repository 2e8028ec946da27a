//! One file a subcommand.

pub mod image;
