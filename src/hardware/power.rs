//! A supply that nobody can switch.

use super::{BoxFuture, HardwareError, SlotPower};
use crate::domain::PortChain;

/// The supply of a fixture without switches: always on. Where a boot needs none of it, a reset takes its place.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPower;

impl SlotPower for NoPower {
    fn can_switch(&self, _: &[PortChain]) -> bool {
        false
    }

    fn set<'a>(&'a self, _: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        let result = if on { Ok(()) } else { Err(HardwareError::Unsupported("the slots' supply cannot be switched")) };
        Box::pin(std::future::ready(result))
    }
}
