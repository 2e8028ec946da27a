//! Limits TFTP requests per address. TFTP keeps a transfer for half a minute for a client that never answers.
//!
//! The kernel counts with an nftables table owned by a running nft(8): it vanishes with that process, however
//! it ends.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

/// Requests per second, and the burst. A boot loader asks for about twenty files. dnsmasq looks at every open transfer
/// for each packet, so each one that is never confirmed slows down all others.
const RATE: u32 = 1;
const BURST: u32 = 40;

/// The limit, for as long as this value lives.
#[derive(Debug)]
pub struct Limit {
    nft: Child,
}

impl Limit {
    /// Limits requests that arrive on this interface.
    ///
    /// # Errors
    /// nft is missing, or the kernel has no nftables.
    pub fn set(interface: &str) -> io::Result<Self> {
        let rules = rules(interface);
        check(&rules)?;
        let mut nft = Command::new("nft")
            .arg("--interactive")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The pipe stays open as long as the child; nft ends at its end.
        let written = nft.stdin.as_mut().map_or(Ok(()), |input| input.write_all(rules.as_bytes()));
        let limit = Self { nft };
        written.map(|()| limit)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        drop(self.nft.stdin.take());
        if let Err(error) = self.nft.kill().and_then(|()| self.nft.wait()) {
            log::warn!("cannot end nft: {error}");
        }
    }
}

/// The kernel knows the interface by this name; in quotes it cannot be anything but a name.
fn rules(interface: &str) -> String {
    format!(
        "table inet ka_pxe {{ flags owner; \
         set askers {{ type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m; }}; \
         chain input {{ type filter hook input priority -10; policy accept; \
         iifname \"{interface}\" udp dport 69 \
         update @askers {{ ip saddr limit rate over {RATE}/second burst {BURST} packets }} drop; }}; }}\n"
    )
}

fn check(rules: &str) -> io::Result<()> {
    let mut nft = Command::new("nft")
        .args(["--check", "--file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("nft failed").to_owned();
    if output.status.success() { Ok(()) } else { Err(io::Error::other(first)) }
}
