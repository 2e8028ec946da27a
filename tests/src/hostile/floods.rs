//! Floods: what a host does for as long as it may, to see what honest ones lose meanwhile.
//!
//! Each goes on until its process is ended. What the other side does with it is its own affair: a connection that is closed
//! is opened again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use ka::inventory::{Disk, Inventory};
use ka::keys::{JoinKey, KeyPair};
use ka::step::Step;
use ka::wire::channel::Channel;
use ka::wire::control::ToController;
use ka::wire::discovery::REQUEST_LENGTH;

use super::agent::Agent;

/// Connections that a flood holds at a time: all that a process may have open, less a few.
const HELD: usize = 900;
/// The pause between two connections of a flood: some thousand a second.
const PAUSE: Duration = Duration::from_micros(300);
/// A wire's share of datagrams, so that it is the receiver that is tried, and not the wire.
const DATAGRAMS: Duration = Duration::from_micros(200);

/// Holds connections on which nothing comes, or only `first`, and opens more all the time: the oldest make room.
pub fn hold(address: SocketAddr, first: &[u8]) -> ! {
    let mut held = std::collections::VecDeque::new();
    loop {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1))
            && (first.is_empty() || stream.write_all(first).is_ok())
        {
            held.push_back(stream);
        }
        if held.len() > HELD {
            held.pop_front();
        }
        thread::sleep(PAUSE);
    }
}

/// A real handshake's first frame, as somebody on the wire has recorded it.
///
/// # Errors
/// No randomness.
pub fn recorded(join: &JoinKey) -> io::Result<Vec<u8>> {
    let own = KeyPair::generate().map_err(io::Error::other)?;
    let mut channel = Channel::dial_control(join, &own).map_err(io::Error::other)?;
    let mut frame = Vec::new();
    channel.write_to(&mut frame)?;
    Ok(frame)
}

/// Asks for sessions without the key, in datagrams that look right.
///
/// # Errors
/// No socket.
pub fn discover(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    let mut number = 0_u64;
    loop {
        let mut datagram = [0; REQUEST_LENGTH];
        datagram[..5].copy_from_slice(b"KAd?\x01");
        datagram[5..13].copy_from_slice(&number.to_le_bytes());
        number += 1;
        // A full queue is the receiver's trouble.
        let _ = socket.send_to(&datagram, address);
        thread::sleep(DATAGRAMS);
    }
}

/// What somebody with the join key does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insider {
    /// Joins with as much of an inventory as is taken, and stays.
    Inventories,
    /// Joins and never says anything again.
    Silent,
    /// Says hello without end.
    Hellos,
    /// Sends logs of machines that nobody knows.
    Logs,
    /// Tells of one step after another.
    Steps,
}

/// Does it with one identity after the other.
pub fn inside(address: SocketAddr, join: &JoinKey, session: &str, what: Insider) -> ! {
    let mut held = std::collections::VecDeque::new();
    for number in 0_u64.. {
        // Whoever is sent away comes again.
        if let Ok(agent) = once(address, join, session, what, number) {
            held.push_back(agent);
        }
        if held.len() > HELD {
            held.pop_front();
        }
        thread::sleep(PAUSE);
    }
    unreachable!("numbers do not end")
}

fn once(address: SocketAddr, join: &JoinKey, session: &str, what: Insider, number: u64) -> io::Result<Agent> {
    let mut agent = Agent::dial(address, join)?;
    let [.., a, b, c, d] = number.to_be_bytes();
    let card = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    if what == Insider::Inventories {
        let disk = Disk { model: "x".repeat(200), ..Disk::default() };
        let inventory = Inventory { disks: vec![disk; 200], ..Inventory::default() };
        let hello = agent.hello(session, inventory, 1);
        agent.say(&ToController::Hello(Box::new(hello)))?;
    } else {
        agent.join(session, &format!("flood{number}"), &card, 1)?;
    }
    for turn in 0..100_u64 {
        match what {
            Insider::Inventories | Insider::Silent => break,
            Insider::Hellos => agent.join(session, &format!("flood{number}"), &card, 1)?,
            Insider::Logs => {
                agent.say(&ToController::Log { offset: turn << 19, bytes: vec![b'x'; 1 << 19] })?;
            }
            Insider::Steps => agent.say(&ToController::Step(Step::Initrd.of(turn)))?,
        }
    }
    Ok(agent)
}

/// Asks for a file over HTTP and never reads it.
pub fn never_read(address: SocketAddr, path: &str) -> ! {
    let request = format!("GET {path} HTTP/1.1\r\nHost: flood\r\n\r\n");
    hold(address, request.as_bytes())
}

/// Asks for a file over TFTP and never confirms a block of it (RFC 1350).
pub fn never_confirm(address: SocketAddr, file: &str) -> ! {
    let request = [b"\0\x01", file.as_bytes(), b"\0octet\0"].concat();
    let mut held = std::collections::VecDeque::new();
    loop {
        if let Ok(socket) = UdpSocket::bind(("0.0.0.0", 0))
            && socket.send_to(&request, address).is_ok()
        {
            held.push_back(socket);
        }
        if held.len() > HELD {
            held.pop_front();
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Fetches a file over HTTP, as a booting machine does; the number of its bytes.
///
/// # Errors
/// It did not come whole.
pub fn fetch_http(address: SocketAddr, path: &str) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: ka\r\nConnection: close\r\n\r\n")?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let head = all.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8_lossy(&all[..head]).into_owned();
    let length: usize = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .ok_or_else(|| io::Error::other(text.clone()))?;
    let got = all.len() - head - 4;
    if got == length && text.starts_with("HTTP/1.1 200") { Ok(got) } else { Err(io::Error::other(text)) }
}

/// Fetches a file over TFTP; the number of its bytes.
///
/// # Errors
/// It did not come whole within a minute of silence.
pub fn fetch_tftp(address: SocketAddr, file: &str) -> io::Result<usize> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let request = [b"\0\x01", file.as_bytes(), b"\0octet\0"].concat();
    let (mut last, mut to) = (request, address);
    let (mut expected, mut total, mut silent) = (1_u16, 0, 0);
    loop {
        socket.send_to(&last, to)?;
        let mut packet = [0; 1024];
        let (length, from) = match socket.recv_from(&mut packet) {
            Ok(received) => received,
            Err(_) if silent < 30 => {
                silent += 1;
                continue;
            }
            Err(e) => return Err(e),
        };
        match packet[..length] {
            [0, 3, high, low, ref data @ ..] if u16::from_be_bytes([high, low]) == expected => {
                (to, silent) = (from, 0);
                total += data.len();
                last = vec![0, 4, high, low];
                expected = expected.wrapping_add(1);
                if data.len() < 512 {
                    socket.send_to(&last, to)?;
                    return Ok(total);
                }
            }
            [0, 5, ..] => {
                return Err(io::Error::other(String::from_utf8_lossy(&packet[4..length]).into_owned()));
            }
            _ => {}
        }
    }
}
