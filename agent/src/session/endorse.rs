//! The node's part of the proof of its TPM, before its hello.

use std::io::{Read, Write};

use ka::keys::Key;
use ka::tpm::{FromNode, Point, ToNode};
use ka_host::tpm::{Tpm, TpmError};

/// A TPM that can prove its endorsement key.
pub trait Endorse {
    /// The public key.
    fn key(&self) -> Point;

    /// Does what the controller asks, for the agent with this key.
    ///
    /// # Errors
    /// [`TpmError`].
    fn answer(&mut self, request: ToNode, agent: &Key) -> Result<FromNode, TpmError>;
}

impl<D: Read + Write> Endorse for Tpm<D> {
    fn key(&self) -> Point {
        self.key()
    }

    fn answer(&mut self, request: ToNode, agent: &Key) -> Result<FromNode, TpmError> {
        self.answer(request, agent)
    }
}

/// The proof on one connection.
pub(super) struct Endorsing<'a> {
    tpm: Option<&'a mut dyn Endorse>,
    agent: Key,
}

impl<'a> Endorsing<'a> {
    pub(super) fn new(tpm: Option<&'a mut dyn Endorse>, agent: Key) -> Self {
        Self { tpm, agent }
    }

    /// The first message; `None` without a TPM.
    pub(super) fn begin(&self) -> Option<FromNode> {
        Some(FromNode::Key(self.tpm.as_ref()?.key()))
    }

    /// The answer to the controller, and whether more of the proof follows. A node whose TPM fails joins without it;
    /// the controller decides whether it may.
    pub(super) fn answer(&mut self, request: ToNode) -> (Option<FromNode>, bool) {
        let Some(tpm) = &mut self.tpm else { return (None, false) };
        match tpm.answer(request, &self.agent) {
            Ok(answer @ FromNode::Answer(_)) => (Some(answer), false),
            Ok(answer) => (Some(answer), true),
            Err(error) => {
                log::warn!("this machine joins without the proof of its TPM: {error}");
                self.tpm = None;
                (None, false)
            }
        }
    }
}
