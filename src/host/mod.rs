//! What the controller's own host gives it: time, disk and randomness.
//!
//! They enter through here alone (clippy's `disallowed_methods` enforces it), so that a simulated shift can run in
//! virtual time, on a disk that fails when told to, and replay from its seed.

mod clock;
mod disk;
mod draft;
mod memory_disk;
mod memory_file;
mod os_disk;
mod random;

pub use clock::{Clock, Elapsed};
pub use disk::{AppendFile, Disk, Entry, EntryKind, Hold, LockGuard, ReadAt, WriteAt, disk_words};
pub use memory_disk::{Call, FailKind, MemoryDisk};
pub use os_disk::OsDisk;
pub use random::{Random, Veil};
