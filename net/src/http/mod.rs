//! The subset of HTTP/1.1 (RFC 9112) that booting machines need.

pub mod client;
pub mod server;
