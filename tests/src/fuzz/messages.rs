//! Messages from a peer that has the secret: an agent or a controller that misbehaves.

use std::sync::LazyLock;

use ka::chain::LinkMessage;
use ka::keys::JoinKey;
use ka::wire::console::{self, ToNode, ToViewer};
use ka::wire::control::{ToAgent, ToController};
use ka::wire::discovery::{Answerer, DiscoveryKey, REPLY_LENGTH, REQUEST_LENGTH, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::Input;

/// Control and link messages of all kinds: a message that is understood keeps its meaning when it is encoded
/// again.
pub(super) fn any_message(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => again::<ToController>(input.rest()),
        1 => again::<ToAgent>(input.rest()),
        _ => again::<LinkMessage>(input.rest()),
    }
}

/// Messages of a viewer and of a node's console. A message that a node accepts never exceeds its limit.
pub(super) fn console(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte() & 1 == 0 {
        return again::<ToViewer>(input.rest());
    }
    let bytes = input.rest();
    again::<ToNode>(bytes);
    if let Ok(ToNode::Open(open)) = postcard::from_bytes::<ToNode>(bytes)
        && open.check().is_ok()
    {
        assert!(
            postcard::to_stdvec(&ToNode::Open(open)).is_ok_and(|said| said.len() <= console::MAX_REQUEST)
        );
    }
}

fn again<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = postcard::from_bytes::<M>(bytes) else { return };
    let said = postcard::to_stdvec(&message).expect("what was read can be written");
    assert_eq!(postcard::from_bytes::<M>(&said).as_ref(), Ok(&message));
}

static KEY: LazyLock<DiscoveryKey> =
    LazyLock::new(|| DiscoveryKey::new(&JoinKey { controller: [1; 32], secret: [2; 32] }));

/// Datagrams to both sides. A datagram with the correct prefix is answered or accepted only if nothing was
/// changed.
pub(super) fn discovery(data: &[u8]) {
    let mut input = Input::new(data);
    let mut answerer = Answerer::new(KEY.clone());
    answerer.announce("getstage2", 30765);
    let request = Request::new(&KEY, "getstage2", input.array());
    let mut packet = request.packet().to_vec();
    if input.byte() & 1 == 1 {
        packet = input.rest().to_vec();
    } else {
        while !input.is_empty() {
            let at = usize::from(input.byte()) % REQUEST_LENGTH;
            packet[at] ^= input.byte();
        }
    }
    let reply = answerer.answer(&packet);
    assert_eq!(reply.is_some(), packet == request.packet());
    assert_eq!(request.answered_by(&KEY, &packet), None, "a request is no reply");
    let Some(reply) = reply else { return };
    assert_eq!(request.answered_by(&KEY, &reply), Some(30765));
    assert_eq!(answerer.answer(&packet), None, "a nonce is answered once");
    let mut changed = reply;
    changed[usize::from(data.first().copied().unwrap_or_default()) % REPLY_LENGTH] ^= 1;
    assert_eq!(request.answered_by(&KEY, &changed), None);
}
