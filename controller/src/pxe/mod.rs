//! DHCP, TFTP, HTTP, and what each machine boots.
//!
//! dnsmasq serves, and ka writes its files. The default is always the machine's own disk; `kamethod` is
//! offered only while a living run asks for it (see [`crate::rendezvous::lease`]).

pub mod beside;
pub mod checks;
pub mod confine;
pub mod dnsmasq;
pub mod files;
pub mod flood;
pub mod http;
pub mod interface;
pub mod ipxe;
pub mod loaders;
pub mod menu;
pub mod pxelinux;
pub mod restart;
pub mod rights;
pub mod run_image;
pub mod serve;
pub mod service;
pub mod serving;
pub mod site;
