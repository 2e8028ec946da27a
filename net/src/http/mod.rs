//! HTTP/1.1 (RFC 9112), as much of it as booting machines need.

pub mod client;
pub mod server;
