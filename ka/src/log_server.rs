//! The server that collects a site's node logs, as given by `ka.store_log=` and `--store-log`.

use std::fmt;
use std::str::FromStr;

/// A directory on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogServer {
    /// The protocol.
    pub protocol: Protocol,
    /// Its name or address; an IPv6 address has no brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path, with a leading slash and no trailing one.
    pub directory: String,
}

/// The user for a server without accounts, and the password that such a server expects.
const ANONYMOUS: &str = "anonymous";
const DEFAULT_LOGIN: &str = "anonymous:ka@";

/// The protocol of a log server.
#[derive(Clone, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, with PUT.
    Http,
    /// FTP.
    Ftp {
        /// The login name.
        user: String,
        /// Its password.
        password: String,
    },
}

/// Omits the password.
impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("Http"),
            Self::Ftp { user, .. } => f.debug_struct("Ftp").field("user", user).finish_non_exhaustive(),
        }
    }
}

impl FromStr for LogServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "http://HOST[:PORT]/DIRECTORY or ftp://[USER:PASSWORD@]HOST[:PORT]/DIRECTORY";
        let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
        let (authority, directory) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, server) = match authority.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, authority),
        };
        let (protocol, default) = match (scheme, login) {
            ("http", None) => (Protocol::Http, 80),
            ("ftp", login) => {
                let login = login.unwrap_or(DEFAULT_LOGIN);
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = |part| decoded(part).ok_or(EXPECTED);
                (Protocol::Ftp { user: decoded(user)?, password: decoded(password)? }, 21)
            }
            _ => return Err(EXPECTED),
        };
        // An IPv6 address is in brackets, which are not part of it.
        let (host, port) = match server.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return Err(EXPECTED),
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, port))) => (host, Some(port.strip_prefix(':').ok_or(EXPECTED)?)),
            None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(default), str::parse).map_err(|_| EXPECTED)?;
        if host.is_empty() || port == 0 || text.contains(char::is_whitespace) {
            return Err(EXPECTED);
        }
        let directory = format!("/{}", directory.trim_matches('/'));
        let mut directory = directory.trim_end_matches('/').to_owned();
        if matches!(protocol, Protocol::Ftp { .. }) {
            // An HTTP server decodes the path itself.
            directory = decoded(&directory).ok_or(EXPECTED)?;
        }
        Ok(Self { protocol, host: host.to_owned(), port, directory })
    }
}

/// Decodes `%XX` (RFC 3986, section 2.1); `None` if the result is not text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(['\0', '\r', '\n']))
}

impl LogServer {
    /// Whether `text`, which names a server, contains a password.
    #[must_use]
    pub fn has_password(text: &str) -> bool {
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = authority.split_once('/').map_or(authority, |(authority, _)| authority);
        authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'))
    }

    /// Whether a password would be sent: only by FTP, to a user other than anonymous.
    #[must_use]
    pub fn takes_password(&self) -> bool {
        matches!(&self.protocol, Protocol::Ftp { user, .. } if user != ANONYMOUS)
    }

    /// Whether a password would be sent, but is not known.
    #[must_use]
    pub fn lacks_password(&self) -> bool {
        self.takes_password()
            && matches!(&self.protocol, Protocol::Ftp { password, .. } if password.is_empty())
    }

    /// The same server with this password.
    #[must_use]
    pub fn with_password(mut self, secret: &str) -> Self {
        if self.takes_password()
            && let Protocol::Ftp { password, .. } = &mut self.protocol
        {
            secret.clone_into(password);
        }
        self
    }

    /// `HOST:PORT`, an IPv6 address in brackets.
    #[must_use]
    pub fn server(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_given_apart_and_never_shown() {
        for (text, has) in [
            ("ftp://me:secret@logs/ka", true),
            ("ftp://me:@logs/ka", true),
            ("ftp://me@logs:2121/ka:b", false),
            ("ftp://[fd00::1]:21/x@y:z", false),
            ("http://logs:80/ka", false),
        ] {
            assert_eq!(LogServer::has_password(text), has, "{text}");
        }
        let server: LogServer = "ftp://me@logs/ka".parse().unwrap();
        assert!(server.takes_password() && server.lacks_password());
        let server = server.with_password("s3cret");
        assert!(!server.lacks_password());
        let same: LogServer = "ftp://me:s3cret@logs/ka".parse().unwrap();
        assert!(server == same && !format!("{server:?}").contains("s3cret"));
        for open in ["http://logs/ka", "ftp://logs/ka"] {
            let server: LogServer = open.parse().unwrap();
            assert!(!server.takes_password() && server.clone().with_password("x") == server);
        }
    }

    #[test]
    fn servers_are_read() {
        let ftp = |user: &str, password: &str| Protocol::Ftp { user: user.into(), password: password.into() };
        for (text, protocol, server, directory) in [
            ("http://logs/ka", Protocol::Http, "logs:80", "/ka"),
            ("http://10.0.0.1:8080", Protocol::Http, "10.0.0.1:8080", ""),
            ("http://[fd00::1]:81/a/b/", Protocol::Http, "[fd00::1]:81", "/a/b"),
            ("ftp://logs/ka", ftp("anonymous", "ka@"), "logs:21", "/ka"),
            ("ftp://me:s:e@logs:2121/", ftp("me", "s:e"), "logs:2121", ""),
            ("ftp://m%40e:%23%C3%A9%25@logs/a%20b", ftp("m@e", "#é%"), "logs:21", "/a b"),
            ("http://logs/a%20b", Protocol::Http, "logs:80", "/a%20b"),
        ] {
            let read: LogServer = text.parse().unwrap();
            assert_eq!(
                (&read.protocol, read.server().as_str(), read.directory.as_str()),
                (&protocol, server, directory)
            );
        }
        for bad in [
            "",
            "logs",
            "http://",
            "https://logs/",
            "http://u:p@logs/",
            "http://h:0/",
            "http://h:x/",
            "http://[fd00::1/",
            "ftp://h/a b",
            "ftp://u:%2@h/",
            "ftp://u:%+1@h/",
            "ftp://u:%ff@h/",
            "ftp://h/a%0d%0aDELE%20b",
        ] {
            assert!(bad.parse::<LogServer>().is_err(), "{bad}");
        }
    }
}
