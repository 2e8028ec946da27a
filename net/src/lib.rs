//! What moves bytes between the machines of a chain: the relay with its event loop, and HTTP.
//!
//! The golden node is the first member of every chain, so `kactl` and `ka-agent` run the same [`relay`]. It is the shell
//! around `ka::chain`: sockets and clocks are here, decisions are there.
#![forbid(unsafe_code)]

pub mod http;
pub mod listen;
pub mod relay;
