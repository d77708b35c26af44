//! NV items: numbered, 128 bytes each, of the module (`26`, `27`) or of one of its subscriptions (`4B 30`).

use super::error::{NvStatus, ReplyError};
use super::request::{Body, Request};
use crate::domain::Imei;

/// Bytes of an item.
pub const ITEM_BYTES: usize = 128;

/// An item's content. Shorter ones are filled up with zeros by the module.
pub type ItemData = [u8; ITEM_BYTES];

/// One item: its number, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Its number.
    pub item: u16,
    /// The subscription it belongs to; `None` for the module's own, read without an index.
    pub subscription: Option<u16>,
}

impl ItemKey {
    /// An item of the module.
    #[must_use]
    pub const fn of_module(item: u16) -> Self {
        Self { item, subscription: None }
    }

    /// An item of a subscription.
    #[must_use]
    pub const fn of_subscription(item: u16, subscription: u16) -> Self {
        Self { item, subscription: Some(subscription) }
    }

    /// The command up to and including the item, which the answer repeats.
    fn head(self, is_write: bool) -> Vec<u8> {
        match self.subscription {
            None => [&[if is_write { 0x27 } else { 0x26 }], self.item.to_le_bytes().as_slice()].concat(),
            Some(index) => [
                &[0x4b, 0x30, if is_write { 0x02 } else { 0x01 }, 0x00],
                self.item.to_le_bytes().as_slice(),
                index.to_le_bytes().as_slice(),
            ]
            .concat(),
        }
    }
}

fn request(key: ItemKey, is_write: bool, data: &ItemData) -> (Vec<u8>, usize) {
    let mut payload = key.head(is_write);
    let key_bytes = payload.len();
    payload.extend_from_slice(data);
    payload.extend([0, 0]);
    (payload, key_bytes)
}

fn answer(command: &'static str, body: &mut Body<'_>) -> Result<ItemData, ReplyError> {
    let data = body.array()?;
    let status = body.u16()?;
    body.end()?;
    match NvStatus::of(status) {
        None => Ok(data),
        Some(status) => Err(ReplyError::Nv { command, status }),
    }
}

/// Reads an item.
#[must_use]
pub fn read(key: ItemKey) -> Request<ItemData> {
    const NAME: &str = "NV read";
    let (payload, key_bytes) = request(key, false, &[0; ITEM_BYTES]);
    Request::new(NAME, payload, key_bytes, |body| answer(NAME, body).map(Some))
}

/// Writes an item. Writes fill the journal of the module's file system, and are lost with power, until that was
/// synchronised ([`super::efs::Efs::sync`]).
#[must_use]
pub fn write(key: ItemKey, data: &ItemData) -> Request<()> {
    const NAME: &str = "NV write";
    let (payload, key_bytes) = request(key, true, data);
    Request::new(NAME, payload, key_bytes, |body| answer(NAME, body).map(|_| Some(())))
}

/// The IMEI that the item for it holds ([`crate::domain::family::IMEI_ITEM`]): its length in bytes, then swapped BCD that
/// begins with the nibble `A`. `None` where that makes no valid IMEI.
#[must_use]
pub fn imei(data: &ItemData) -> Option<Imei> {
    let (length, digits) = data.split_first()?;
    let (digits, _) = digits.split_first_chunk::<8>()?;
    if *length != 8 || digits[0] & 0xf != 0xa {
        return None;
    }
    let nibbles = digits.iter().flat_map(|byte| [byte & 0xf, byte >> 4]).skip(1);
    let text: Option<String> = nibbles.map(|nibble| char::from_digit(u32::from(nibble), 10)).collect();
    text?.parse().ok()
}
