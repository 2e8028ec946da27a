//! DHCP, TFTP and what each machine boots.
