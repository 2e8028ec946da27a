//! Accepts connections and gives each a thread.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Console;
use super::conversation::Conversation;
use super::slots::Slots;

/// The stack size of a viewer's thread, whose calls are not deep.
const STACK: usize = 256 << 10;
/// How long to wait when the system has run out of descriptors or threads.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves as long as the process lives.
///
/// # Errors
/// Only if the listener is unusable.
pub fn serve(console: Console, listener: &TcpListener) -> io::Result<Infallible> {
    let slots = Slots::new(console.limits);
    let console = Arc::new(console);
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => return Err(e),
            Err(e) => {
                log::debug!("a viewer could not be accepted: {e}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let console = Arc::clone(&console);
        let address = peer.ip().to_canonical();
        let begun = slots.take(&stream, address).and_then(|slot| {
            let talk = move || match Conversation::new(&console, stream, address, slot) {
                Ok(conversation) => conversation.hold(),
                Err(error) => log::debug!("the viewer {peer} cannot be served: {error}"),
            };
            thread::Builder::new().name("viewer".into()).stack_size(STACK).spawn(talk)
        });
        if let Err(error) = begun {
            log::debug!("the viewer {peer} cannot be served: {error}");
            thread::sleep(PAUSE);
        }
    }
}
