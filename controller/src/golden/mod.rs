//! The golden node: what it is made of, and its files as a stream.

pub mod pack;
