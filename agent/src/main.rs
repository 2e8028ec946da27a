//! `ka-agent`: PID 1 of a node that boots over the network, and a receiver of files on a running host.

fn main() {}
