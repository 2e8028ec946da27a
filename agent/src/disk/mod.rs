//! The node's disk: claim it, write its table, make and mount its file systems.
