//! Output for people and programs: progress, tables, JSON.

pub mod dry_run;
pub mod inventory;
pub mod machines;
pub mod progress;
pub mod summary;
pub mod units;
