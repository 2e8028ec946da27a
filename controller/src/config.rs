//! The golden node's configuration: `/etc/ka/ka.toml`, keys, and where ka keeps its files.
