//! Sealed blocks: the stream is cut, encrypted once, and verified at every hop.
