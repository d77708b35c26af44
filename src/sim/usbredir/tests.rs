//! A peer as QEMU is one, against the fixture.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::descriptors::Face;
use super::super::models::Model;
use super::super::spec::SimSlot;
use super::*;
use crate::host::Random;

fn fixture() -> (Arc<World>, SlotName) {
    let name: SlotName = "A1".parse().expect("a name");
    let usb2 = "sim-0/usb2/1".parse().expect("a chain");
    let slots = [SimSlot { name: name.clone(), usb2, usb3: None }];
    (World::new(&slots, Clock::real(), Random::seeded(1)).expect("a fixture"), name)
}

async fn packet(peer: &mut DuplexStream) -> (u32, u64, Vec<u8>) {
    let (kind, length) = (peer.read_u32_le().await.expect("a kind"), peer.read_u32_le().await.expect("a length"));
    let id = peer.read_u64_le().await.expect("an id");
    let mut body = vec![0; usize::try_from(length).expect("64 bits")];
    peer.read_exact(&mut body).await.expect("a body");
    (kind, id, body)
}

/// The next connected device: speed, and vendor and product.
async fn connected(peer: &mut DuplexStream) -> (u8, u16, u16) {
    assert_eq!(packet(peer).await.0, wire::EP_INFO);
    assert_eq!(packet(peer).await.0, wire::INTERFACE_INFO);
    let (kind, _, body) = packet(peer).await;
    assert_eq!((kind, body.len()), (wire::DEVICE_CONNECT, 10));
    let word = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    (body[0], word(4), word(6))
}

#[tokio::test(start_paused = true)]
async fn modules_come_answer_and_leave() {
    let (world, slot) = fixture();
    let model = Model::by_name("EG25-G").expect("a model");
    let _supply = world.register(1);
    world.plug(1, &slot).expect("a free slot");
    let normal = world.attach(1, Face::normal(model, model.chip_id(1)));
    let (mut peer, served) = tokio::io::duplex(1 << 16);
    let serving = {
        let (world, slot) = (world.clone(), slot.clone());
        tokio::spawn(async move { serve_peer(served, &world, &slot, &Clock::real()).await })
    };
    let mut greeting = [0; 80];
    peer.read_exact(&mut greeting).await.expect("a greeting");
    peer.write_all(&wire::hello("peer")).await.expect("open");
    assert_eq!(connected(&mut peer).await, (2, 0x2c7c, 0x0125));

    // GET_DESCRIPTOR of the device, 18 bytes.
    let ask = wire::packet(wire::CONTROL, 7, &[&[0x80, 6, 0x80, 0, 0, 1, 0, 0, 18, 0]]);
    peer.write_all(&ask).await.expect("open");
    let (kind, id, body) = packet(&mut peer).await;
    assert_eq!((kind, id, &body[..10]), (wire::CONTROL, 7, &[0x80, 6, 0x80, wire::SUCCESS, 0, 1, 0, 0, 18, 0][..]));
    assert_eq!((body.len(), body[10]), (28, 18));

    // A read that is cancelled, and one that brings what the module says.
    let read = |id: u64| wire::packet(wire::BULK, id, &[&[0x84, 0, 0, 2, 0, 0, 0, 0, 0, 0]]);
    peer.write_all(&read(8)).await.expect("open");
    peer.write_all(&wire::packet(wire::CANCEL, 8, &[])).await.expect("open");
    let (kind, id, body) = packet(&mut peer).await;
    assert_eq!((kind, id, body[1]), (wire::BULK, 8, wire::CANCELLED));
    peer.write_all(&read(9)).await.expect("open");
    normal.links()[&2].say(b"RDY".to_vec());
    let (_, id, body) = packet(&mut peer).await;
    assert_eq!((id, body), (9, [&[0x84, 0, 3, 0, 0, 0, 0, 0, 0, 0][..], b"RDY"].concat()));

    // It leaves, and nothing else comes before the peer has taken note.
    drop(normal);
    assert_eq!(packet(&mut peer).await.0, wire::DEVICE_DISCONNECT);
    let _edl = world.attach(1, Face::edl(model, model.chip_id(1)));
    peer.write_all(&wire::packet(wire::DISCONNECT_ACK, 0, &[])).await.expect("open");
    assert_eq!(connected(&mut peer).await, (2, 0x05c6, 0x9008));
    drop(peer);
    assert_eq!(serving.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_module_loses_its_supply_with_the_cable() {
    let (world, slot) = fixture();
    let directory = tempfile::tempdir().expect("a directory");
    let sockets = bind(directory.path(), std::iter::once(&slot)).expect("a socket");
    let mut supply = world.register(1);
    world.plug(1, &slot).expect("a free slot");
    let before = *supply.borrow_and_update();
    let stop = CancellationToken::new();
    let exports = Exports { world: world.clone() };
    let serving = tokio::spawn(serve(sockets, exports, Clock::real(), stop.clone()));
    let peer = tokio::net::UnixStream::connect(directory.path().join("A1.redir")).await.expect("it is served");
    drop(peer);
    let is_back = |now: &super::super::world::Supply| now.slot.is_some() && now.generation != before.generation;
    let after = *supply.wait_for(is_back).await.expect("it is on");
    assert!(after.generation > before.generation + 1, "it was off in between");
    stop.cancel();
    serving.await.expect("no panic");
}

#[test]
fn a_peer_that_breaks_the_protocol_is_refused() {
    let after = |bytes: &[u8]| {
        let mut session = Session::new();
        session.take(&wire::hello("peer")).expect("a greeting");
        session.take(bytes)
    };
    assert!(Session::new().take(&wire::packet(wire::RESET, 0, &[])).is_err(), "no greeting");
    assert!(after(&wire::packet(77, 0, &[])).is_err());
    assert!(after(&wire::packet(wire::BULK, 0, &[&[0x81]])).is_err());
    assert!(after(&[101, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(), "two gigabytes");
    assert_eq!(after(&wire::packet(wire::RESET, 0, &[])), Ok(()));
}

proptest! {
    #[test]
    fn no_bytes_panic_however_they_are_split(
        bytes in proptest::collection::vec(0_u8..110, 0..300), cut in 0_usize..300, greets in any::<bool>(),
    ) {
        let mut session = Session::new();
        if greets {
            session.take(&wire::hello("peer")).expect("a greeting");
        }
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let _refused = session.take(first).and_then(|()| session.take(second));
    }
}
