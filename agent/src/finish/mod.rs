//! From copied files to a machine that boots and is itself.
