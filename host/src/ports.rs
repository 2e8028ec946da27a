//! Finds the owner of a port, for the error that says that it is in use.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, listening sockets.
    Tcp,
    /// UDP.
    Udp,
}

/// The owners, as text: `in.tftpd (812)`.
#[must_use]
pub fn holder(transport: Transport, port: u16) -> Option<String> {
    holder_of(&inodes(transport, port, None))
}

/// Like [`holder()`], for sockets that receive packets for this address.
#[must_use]
pub fn holder_at(transport: Transport, address: Ipv4Addr, port: u16) -> Option<String> {
    holder_of(&inodes(transport, port, Some(address)))
}

fn holder_of(inodes: &[String]) -> Option<String> {
    if inodes.is_empty() {
        return None;
    }
    let processes = processes(inodes);
    // No visible process owns the socket: it is another user's, or the kernel's own.
    Some(if processes.is_empty() { "a process that cannot be seen".into() } else { processes.join(", ") })
}

/// Inodes of the sockets bound to this port (proc(5), /proc/net/tcp).
fn inodes(transport: Transport, port: u16, address: Option<Ipv4Addr>) -> Vec<String> {
    let files = match transport {
        Transport::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
        Transport::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
    };
    let text = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<String>();
    text.lines().filter_map(|line| socket(line, transport, port, address)).collect()
}

/// The inode in a line `sl: ADDRESS:PORT REMOTE STATE … INODE …`, if the line matches.
fn socket(line: &str, transport: Transport, port: u16, address: Option<Ipv4Addr>) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (bound, at) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(at, 16).ok()? != port || (transport == Transport::Tcp && *fields.get(3)? != LISTEN)
    {
        return None;
    }
    if let Some(address) = address
        && bound.bytes().any(|digit| digit != b'0')
        && u32::from_str_radix(bound, 16).ok()? != u32::from_ne_bytes(address.octets())
    {
        return None;
    }
    fields.get(9).map(|inode| (*inode).to_owned())
}

/// All processes with one of these sockets: programs can share a port, and any of them may be the one in the
/// way.
fn processes(inodes: &[String]) -> Vec<String> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let has_one = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).ok()?;
        let mut targets = descriptors.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket))).then_some(())
    };
    let named = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        has_one(&entry.path())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(format!("{} ({pid})", name.trim_end()))
    };
    fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_holder_is_named_with_its_process() {
        let here = std::process::id();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(holder(Transport::Tcp, port).unwrap().ends_with(&format!(" ({here})")));
        assert!(holder_at(Transport::Tcp, Ipv4Addr::LOCALHOST, port).is_some());
        assert_eq!(holder_at(Transport::Tcp, Ipv4Addr::new(127, 0, 0, 2), port), None);
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        assert!(holder_at(Transport::Udp, Ipv4Addr::new(10, 0, 0, 1), port).is_some());
        drop(tcp);
        assert_eq!(holder(Transport::Tcp, 1), None);
    }
}
