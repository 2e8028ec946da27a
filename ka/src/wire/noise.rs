//! The two Noise patterns that ka speaks (<https://noiseprotocol.org/noise.html>).
//!
//! Control connections are `IKpsk0`: the controller proves its static key, the agent the join secret and the key that it
//! made at this boot.
//! Data links are `NNpsk0` under a secret that only admitted nodes can derive.

use snow::{Builder, HandshakeState};

use crate::keys::{JoinKey, Key, KeyPair, SUITE};

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

fn builder(pattern: &str) -> Result<Builder<'static>, Unproven> {
    Ok(Builder::new(format!("Noise_{pattern}_{SUITE}").parse()?))
}
