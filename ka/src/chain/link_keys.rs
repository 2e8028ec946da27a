//! The secrets by which the two ends of a data link authenticate each other.
//!
//! All members of a stream have its key. If that key secured the links, any member could open any link in
//! another's name. So the controller derives a secret for each link of each epoch, and sends it only to the
//! two ends, with their places.

use ring::hmac;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::link::LinkName;
use crate::keys::{Key, KeyError, random};

/// A link's secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSecret(pub Key);

/// The secrets of a member's links in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The secret of the link to the predecessor.
    pub up: LinkSecret,
    /// The secret of the link to the successor.
    pub down: LinkSecret,
}

/// The controller's own secret, from which a stream's link secrets are derived.
pub struct LinkKeys(Key);

impl LinkKeys {
    /// Generates fresh keys.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// The secret of one link. It differs for every other end, stream or epoch.
    #[must_use]
    pub fn secret(&self, link: &LinkName) -> LinkSecret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(b"ka link");
        context.update(&link.stream.0);
        context.update(&link.epoch.0.to_le_bytes());
        context.update(&link.from.0.to_le_bytes());
        context.update(&link.to.0.to_le_bytes());
        let mut secret = LinkSecret::default();
        secret.0.copy_from_slice(context.sign().as_ref());
        secret
    }
}

impl Drop for LinkSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for LinkKeys {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Secrets never reach a log.
impl std::fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Epoch, NodeId};
    use crate::seal::StreamId;

    #[test]
    fn each_link_of_each_epoch_has_its_own_secret() {
        let keys = LinkKeys::generate().unwrap();
        let name = |stream, epoch, from, to| LinkName {
            stream: StreamId([stream; 16]),
            epoch: Epoch(epoch),
            from: NodeId(from),
            to: NodeId(to),
        };
        let names =
            [name(1, 1, 1, 2), name(2, 1, 1, 2), name(1, 2, 1, 2), name(1, 1, 0, 2), name(1, 1, 1, 3)];
        for (i, one) in names.iter().enumerate() {
            for (j, other) in names.iter().enumerate() {
                assert_eq!(keys.secret(one) == keys.secret(other), i == j, "{one:?} {other:?}");
            }
        }
        assert!(LinkKeys::generate().unwrap().secret(&names[0]) != keys.secret(&names[0]));
        assert_eq!(format!("{:?}", keys.secret(&names[0])), "LinkSecret");
    }
}
