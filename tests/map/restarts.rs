//! Modules that start anew by themselves, while another slot is asked for.

use std::time::Duration;

use stationmaster::config::SlotConfig;
use stationmaster::controller::mapping::{Refusal, Target, Wish};

use crate::desk::{Desk, RM520N, Setup, blank, both, clock, factory, kind, name, usb2, usb3};

/// Long enough for a module to start and to teach.
const LONG: Duration = Duration::from_secs(200);

/// Ends the session; nothing but `learned` was learned.
async fn ends_with(desk: Desk, learned: &[SlotConfig]) {
    desk.wish(Wish::End);
    let told = desk.told.clone();
    assert_eq!(desk.end().await.learned, learned, "{:#?}", *told.borrow());
}

#[tokio::test(start_paused = true)]
async fn modules_that_start_anew_teach_nothing_however_often_and_whichever() {
    let mut desk = Desk::settled(&[(3, "A3"), (4, "A4")], vec![blank("A1")]).await;
    desk.until("ask A1").await;
    for n in [3, 4, 3, 3, 4] {
        desk.restart(&format!("A{n}"));
        desk.refused(&Refusal::WasThere(usb3(n))).await;
        desk.clock.sleep(LONG).await;
    }
    // Meanwhile the slot can still be taught.
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_loses_its_modules_for_a_moment_teaches_nothing() {
    let mut desk = Desk::settled(&[(3, "A3"), (4, "A4")], vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.unplug("A3");
    desk.unplug("A4");
    desk.plug(3, "A3");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.plug(4, "A4");
    desk.clock.sleep(LONG).await;
    assert!(desk.count("refused WasThere") >= 1);
    ends_with(desk, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_off_the_bus_when_the_next_slot_is_asked_for_does_not_teach_it() {
    let mut desk = Desk::settled(&[(3, "A3")], vec![blank("A1"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    desk.unplug("A3");
    desk.until("ask A2").await;
    desk.plug(3, "A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    desk.clock.sleep(LONG).await;
    ends_with(desk, &[both(1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_excuses_no_other_module() {
    let mut desk = Desk::settled(&[(3, "A3")], vec![blank("A1"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("ask A2").await;
    desk.restart("A1");
    desk.refused(&Refusal::Taught(name("A1"), usb3(1))).await;
    desk.restart("A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    desk.clock.sleep(LONG).await;
    ends_with(desk, &[both(1)]).await;
}

#[tokio::test(start_paused = true)]
async fn only_one_of_two_modules_that_came_back_can_be_meant() {
    let mut desk = Desk::settled(&[(3, "A3"), (4, "A4")], vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.restart("A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    desk.restart("A4");
    desk.refused(&Refusal::WasThere(usb3(4))).await;
    desk.wish(Wish::Yes);
    desk.refused(&Refusal::Several(vec![usb3(3), usb3(4)])).await;
    desk.unplug("A3");
    desk.clock.sleep(LONG).await;
    // One that is put in at this moment may be the one that the person means.
    desk.plug(1, "A1");
    while !desk.factory.bus().list().await.expect("a list").devices.iter().any(|device| device.key.chain == usb3(1)) {
        desk.clock.sleep(Duration::from_millis(100)).await;
    }
    desk.wish(Wish::Yes);
    desk.refused(&Refusal::Several(vec![usb3(1), usb3(4)])).await;
    // A yes without a module is none.
    desk.unplug("A1");
    desk.unplug("A4");
    desk.clock.sleep(LONG).await;
    desk.wish(Wish::Yes);
    desk.refused(&Refusal::Gone).await;
    ends_with(desk, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn the_word_of_the_person_holds_for_one_slot_only() {
    let mut desk = Desk::settled(&[(3, "A3")], vec![blank("A3"), blank("A2")]).await;
    desk.until("ask A3").await;
    desk.restart("A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    desk.wish(Wish::Yes);
    desk.until("learned A3").await;
    desk.until("ask A2").await;
    desk.wish(Wish::Back);
    desk.until("ask A3").await;
    desk.restart("A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    desk.wish(Wish::Skip);
    desk.until("ask A2").await;
    desk.restart("A3");
    desk.refused(&Refusal::WasThere(usb3(3))).await;
    ends_with(desk, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_that_the_file_gives_to_another_slot_needs_the_persons_word() {
    let target =
        |n: u8, there: u8| Target { name: name(&format!("A{n}")), usb2: Some(usb2(there)), usb3: Some(usb3(there)) };
    let setup = Setup { targets: vec![target(1, 1), target(2, 2)], others: Vec::new(), faults: Vec::new() };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A2");
    desk.refused(&Refusal::InFile(name("A2"), usb3(2))).await;
    desk.clock.sleep(LONG).await;
    ends_with(desk, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_whose_usb_2_side_alone_is_another_slots_in_the_file_needs_it_too() {
    let other = Target { name: name("A2"), usb2: Some(usb2(1)), usb3: None };
    let mut desk = Desk::new(vec![blank("A1"), other]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::InFile(name("A2"), usb2(1))).await;
    desk.wish(Wish::Yes);
    desk.until("learned A1").await;
    ends_with(desk, &[both(1)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_module_whose_other_side_came_up_is_no_new_one() {
    // In A3 the SuperSpeed link fails: module 1 is there on its other side than before.
    let clock = clock();
    let factory = factory(Vec::new(), &clock).await;
    for unit in [1, 2] {
        factory.make(unit, &kind(RM520N)).expect("a module");
    }
    factory.plug(1, &name("A3")).expect("a free slot");
    clock.sleep(Duration::from_secs(60)).await;
    let (bus, moves) = crate::buses::moving(factory.bus());
    let mut desk = Desk::over(bus, factory, clock, vec![blank("A1")], Vec::new());
    desk.until("ask A1").await;
    desk.unplug("A3");
    desk.clock.sleep(Duration::from_secs(2)).await;
    moves(usb3(3), usb2(3));
    desk.plug(1, "A3");
    desk.refused(&Refusal::WasThere(usb2(3))).await;
    desk.clock.sleep(LONG).await;
    ends_with(desk, &[]).await;
}
