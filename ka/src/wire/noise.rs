//! The Noise patterns that ka uses (<https://noiseprotocol.org/noise.html>).
//!
//! Control connections are `IKpsk0`: the controller proves its static key, and the agent proves the join
//! secret and the key that it generated at this boot. Data links are `NNpsk0` under the link's secret, which
//! only its two ends receive. Consoles are `KK`: the controller proves its key, and the node the key of this
//! boot. A node that has not joined yet is unknown to the controller; it shows its log over `KNpsk0`, under
//! the join secret.

use snow::{Builder, HandshakeState};

use crate::keys::{JoinKey, Key, KeyPair, SUITE};
use crate::primitives::Primitives;

/// The handshake or a sealed message did not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side does not have the right key, or the bytes were altered")]
pub struct Unproven;

impl From<snow::Error> for Unproven {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

pub(super) fn control_initiator(
    key: &JoinKey,
    own: &KeyPair,
    prologue: &[u8],
) -> Result<HandshakeState, Unproven> {
    let psk = key.handshake_secret();
    let builder = builder("IKpsk0")?.prologue(prologue)?.psk(0, &psk)?.local_private_key(&own.private)?;
    Ok(builder.remote_public_key(&key.controller)?.build_initiator()?)
}

pub(super) fn control_responder(
    pair: &KeyPair,
    key: &JoinKey,
    prologue: &[u8],
) -> Result<HandshakeState, Unproven> {
    let psk = key.handshake_secret();
    let builder = builder("IKpsk0")?.prologue(prologue)?.psk(0, &psk)?;
    Ok(builder.local_private_key(&pair.private)?.build_responder()?)
}

pub(super) fn link_initiator(secret: &Key, prologue: &[u8]) -> Result<HandshakeState, Unproven> {
    Ok(builder("NNpsk0")?.prologue(prologue)?.psk(0, secret)?.build_initiator()?)
}

pub(super) fn link_responder(secret: &Key, prologue: &[u8]) -> Result<HandshakeState, Unproven> {
    Ok(builder("NNpsk0")?.prologue(prologue)?.psk(0, secret)?.build_responder()?)
}

pub(super) fn console_initiator(
    own: &KeyPair,
    node: &Key,
    prologue: &[u8],
) -> Result<HandshakeState, Unproven> {
    let builder = builder("KK")?.prologue(prologue)?.local_private_key(&own.private)?;
    Ok(builder.remote_public_key(node)?.build_initiator()?)
}

pub(super) fn console_responder(
    own: &KeyPair,
    controller: &Key,
    prologue: &[u8],
) -> Result<HandshakeState, Unproven> {
    let builder = builder("KK")?.prologue(prologue)?.local_private_key(&own.private)?;
    Ok(builder.remote_public_key(controller)?.build_responder()?)
}

pub(super) fn log_initiator(
    own: &KeyPair,
    key: &JoinKey,
    prologue: &[u8],
) -> Result<HandshakeState, Unproven> {
    let psk = key.log_secret();
    let builder = builder("KNpsk0")?.prologue(prologue)?.psk(0, &psk)?;
    Ok(builder.local_private_key(&own.private)?.build_initiator()?)
}

pub(super) fn log_responder(key: &JoinKey, prologue: &[u8]) -> Result<HandshakeState, Unproven> {
    let psk = key.log_secret();
    let builder = builder("KNpsk0")?.prologue(prologue)?.psk(0, &psk)?;
    Ok(builder.remote_public_key(&key.controller)?.build_responder()?)
}

fn builder(pattern: &str) -> Result<Builder<'static>, Unproven> {
    let params = format!("Noise_{pattern}_{SUITE}").parse()?;
    Ok(Builder::with_resolver(params, Box::<Primitives>::default()))
}
