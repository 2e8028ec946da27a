//! A clone reports its first boot to the controller, and keeps no traces of the mechanism.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ka::first_boot::{DIRECTORY, MESSAGE};
use ka::mac::Mac;
use ka_net::listen::Side;
use kactl::rendezvous::booted::Booted;

#[test]
fn a_clone_tells_and_leaves_nothing() {
    let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    let booted =
        Booted::start(&Side { address: Some(Ipv4Addr::LOCALHOST.into()), interface: None }, 0).unwrap();
    let own = "0123456789abcdef0123456789abcdef";
    booted.expect(mac, own);
    for (token, up) in [("of another run", BTreeSet::new()), (own, [mac].into())] {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY.trim_start_matches('/'));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(MESSAGE), format!("127.0.0.1:{}\n{token}\n", booted.port)).unwrap();
        assert_eq!(ka_agent::booted::tell(root.path()).is_ok(), !up.is_empty());
        assert!(!directory.exists(), "told or not, nobody waits any more");
        assert_eq!(booted.up(), up);
    }
}
