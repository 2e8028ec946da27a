//! The chain: who relays what to whom, and what must never be forgotten.
