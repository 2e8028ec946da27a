//! The primitives for Noise: ring's ciphers, hashes and randomness, which also seal the blocks. So there is
//! only one implementation of them to trust, to keep up to date, and to ship in the boot image.

use curve25519_dalek::montgomery::MontgomeryPoint;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

/// A private or public key.
type Key = [u8; 32];

/// Resolves the primitives of ka's only suite.
#[derive(Default)]
pub(crate) struct Primitives(RingResolver);

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.0.resolve_cipher(choice)
    }
}

/// X25519 (RFC 7748). Ring's keys can only be used once.
#[derive(Default)]
struct X25519 {
    private: Key,
    public: Key,
}

impl X25519 {
    fn take(&mut self, private: Key) {
        self.public = MontgomeryPoint::mul_base_clamped(private).to_bytes();
        self.private = private;
    }
}

impl Drop for X25519 {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        self.public.len()
    }

    fn priv_len(&self) -> usize {
        self.private.len()
    }

    /// Noise only passes keys of the right length.
    fn set(&mut self, private: &[u8]) {
        let mut key = Zeroizing::new(Key::default());
        key.copy_from_slice(private);
        self.take(*key);
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut key = Zeroizing::new(Key::default());
        random.try_fill_bytes(&mut *key)?;
        self.take(*key);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    /// A point of low order would produce a publicly known secret, so it is rejected (RFC 7748, section 6.1).
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let point = public.first_chunk().map(|key| MontgomeryPoint(*key)).ok_or(Error::Dh)?;
        let mut secret = point.mul_clamped(self.private).to_bytes();
        let room = out.first_chunk_mut().filter(|_| secret != Key::default()).ok_or(Error::Dh)?;
        *room = secret;
        secret.zeroize();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519 as RINGS, agree_ephemeral};
    use ring::rand::SystemRandom;

    #[test]
    fn ring_finds_the_same_secret() {
        let theirs = EphemeralPrivateKey::generate(&RINGS, &SystemRandom::new()).unwrap();
        let mut ours = X25519::default();
        ours.generate(&mut *RingResolver.resolve_rng().unwrap()).unwrap();
        let mut again = X25519::default();
        again.set(ours.privkey());
        assert_eq!(ours.pubkey(), again.pubkey());
        let mut secret = Key::default();
        again.dh(theirs.compute_public_key().unwrap().as_ref(), &mut secret).unwrap();
        let public = UnparsedPublicKey::new(&RINGS, ours.pubkey());
        agree_ephemeral(theirs, &public, |their_secret| assert_eq!(their_secret, secret)).unwrap();
    }

    #[test]
    fn a_secret_that_anybody_knows_is_none() {
        let mut ours = X25519::default();
        ours.generate(&mut *RingResolver.resolve_rng().unwrap()).unwrap();
        let mut secret = Key::default();
        for low in [0, 1] {
            let mut public = Key::default();
            public[0] = low;
            assert!(matches!(ours.dh(&public, &mut secret), Err(Error::Dh)));
        }
        assert!(ours.dh(&[9; 31], &mut secret).is_err());
    }
}
