//! HTTP to one BMC: JSON in and out, with errors that say what to do.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ka::plan::Secret;
use ka::shown;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};

use super::super::PowerError;
use super::tls::{Pinned, Seen};
use crate::config::bmc::{Redfish, Trust};

/// The time limit for an answer. BMCs are slow.
const LIMIT: Duration = Duration::from_secs(40);
/// The time limit for the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The maximum size of an answer in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// A BMC's web service.
pub(super) struct Client {
    agent: Agent,
    url: String,
    login: Secret,
    seen: Seen,
    trusted: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(redfish: &Redfish) -> Result<Self, PowerError> {
        let seen = Seen::default();
        let pinned = Pinned::new(&redfish.trust, seen.clone())?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .timeout_connect(Some(CONNECT))
            // The shell's proxy is not meant for a BMC, and the password must not follow a redirect.
            .proxy(None)
            .max_redirects(0)
            .build();
        let connector = ().chain(TcpConnector::default()).chain(pinned);
        let login = &redfish.login;
        let plain = Secret(format!("{}:{}", login.user, login.password.0));
        Ok(Self {
            agent: Agent::with_parts(config, connector, DefaultResolver::default()),
            url: redfish.url.clone(),
            login: Secret(format!("Basic {}", STANDARD.encode(&plain.0))),
            seen,
            trusted: redfish.trust != Trust::Nothing,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, PowerError> {
        self.request(Method::GET, path, None, None)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<(), PowerError> {
        self.request(Method::POST, path, Some(body), None).map(drop)
    }

    pub(super) fn patch(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<(), PowerError> {
        self.request(Method::PATCH, path, Some(body), etag).map(drop)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Value, PowerError> {
        let what = format!("{method} {}", shown::field(path));
        let mut request = Request::builder()
            .method(method)
            .uri(address(&self.url, path)?)
            .header("Authorization", &self.login.0)
            .header("Accept", "application/json")
            .header("OData-Version", "4.0");
        if let Some(etag) = etag {
            request = request.header("If-Match", etag);
        }
        let sent = match body {
            Some(body) => request
                .header("Content-Type", "application/json")
                .body(body.to_string())
                .map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        let sent =
            sent.map_err(|e| PowerError::Failed(format!("its BMC's address {} is invalid: {e}", self.url)))?;
        let mut answer = sent.map_err(|e| self.judge(&e))?;
        let status = answer.status();
        let said = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(|e| {
            PowerError::Failed(format!("its BMC {} sent an unreadable answer: {e}", self.url))
        })?;
        self.understand(status, &said, &what)
    }

    fn understand(&self, status: StatusCode, said: &str, what: &str) -> Result<Value, PowerError> {
        let value = serde_json::from_str(said);
        if status.is_success() {
            if said.trim().is_empty() {
                return Ok(Value::Null);
            }
            return value.map_err(|e| {
                PowerError::Failed(format!("its BMC {} answered {what} with invalid JSON: {e}", self.url))
            });
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(PowerError::Denied(self.url.clone()));
        }
        let value = value.unwrap_or(Value::Null);
        let details = &value["error"]["@Message.ExtendedInfo"];
        let detail = details.as_array().and_then(|list| list.first()).unwrap_or(details)["Message"].as_str();
        let why = detail.or(value["error"]["message"].as_str()).unwrap_or_default();
        Err(PowerError::Failed(format!(
            "its BMC {} refuses {what} ({}): {}",
            self.url,
            status.as_u16(),
            shown::reason(why)
        )))
    }

    /// Why no answer arrived.
    fn judge(&self, error: &ureq::Error) -> PowerError {
        match self.seen.fingerprint() {
            Some(seen) if !self.trusted => PowerError::Untrusted(format!(
                "it is not certain that {} is its BMC: compare the SHA-256 of the certificate, and write \
                 fingerprint = \"{seen}\" or ca = \"FILE\" into its [[bmc]]",
                self.url
            )),
            Some(seen) => PowerError::Untrusted(format!(
                "{} presents a certificate that its [[bmc]] does not allow, with the SHA-256 {seen}: {error}",
                self.url
            )),
            None => PowerError::Unreachable(self.url.clone(), shown::reason(&error.to_string())),
        }
    }
}

/// The address of a path at the BMC. A path comes from the BMC itself, and one without a slash would continue the host's
/// name: the password would go to another host.
fn address(url: &str, path: &str) -> Result<String, PowerError> {
    if path.starts_with('/') {
        return Ok(format!("{url}{path}"));
    }
    Err(PowerError::Failed(format!("its BMC {url} names a path that is none: '{}'", shown::field(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_to_another_host() {
        let of = |path| address("https://10.0.0.7", path);
        assert_eq!(of("/redfish/v1/Systems/1"), Ok("https://10.0.0.7/redfish/v1/Systems/1".into()));
        for path in ["@evil/x", ".evil/x", ":8443/x", "https://evil/x", "", "0/x", "?/x", "#/x"] {
            assert!(matches!(of(path), Err(PowerError::Failed(_))), "{path}");
        }
    }
}
