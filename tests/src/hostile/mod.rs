//! Malicious hosts over real sockets: with or without a key, before and after admission.

pub mod agent;
pub mod floods;
pub mod relay;
