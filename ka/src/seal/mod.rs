//! Sealed blocks: the stream is split, encrypted once, and verified at every hop.
//!
//! An uncompressed stream (a tar, a file, a command's output) is compressed in [`chunk`]s. The chunks' bytes
//! are split into blocks, and each block is sealed once with a key made for this one attempt at the stream.
//! Relays open a block to verify it, and forward it unchanged. The last block has the uncompressed stream's
//! length and the hash of all content, so a truncated stream can never look complete.

mod block;
pub mod chunk;
mod key;
mod pool;

pub use block::{
    Arrival, Block, FINAL_LEN, MAX_BLOCK, MAX_PLAINTEXT, Opener, SealError, Sealer, Total, max_block,
};
pub use key::{Cipher, StreamId, StreamKey};
pub use pool::{Bytes, Pool};
