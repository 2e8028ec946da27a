//! One mio loop around the chain's member: links, window memory, the writer.
