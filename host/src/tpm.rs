//! This machine's TPM 2.0, for the proof in [`ka::tpm`].
//!
//! The kernel's resource manager gives each opener of its device a TPM of its own. Writing a command carries it out,
//! and reading returns the response.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use ka::keys::Key;
use ka::tpm::command::{self, Command, MAX_RESPONSE, ResponseError};
use ka::tpm::{FromNode, Point, ToNode, first_nonce};

/// The kernel's device, behind its resource manager.
pub const DEVICE: &str = "/dev/tpmrm0";

/// Why the TPM proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// The device fails.
    #[error("the TPM does not answer {command}: {error}")]
    Device {
        /// The command.
        command: &'static str,
        /// The error.
        error: io::Error,
    },
    /// The TPM refuses a command, or does not answer it as it should.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// The controller sent a command before its challenge.
    #[error("the controller speaks of the TPM out of turn")]
    OutOfTurn,
}

/// A TPM with its endorsement key.
pub struct Tpm<D: Read + Write> {
    device: D,
    /// The key's handle, and the key.
    handle: u32,
    key: Point,
    session: Option<u32>,
}

/// This machine's TPM; `None` if it has none, or no driver for it.
///
/// # Errors
/// [`TpmError`]: there is one, and it does not work.
pub fn of_this_machine() -> Result<Option<Tpm<File>>, TpmError> {
    open(Path::new(DEVICE))
}

fn open(path: &Path) -> Result<Option<Tpm<File>>, TpmError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TpmError::Device { command: "open", error }),
        Ok(device) => Tpm::new(device).map(Some),
    }
}

impl<D: Read + Write> Tpm<D> {
    /// The TPM behind this device, with its endorsement key loaded.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn new(mut device: D) -> Result<Self, TpmError> {
        let create = command::create_endorsement_key();
        let response = transmit(&mut device, &create)?;
        let (handle, key) = create.created(&response)?;
        Ok(Self { device, handle, key, session: None })
    }

    /// Its public endorsement key.
    pub fn key(&self) -> Point {
        self.key
    }

    /// Does what the controller asks, for the agent with this key.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn answer(&mut self, request: ToNode, agent: &Key) -> Result<FromNode, TpmError> {
        match request {
            ToNode::Challenge(salt) => {
                self.end_session();
                let start = command::start_session(self.handle, &salt, &first_nonce(agent, &salt));
                let response = transmit(&mut self.device, &start)?;
                let (session, nonce) = start.started(&response)?;
                self.session = Some(session);
                Ok(FromNode::Nonce(nonce))
            }
            ToNode::Command { nonce, mac } => {
                let session = self.session.ok_or(TpmError::OutOfTurn)?;
                let ask = command::get_random(session, &nonce, &mac);
                let response = transmit(&mut self.device, &ask)?;
                let answer = ask.answered(&response)?;
                // The command has ended its session.
                self.session = None;
                Ok(FromNode::Answer(answer))
            }
        }
    }

    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.flush(session);
        }
    }

    fn flush(&mut self, handle: u32) {
        let flush = command::flush(handle);
        let flushed = transmit(&mut self.device, &flush).and_then(|response| Ok(flush.done(&response)?));
        if let Err(error) = flushed {
            log::debug!("the TPM keeps {handle:#x}: {error}");
        }
    }
}

/// The resource manager forgets a closed device's keys. Without it, the few places in the TPM would fill up.
impl<D: Read + Write> Drop for Tpm<D> {
    fn drop(&mut self) {
        self.end_session();
        self.flush(self.handle);
    }
}

fn transmit(device: &mut impl ReadWrite, command: &Command) -> Result<Vec<u8>, TpmError> {
    send(device, command).map_err(|error| TpmError::Device { command: command.name, error })
}

fn send(device: &mut impl ReadWrite, command: &Command) -> io::Result<Vec<u8>> {
    device.write_all(&command.bytes)?;
    // Old kernels discard what one read leaves over, so the first read takes all of it. A socket may bring it in
    // pieces.
    let mut response = vec![0; MAX_RESPONSE];
    let mut got = 0;
    while command::response_length(response.get(..got).unwrap_or_default()).is_none_or(|length| got < length)
    {
        let rest = response.get_mut(got..).filter(|rest| !rest.is_empty());
        let rest =
            rest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is too long"))?;
        match device.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => got += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    response.truncate(got);
    Ok(response)
}

trait ReadWrite: Read + Write {}
impl<D: Read + Write> ReadWrite for D {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that answers every command with these bytes, in pieces of this size.
    struct Fake(Vec<u8>, usize);

    impl Read for Fake {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0.drain(..count);
            Ok(count)
        }
    }

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_machine_without_a_tpm_has_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(open(&directory.path().join("tpmrm0")), Ok(None)));
    }

    #[test]
    fn a_tpm_that_does_not_work_is_an_error_and_no_hang() {
        let failed = |bytes: &[u8], piece| Tpm::new(Fake(bytes.to_vec(), piece)).err().unwrap().to_string();
        // TPM_RC_HIERARCHY: the endorsement hierarchy is disabled.
        let refusal = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x85];
        for piece in [1, 3, 10] {
            assert_eq!(failed(&refusal, piece), "the TPM refuses CreatePrimary with code 0x185");
        }
        assert!(failed(&refusal[..9], 9).contains("does not answer CreatePrimary"));
        assert!(failed(&[0xff; 5000], 5000).contains("too long"));
        assert!(failed(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0], 10).contains("another form"));
    }
}
