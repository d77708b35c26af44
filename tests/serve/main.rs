//! The simulated modules as other programs get them: over USB/IP, and as pseudo terminals.
//!
//! The client is of this test alone and shares no code with the server: its bytes are written out from the kernel's
//! documentation. Modules take no time for anything here, and the host's time is real, as sockets and terminals are.

mod client;
mod ports;
mod rig;
mod usbip;
