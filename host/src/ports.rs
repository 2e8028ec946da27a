//! Who holds a port: what an error says when a port is taken.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// A transport whose sockets the kernel lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP: sockets that listen.
    Tcp,
    /// UDP.
    Udp,
}

/// A process with its name, as a sentence has it: `in.tftpd (812)`.
#[must_use]
pub fn holder(transport: Transport, port: u16) -> Option<String> {
    holder_of(&inodes(transport, port, None))
}

/// As [`holder()`], of sockets that receive what comes to this address.
#[must_use]
pub fn holder_at(transport: Transport, address: Ipv4Addr, port: u16) -> Option<String> {
    holder_of(&inodes(transport, port, Some(address)))
}

fn holder_of(inodes: &[String]) -> Option<String> {
    if inodes.is_empty() {
        return None;
    }
    // A socket without a process that can be seen: another user's, or the kernel's own.
    Some(process(inodes).unwrap_or_else(|| "a process that cannot be seen".into()))
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

/// The inode in a line `sl: ADDRESS:PORT REMOTE STATE … INODE …`, if the line is what is looked for.
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

fn process(inodes: &[String]) -> Option<String> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let has_one = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).ok()?;
        let mut targets = descriptors.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket))).then_some(())
    };
    fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        has_one(&entry.path())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(format!("{} ({pid})", name.trim_end()))
    })
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
