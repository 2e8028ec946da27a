//! Partition tables: the description of a disk, the layout that it gives on a disk of some size, what has to
//! fit, and the bytes of MBR and GPT.

pub mod choice;
pub mod desc;
pub mod description;
mod ebr;
pub mod fit;
mod gpt;
pub mod guid;
pub mod identity;
pub mod ids;
pub mod kind;
pub mod layout;
pub mod mbr;
pub mod problem;
pub mod report;
pub mod room;
pub mod script;
pub mod table;
pub mod units;
