//! The additional destination of the nodes' logs (`--store-log`).

use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use ka::log_server::LogServer;
use ka::plan::Secret;
use ka_host::secrets;

/// The option's value: it becomes a word of a kernel command line and of an iPXE script.
///
/// # Errors
/// The problem.
pub fn parse(text: &str) -> Result<String, String> {
    text.parse::<LogServer>().map_err(|expected| format!("expected {expected}"))?;
    if LogServer::has_password(text) {
        return Err("a password there is seen by everybody who lists processes, and on the nodes' wire: write it into a \
                    file with mode 0600, leave USER@ here, and name the file with --store-log-password"
            .to_owned());
    }
    let good = |c: char| c.is_ascii_alphanumeric() || "-._~:/@%+=,!*[]".contains(c);
    match text.chars().find(|c| !good(*c)) {
        Some(bad) => Err(format!("'{bad}' must be written as %XX there")),
        None => Ok(text.to_owned()),
    }
}

/// The password: the first line of a file that other users cannot read.
///
/// # Errors
/// The problem with the file, or `url` has no user that the password could belong to.
pub fn password(file: &Path, url: &str) -> anyhow::Result<Secret> {
    let server: LogServer = url.parse().map_err(|expected| anyhow!("{url}: expected {expected}"))?;
    ensure!(
        server.takes_password(),
        "--store-log-password: {url} names no user: write ftp://USER@HOST/DIRECTORY"
    );
    let name = || format!("--store-log-password: {}", file.display());
    let text = secrets::read(file).with_context(name)?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{}: its first line is empty: write the password there", name());
    Ok(Secret(line.to_owned()))
}

/// The URL with the server's name replaced by its address: a node that boots uses no DNS.
///
/// # Errors
/// The name has no address here.
pub fn by_address(url: &str) -> anyhow::Result<String> {
    let server: LogServer = url.parse().map_err(|expected| anyhow!("{url}: expected {expected}"))?;
    let host = server.host.as_str();
    if host.parse::<IpAddr>().is_ok() {
        return Ok(url.to_owned());
    }
    let found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .with_context(|| format!("--store-log: {host} has no address here"))?
        .map(|found| found.ip())
        .collect();
    // Nodes use IPv4.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    let address = match address.with_context(|| format!("--store-log: {host} has no address"))? {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let (authority, directory) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (login, server) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    Ok(format!("{scheme}://{login}{address}{}{directory}", server.strip_prefix(host).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_servers_are_words_of_a_command_line() {
        for good in ["http://10.0.0.1:8080/ka", "ftp://me@logs/a/b", "http://[fd00::1]/x"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for bad in ["", "https://logs/", "logs", "http://logs/a b", "http://logs/${net0/mac}", "http://l/\"x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("ftp://me:s%23t@logs/a").unwrap_err().contains("--store-log-password"));
    }

    #[test]
    fn a_password_comes_from_a_file_of_ones_own() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "s3 cret\nmore\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        let secret = password(&file, "ftp://me@logs/ka").unwrap();
        assert!(secret.0 == "s3 cret" && !format!("{secret:?}").contains("s3"));
        assert!(password(&file, "http://logs/ka").unwrap_err().to_string().contains("USER@HOST"));
        mode(0o644);
        let error = format!("{:#}", password(&file, "ftp://me@logs/ka").unwrap_err());
        assert!(error.contains("others can read it (mode 0644)") && error.contains("password: "), "{error}");
        mode(0o600);
        std::fs::write(&file, "\n").unwrap();
        assert!(password(&file, "ftp://me@logs/ka").is_err());
    }

    #[test]
    fn nodes_are_told_addresses() {
        for (url, told) in [
            ("http://10.0.0.1:8080/ka", "http://10.0.0.1:8080/ka"),
            ("http://[fd00::1]/x", "http://[fd00::1]/x"),
            ("http://localhost", "http://127.0.0.1"),
            ("ftp://localhost@localhost:2121/localhost", "ftp://localhost@127.0.0.1:2121/localhost"),
        ] {
            assert_eq!(by_address(url).unwrap(), told);
        }
        let error = by_address("http://no.such.host.invalid/x").unwrap_err();
        assert!(error.to_string().contains("no.such.host.invalid"), "{error}");
    }
}
