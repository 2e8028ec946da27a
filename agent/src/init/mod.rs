//! PID 1: mounts, reaps, supervises, and never dies.
