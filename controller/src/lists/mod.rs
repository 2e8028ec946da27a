//! The lists that an administrator writes: machines, their names and addresses, and the chain's order.

pub mod hosts;
pub mod list;
pub mod macs;
pub mod node_set;
pub mod order;
pub mod time_of_day;
