//! From the archive to a file system.
