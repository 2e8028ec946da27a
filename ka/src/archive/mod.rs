//! The rules by which a tree of files becomes a POSIX pax tar, and a tar a tree.
