//! TLS to a BMC, verified by its authority or by its exact certificate.
//!
//! BMCs create their own certificates, for unused names. So a certificate may be pinned by its SHA-256,
//! regardless of its content; the signature of the handshake proves that the peer has its key.

use std::fmt::{self, Debug};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use ka::sha256::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::super::PowerError;
use crate::config::bmc::Trust;

/// The SHA-256 of a rejected certificate.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Option<[u8; 32]>>>);

impl Seen {
    fn set(&self, hash: [u8; 32]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    }

    /// In the usual notation for people.
    pub(super) fn fingerprint(&self) -> Option<String> {
        let hash = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(hash.map(|byte| format!("{byte:02X}")).join(":"))
    }
}

/// Wraps connections to a BMC in TLS.
pub(super) struct Pinned(Arc<ClientConfig>);

impl Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl Pinned {
    pub(super) fn new(trust: &Trust, seen: Seen) -> Result<Self, PowerError> {
        let failed = |e: Error| PowerError::Failed(format!("no TLS: {e}"));
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(trust, seen, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl<In: Transport> Connector<In> for Pinned {
    type Out = Either<In, Wrapped>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ureq::Error::HostNotFound)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name)
            .map_err(|e| ureq::Error::Io(std::io::Error::other(e)))?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Wrapped { buffers, stream: StreamOwned { conn: connection, sock: socket } })))
    }
}

/// A connection inside TLS.
pub(super) struct Wrapped {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped")
    }
}

impl Transport for Wrapped {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(std::io::Write::write_all(&mut self.stream, output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = std::io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Verifies a BMC's certificate.
struct Verifier {
    seen: Seen,
    provider: Arc<CryptoProvider>,
    /// Certificates that are accepted as they are.
    pinned: Pins,
    /// The authorities that may sign others.
    authority: Option<Arc<WebPkiServerVerifier>>,
}

enum Pins {
    Hash([u8; 32]),
    Whole(Vec<CertificateDer<'static>>),
}

impl Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn new(trust: &Trust, seen: Seen, provider: &Arc<CryptoProvider>) -> Result<Self, PowerError> {
        let (pinned, authority) = match trust {
            Trust::Nothing | Trust::Plain => (Pins::Whole(Vec::new()), None),
            Trust::Fingerprint(hash) => (Pins::Hash(*hash), None),
            Trust::Authority(file) => {
                let failed = |why: String| PowerError::Failed(format!("{}: {why}", file.display()));
                let text = fs::read(file).map_err(|e| failed(e.to_string()))?;
                let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
                    .collect::<Result<_, _>>()
                    .map_err(|e| failed(e.to_string()))?;
                if certificates.is_empty() {
                    return Err(failed("it has no certificate (PEM)".into()));
                }
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates.iter().cloned());
                let authority =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                        .build()
                        .map_err(|e| failed(e.to_string()))?;
                (Pins::Whole(certificates), Some(authority))
            }
        };
        Ok(Self { seen, provider: Arc::clone(provider), pinned, authority })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let hash = Sha256::digest(end_entity.as_ref());
        let pinned = match &self.pinned {
            Pins::Hash(pin) => *pin == hash,
            Pins::Whole(certificates) => certificates.iter().any(|it| it.as_ref() == end_entity.as_ref()),
        };
        if pinned {
            return Ok(ServerCertVerified::assertion());
        }
        let signed = self.authority.as_ref().map(|authority| {
            authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        signed.unwrap_or_else(|| Err(Error::General("the certificate is not known".into()))).inspect_err(
            |_| {
                self.seen.set(hash);
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
