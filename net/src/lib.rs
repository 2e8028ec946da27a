//! Data transport between the machines of a chain: one event loop, the relay, and HTTP.
//!
//! The golden node is the first member of every chain, so `kactl` and `ka-agent` run the same [`relay`]. The
//! relay is the shell around `ka::chain`: sockets and clocks are here, decisions are there.
//!
//! ```
//! use ka_net::listen::{Listen, Side};
//!
//! let place: Listen = "127.0.0.1:0".parse()?;
//! let side = Side { address: Some(place.address), interface: None };
//! let listener = side.listener(place.port.unwrap_or_default())?;
//! assert!(listener.local_addr()?.port() > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod event_loop;
pub mod http;
pub mod listen;
pub mod relay;
