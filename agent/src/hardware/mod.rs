//! What this machine is: cards, disks, memory, firmware.
