//! The few TPM 2.0 commands of the proof, as bytes (TPM 2.0 Library, part 3; structures in part 2).
//!
//! Integers are big-endian. A command is a tag, its size and its code; then handles, authorizations and parameters. A
//! response is a tag, its size and a response code; then a handle, parameters and authorizations.

use super::{Answer, Point, Word};

/// The length of the header of every command and response, in bytes.
pub const HEADER: usize = 10;
/// The longest response that is read, in bytes (`TPM_BUFFER_MAX` of Linux).
pub const MAX_RESPONSE: usize = 4096;
/// The number of random bytes that the proof's command asks for.
pub const RANDOM: u16 = 16;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const CREATE_PRIMARY: u32 = 0x131;
const FLUSH_CONTEXT: u32 = 0x165;
const START_AUTH_SESSION: u32 = 0x176;
pub(super) const GET_RANDOM: u32 = 0x17b;
const ENDORSEMENT: u32 = 0x4000_000b;
const NO_HANDLE: u32 = 0x4000_0007;
const PASSWORD: u32 = 0x4000_0009;
const SHA256: u16 = 0x000b;
const NONE: u16 = 0x0010;
const P256: u16 = 0x0003;
const HMAC_SESSION: u8 = 0;
/// The session audits the command, and ends with it.
pub(super) const AUDIT: u8 = 0x80;

/// The policy of endorsement keys: the hierarchy's secret (TCG EK Credential Profile, "PolicyA"). The proof does not
/// use it; it is a part of the key's template.
const POLICY: Word = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd,
    0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

/// A response that is not what the command promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The TPM refuses the command.
    #[error("the TPM refuses {command} with code {code:#05x}")]
    Refused {
        /// The command.
        command: &'static str,
        /// The response code.
        code: u32,
    },
    /// The bytes are not such a response.
    #[error("the TPM's answer to {0} has another form than the TPM 2.0 library says")]
    Form(&'static str),
}

/// A command and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The name, for errors.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Creates the endorsement key from the default template for P-256 ("L-2" of the TCG EK Credential Profile). The TPM
/// derives it from its endorsement seed, so it is the same each time.
#[must_use]
pub fn create_endorsement_key() -> Command {
    let mut template = Writer::default();
    // ECC; fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
    template.u16(0x0023).u16(SHA256).u32(0x0003_00b2).sized(&POLICY);
    // AES-128 in CFB mode protects its children; no scheme; the curve; no key derivation; a point of zeros.
    template.u16(0x0006).u16(128).u16(0x0043).u16(NONE).u16(P256).u16(NONE);
    template.sized(&[0; 32]).sized(&[0; 32]);
    let mut rest = Writer::default();
    rest.u32(ENDORSEMENT).authorized(PASSWORD, &[], 0, &[]);
    // No authorization value and no data; the template; no outside info; no PCRs.
    rest.sized(&[0, 0, 0, 0]).sized(&template.0).u16(0).u32(0);
    rest.command("CreatePrimary", SESSIONS, CREATE_PRIMARY)
}

/// Starts a session for HMACs whose salt is encrypted for `key`.
#[must_use]
pub fn start_session(key: u32, salt: &Point, nonce: &Word) -> Command {
    let mut secret = Writer::default();
    secret.sized(&salt.x).sized(&salt.y);
    let mut rest = Writer::default();
    rest.u32(key).u32(NO_HANDLE).sized(nonce).sized(&secret.0).u8(HMAC_SESSION).u16(NONE).u16(SHA256);
    rest.command("StartAuthSession", NO_SESSIONS, START_AUTH_SESSION)
}

/// Gets random bytes in a session, with the controller's nonce and HMAC.
#[must_use]
pub fn get_random(session: u32, nonce: &Word, mac: &Word) -> Command {
    let mut rest = Writer::default();
    rest.authorized(session, nonce, AUDIT, mac).u16(RANDOM);
    rest.command("GetRandom", SESSIONS, GET_RANDOM)
}

/// Removes a key or a session from the TPM's memory.
#[must_use]
pub fn flush(handle: u32) -> Command {
    let mut rest = Writer::default();
    rest.u32(handle);
    rest.command("FlushContext", NO_SESSIONS, FLUSH_CONTEXT)
}

/// The length of a response whose header is in `bytes`; `None` if more of it is needed.
#[must_use]
pub fn response_length(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let size = u32::from_be_bytes(*header.get(2..)?.first_chunk()?);
    usize::try_from(size).ok()
}

impl Command {
    /// The handle and the point of a key that [`create_endorsement_key`] has created.
    ///
    /// # Errors
    /// [`ResponseError`].
    pub fn created(&self, response: &[u8]) -> Result<(u32, Point), ResponseError> {
        let mut rest = self.open(response)?;
        let form = ResponseError::Form(self.name);
        let mut parse = || {
            let handle = rest.u32()?;
            rest.u32()?;
            let mut public = Reader(rest.sized()?);
            (public.u16()? == 0x0023 && public.u16()? == SHA256).then_some(())?;
            public.u32()?;
            public.sized()?;
            let algorithms = [0x0006, 128, 0x0043, NONE, P256, NONE];
            algorithms.iter().try_for_each(|known| (public.u16()? == *known).then_some(()))?;
            Some((handle, Point { x: public.coordinate()?, y: public.coordinate()? }))
        };
        parse().ok_or(form)
    }

    /// The handle and the TPM's nonce of a session that [`start_session`] has started.
    ///
    /// # Errors
    /// [`ResponseError`].
    pub fn started(&self, response: &[u8]) -> Result<(u32, Word), ResponseError> {
        let mut rest = self.open(response)?;
        let mut parse = || Some((rest.u32()?, rest.word()?));
        parse().ok_or(ResponseError::Form(self.name))
    }

    /// The answer to [`get_random`].
    ///
    /// # Errors
    /// [`ResponseError`].
    pub fn answered(&self, response: &[u8]) -> Result<Answer, ResponseError> {
        let mut rest = self.open(response)?;
        let mut parse = || {
            rest.u32()?;
            let random = rest.sized()?.try_into().ok()?;
            Some(Answer { random, nonce: rest.word()?, attributes: rest.u8()?, mac: rest.word()? })
        };
        parse().ok_or(ResponseError::Form(self.name))
    }

    /// Checks that the TPM has carried out the command.
    ///
    /// # Errors
    /// [`ResponseError`].
    pub fn done(&self, response: &[u8]) -> Result<(), ResponseError> {
        self.open(response).map(drop)
    }

    fn open<'a>(&self, response: &'a [u8]) -> Result<Reader<'a>, ResponseError> {
        let form = || ResponseError::Form(self.name);
        if response_length(response) != Some(response.len()) {
            return Err(form());
        }
        let mut rest = Reader(response);
        let tag = rest.u16().ok_or_else(form)?;
        rest.u32().ok_or_else(form)?;
        match rest.u32().ok_or_else(form)? {
            0 if tag == self.tag() => Ok(rest),
            0 => Err(form()),
            code => Err(ResponseError::Refused { command: self.name, code }),
        }
    }

    /// A successful response has the command's tag.
    fn tag(&self) -> u16 {
        self.bytes.first_chunk().map_or(0, |tag| u16::from_be_bytes(*tag))
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes after their length. All that are written here are short.
    fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.0.extend(bytes);
        self
    }

    /// The command's only authorization.
    fn authorized(&mut self, session: u32, nonce: &[u8], attributes: u8, mac: &[u8]) -> &mut Self {
        let mut one = Self::default();
        one.u32(session).sized(nonce).u8(attributes).sized(mac);
        self.u32(u32::try_from(one.0.len()).unwrap_or(u32::MAX));
        self.0.extend(one.0);
        self
    }

    fn command(&self, name: &'static str, tag: u16, code: u32) -> Command {
        let mut whole = Self::default();
        whole.u16(tag).u32(u32::try_from(HEADER + self.0.len()).unwrap_or(u32::MAX)).u32(code);
        whole.0.extend(&self.0);
        Command { name, bytes: whole.0 }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn word(&mut self) -> Option<Word> {
        self.sized()?.try_into().ok()
    }

    /// Some TPMs leave out leading zeros.
    fn coordinate(&mut self) -> Option<Word> {
        let bytes = self.sized()?;
        let mut word = Word::default();
        let start = word.len().checked_sub(bytes.len())?;
        word.get_mut(start..)?.copy_from_slice(bytes);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
        let mut whole = Writer::default();
        whole.u16(tag).u32(u32::try_from(HEADER + body.len()).unwrap()).u32(code);
        whole.0.extend(body);
        whole.0
    }

    #[test]
    fn a_refusal_and_a_torn_answer_are_told_apart() {
        let command = flush(0x8000_0000);
        assert_eq!(command.done(&response(NO_SESSIONS, 0, &[])), Ok(()));
        let refused = ResponseError::Refused { command: "FlushContext", code: 0x18b };
        assert_eq!(command.done(&response(NO_SESSIONS, 0x18b, &[])), Err(refused));
        let form = Err(ResponseError::Form("FlushContext"));
        assert_eq!(command.done(&response(SESSIONS, 0, &[])), form, "another tag");
        let whole = response(NO_SESSIONS, 0, &[1, 2]);
        for end in 0..whole.len() {
            assert_eq!(command.done(&whole[..end]), form, "{end}");
        }
    }

    #[test]
    fn no_prefix_of_an_answer_is_one() {
        let started = start_session(1, &Point { x: [1; 32], y: [2; 32] }, &[3; 32]);
        let mut body = Writer::default();
        body.u32(0x0200_0000).sized(&[7; 32]);
        assert_eq!(started.started(&response(NO_SESSIONS, 0, &body.0)), Ok((0x0200_0000, [7; 32])));
        let asked = get_random(1, &[1; 32], &[2; 32]);
        let mut answer = Writer::default();
        answer.u32(18).sized(&[5; 16]).sized(&[6; 32]).u8(0x80).sized(&[7; 32]);
        let expected = Answer { random: [5; 16], nonce: [6; 32], attributes: 0x80, mac: [7; 32] };
        assert_eq!(asked.answered(&response(SESSIONS, 0, &answer.0)), Ok(expected));
        for end in 0..answer.0.len() {
            assert!(asked.answered(&response(SESSIONS, 0, &answer.0[..end])).is_err(), "{end}");
        }
        for end in 0..body.0.len() {
            assert!(started.started(&response(NO_SESSIONS, 0, &body.0[..end])).is_err(), "{end}");
        }
    }
}
