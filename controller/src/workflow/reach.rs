//! Whether nodes will be able to reach this machine: the interface, the address, the control port.

use std::io;

use anyhow::{Context, anyhow};
use ka_host::ports::{self, Transport};
use ka_host::words;

use crate::hub::HubSetup;
use crate::pxe::interface;
use crate::rendezvous::registry;

/// Checks whether a session can listen there.
///
/// # Errors
/// The interface, the address or the port cannot be used.
pub(super) fn check(hub_setup: &HubSetup) -> anyhow::Result<()> {
    if let Some(name) = &hub_setup.side.interface {
        let found = interface::all().context("cannot list the interfaces")?;
        if !found.iter().any(|interface| interface.name == *name) {
            let names: Vec<_> = found.iter().map(|interface| interface.name.as_str()).collect();
            return Err(anyhow!(
                "there is no interface {name}; there are {}: name one of them with --interface",
                names.join(", ")
            ));
        }
    }
    let error = match hub_setup.side.listener(hub_setup.control) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(hub_setup),
        io::ErrorKind::AddrNotAvailable => Err(anyhow!(
            "this machine does not have the address {}: see `ip addr`, and --listen",
            hub_setup.side.address.map(|address| address.to_string()).unwrap_or_default()
        )),
        _ => Err(anyhow!("cannot listen on port {}: {}", hub_setup.control, words::of_io(&error))),
    }
}

/// A port of another session is shared: its process sends nodes on. Another program would not.
fn taken(hub_setup: &HubSetup) -> anyhow::Result<()> {
    let port = hub_setup.control;
    if registry::serves(&hub_setup.sessions, port) {
        return Ok(());
    }
    let holder =
        ports::holder(Transport::Tcp, port).unwrap_or_else(|| "a process that cannot be seen".into());
    let own = format!("({})", std::process::id());
    if holder.split(", ").any(|holder| holder.starts_with("kactl ") || holder.ends_with(&own)) {
        return Ok(());
    }
    Err(anyhow!(
        "port {port} is held by {holder}: stop that program, or choose another port with --listen ADDR:PORT or as control \
         in the configuration's [ports]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::net::Ipv4Addr;
    use std::process::{Command, Stdio};

    fn place(port: u16, interface: Option<&str>) -> HubSetup {
        let listen = ka_net::listen::Listen { address: Ipv4Addr::LOCALHOST.into(), port: Some(port) };
        let directory = std::env::temp_dir().join("no-sessions-of-ka");
        HubSetup {
            sessions: directory,
            ..HubSetup::new(&Config::default(), Some(listen), interface.map(str::to_owned))
        }
    }

    #[test]
    fn the_owner_of_a_port_is_named() {
        let script = "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); \
                      print(s.getsockname()[1], flush=True); sys.stdin.read()";
        let mut python = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is missing: apt-get install python3");
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(python.stdout.take().unwrap()), &mut line).unwrap();
        let said = check(&place(line.trim().parse().unwrap(), None)).unwrap_err().to_string();
        drop(python.stdin.take());
        python.wait().unwrap();
        let owner = format!("is held by python3 ({})", python.id());
        assert!(said.contains(&owner) && said.contains("--listen"), "{said}");
    }

    #[test]
    fn an_interface_and_an_address_that_are_not_there_are_named_with_those_that_are() {
        let said = check(&place(0, Some("nosuch0"))).unwrap_err().to_string();
        assert!(
            said.starts_with("there is no interface nosuch0; there are ") && said.contains("lo"),
            "{said}"
        );
        let mut place = place(0, None);
        place.side.address = Some(Ipv4Addr::new(192, 0, 2, 77).into());
        let said = check(&place).unwrap_err().to_string();
        assert!(said.contains("does not have the address 192.0.2.77"), "{said}");
    }
}
