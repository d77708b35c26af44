//! Slots are taught by modules that are put in: what is learned, what is refused, and that no module is changed.

mod buses;
mod chaos;
mod desk;
mod downloads;
mod lessons;
mod restarts;
