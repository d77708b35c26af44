//! NV items over DIAG: `26` and `27`, and with the number of a subscription `4B 30 01` and `4B 30 02`.

use std::time::Duration;

use super::{BAD_CODE, BAD_LENGTH, BAD_MODE, Store};
use crate::sim::efs::{Change, NV_DIRECTORY, Node, NodeKind, nv_item_bytes, subscription_directory, subscriptions};

const ITEM_BYTES: usize = 128;
/// The last number that there can be.
const NUMBER_MAX: u16 = 20_000;
/// The IMEI is written once in a module's life, or again when it is gone.
const IMEI: u16 = 550;

const DONE: u16 = 0;
const FULL: u16 = 3;
const NOT_ACTIVE: u16 = 5;
const BAD_PARAMETER: u16 = 6;
const READ_ONLY: u16 = 7;
const NOT_DEFINED: u16 = 8;

/// Answers, or the code with which the request is refused.
pub(super) fn answer(request: &[u8], store: &mut dyn Store, is_unlocked: bool, now: Duration) -> Result<Vec<u8>, u8> {
    let (head_bytes, is_write, is_indexed) = match request[0] {
        0x4b => (4, request[2] == 0x02, true),
        command => (1, command == 0x27, false),
    };
    let key_bytes = head_bytes + if is_indexed { 4 } else { 2 };
    if request.len() != key_bytes + ITEM_BYTES + 2 {
        return Err(BAD_LENGTH);
    }
    if is_write && !is_unlocked {
        return Err(BAD_CODE);
    }
    if is_write && !store.is_offline() {
        return Err(BAD_MODE);
    }
    let word = |at: usize| u16::from_le_bytes([request[at], request[at + 1]]);
    let (item, index) = (word(head_bytes), if is_indexed { word(head_bytes + 2) } else { 0 });
    let mut data = request[key_bytes..key_bytes + ITEM_BYTES].to_vec();
    let status = if item > NUMBER_MAX || index >= subscriptions(store.model()) {
        BAD_PARAMETER
    } else {
        let directory = if index == 0 { NV_DIRECTORY.to_owned() } else { subscription_directory(index) };
        let path = format!("{directory}{item}");
        if is_write { write(store, &path, item, &data, now) } else { read(store, &path, &mut data) }
    };
    let mut answer = request[..key_bytes].to_vec();
    answer.extend(data);
    answer.extend(status.to_le_bytes());
    Ok(answer)
}

fn read(store: &dyn Store, path: &str, data: &mut [u8]) -> u16 {
    data.fill(0);
    let Some(content) = store.items().get(path) else { return NOT_ACTIVE };
    // What lies in the flash can come from anywhere, and be longer than any item.
    data.iter_mut().zip(content).for_each(|(byte, content)| *byte = *content);
    DONE
}

fn write(store: &mut dyn Store, path: &str, item: u16, data: &[u8], now: Duration) -> u16 {
    let Some(bytes) = nv_item_bytes(store.model(), item) else { return NOT_DEFINED };
    if item == IMEI && store.items().get(path).is_some() {
        return READ_ONLY;
    }
    let node = Node { kind: NodeKind::Item, data: data[..bytes].to_vec() };
    if store.write_nv(now, Change { path: path.to_owned(), node: Some(node) }) { DONE } else { FULL }
}
