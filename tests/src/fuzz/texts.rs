//! Short texts: keys, names, addresses, lists.

use std::path::Path;

use ka::keys::{JoinKey, KeyPair};
use ka::mac::Mac;
use ka::wire::session_names;
use kactl::lists::{macs, order};

use super::input::Input;

/// Parses any text as each of them.
pub(super) fn any_text(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.below(6);
    let text = String::from_utf8_lossy(input.rest());
    match kind {
        0 => {
            if let Ok(key) = JoinKey::from_text(&text) {
                assert!(JoinKey::from_text(&key.to_text()).is_ok_and(|again| again == key));
            }
            if let Ok(key) = KeyPair::from_text(&text) {
                assert!(KeyPair::from_text(&key.to_text()).is_ok_and(|again| again == key));
            }
        }
        1 => {
            if let Ok(mac) = text.parse::<Mac>() {
                assert_eq!(mac.to_string().parse(), Ok(mac));
                assert_eq!(mac.pxelinux_name().parse(), Ok(mac));
            }
        }
        2 => {
            if session_names::is_valid(&text) {
                assert!(text.len() <= session_names::MAX_LENGTH && !text.contains(['/', ' ', '=']));
                assert_eq!(session_names::install_of(&session_names::stage2_of(&text)), text);
            }
        }
        3 => {
            if let Ok(macs) = macs::parse(Path::new("list"), &text) {
                assert!(!macs.is_empty());
            }
        }
        4 => super::disks::choice(&text),
        _ => drop(order::parse(Path::new("order"), &text, data.len().is_multiple_of(2))),
    }
}
