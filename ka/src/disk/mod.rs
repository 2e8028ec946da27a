//! Partition tables: the description of a disk, its layout on a disk of a given size, and the bytes of MBR
//! and GPT.

pub mod choice;
pub mod description;
mod ebr;
mod gpt;
pub mod guid;
pub mod ids;
pub mod kind;
pub mod layout;
pub mod mbr;
mod on_disk;
pub mod problem;
pub mod script;
pub mod short_form;
pub mod table;
mod text;
pub mod units;
