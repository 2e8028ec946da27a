//! `kactl`: clones the golden node.
#![forbid(unsafe_code)]

fn main() {}
