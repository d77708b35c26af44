//! Somebody who puts modules in, pulls them out and says yes at random, whatever is asked.

use std::time::Duration;

use stationmaster::config::SlotConfig;
use stationmaster::controller::mapping::Wish;
use stationmaster::host::Random;

use crate::desk::{Desk, blank, name, usb2, usb3};

#[tokio::test(start_paused = true)]
async fn whatever_is_done_to_the_fixture_the_two_ports_of_a_slot_are_one_port() {
    let mut learned = 0;
    for seed in 0..16_u32 {
        let random = Random::seeded(seed.into());
        let desk = Desk::new(vec![blank("B1"), blank("B2"), blank("B3")]).await;
        // Some modules start in download mode only.
        for unit in 1..=seed % 3 {
            desk.factory.unit(unit).expect("a module").spoil_block(0).expect("block 0");
        }
        for _ in 0..40 {
            let slot = name(&format!("A{}", random.next_u64() % 4 + 1));
            if desk.factory.occupant(&slot).is_some() {
                desk.factory.unplug(&slot).expect("a slot");
            } else {
                let unit = u32::try_from(random.next_u64() % 5 + 1).expect("it is small");
                let _it_may_be_elsewhere = desk.factory.plug(unit, &slot);
            }
            if random.next_u64().is_multiple_of(3) {
                let _it_may_have_ended = desk.wishes.send(Wish::Yes);
            }
            desk.clock.sleep(Duration::from_millis(random.next_u64() % 40_000)).await;
        }
        let _it_may_have_ended = desk.wishes.send(Wish::End);
        let (taught, _) = desk.end_anyhow().await;
        let port = |slot: &SlotConfig| (1..=4).find(|n| slot.usb2 == usb2(*n)).expect("a port of the fixture");
        for (index, slot) in taught.learned.iter().enumerate() {
            let own = port(slot);
            assert!(slot.usb3.as_ref().is_none_or(|chain| *chain == usb3(own)), "seed {seed}: {slot:?}");
            assert!(taught.learned[..index].iter().all(|other| port(other) != own), "seed {seed}: {taught:?}");
        }
        learned += taught.learned.len();
    }
    assert!(learned >= 16, "only {learned} slots were learned: this proves little");
}
