//! Sealed blocks: the stream is cut, encrypted once, and verified at every hop.
//!
//! A plain stream (a tar, a file, a command's output) is compressed in [`chunk`]s, the chunks' bytes
//! are cut into blocks, and each block is sealed once with a key made for this one attempt at the
//! stream. Relays open a block to verify it and forward it as it came. The last block has the plain
//! stream's length and the hash of all content, so a stream that was cut short can never look whole.

mod block;
pub mod chunk;
mod key;
mod pool;

pub use block::{
    Arrival, Block, FINAL_LEN, MAX_BLOCK, MAX_PLAIN, Opener, SealError, Sealer, Total, max_block,
};
pub use key::{Cipher, StreamId, StreamKey};
pub use pool::{Bytes, Pool};
