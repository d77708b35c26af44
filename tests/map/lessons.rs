//! What modules teach, and what is refused.

use std::time::Duration;

use stationmaster::config::SlotConfig;
use stationmaster::controller::mapping::{Refusal, Target, Taught, Wish};
use stationmaster::domain::PortChain;
use stationmaster::sim::FaultSpec;

use crate::desk::{Desk, RM520N, Setup, blank, both, clock, factory, kind, name, usb2, usb3};

#[tokio::test(start_paused = true)]
async fn one_module_that_goes_from_slot_to_slot_teaches_both_ports_of_each() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A3"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    assert_eq!(desk.until("appeared").await, format!("appeared {}", usb3(1)));
    assert_eq!(desk.until("download").await, format!("download {}", usb2(1)));
    desk.until("ask A3").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(20)).await;
    desk.plug(1, "A3");
    desk.until("ask A2").await;
    // Modules may also stay where they are.
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await, Taught { learned: vec![both(1), both(3), both(2)], missing: vec![], failure: None });
}

#[tokio::test(start_paused = true)]
async fn modules_that_were_there_before_teach_nothing_until_the_person_says_so() {
    let clock = clock();
    let factory = factory(Vec::new(), &clock).await;
    factory.make(1, &kind(RM520N)).expect("a module");
    factory.plug(1, &name("A1")).expect("a free slot");
    factory.make(2, &kind(RM520N)).expect("a module");
    clock.sleep(Duration::from_secs(60)).await;
    let bus = factory.bus();
    let mut desk = Desk::over(bus, factory, clock, vec![blank("A2"), blank("A1")], Vec::new());
    desk.until("ask A2").await;
    desk.clock.sleep(Duration::from_secs(60)).await;
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.plug(1, "A1");
    desk.refused(&Refusal::WasThere(usb3(1))).await;
    desk.until("ask A1").await;
    desk.wish(Wish::Yes);
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(2), both(1)]);
}

#[tokio::test(start_paused = true)]
async fn two_modules_at_once_teach_nothing() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.plug(2, "A2");
    desk.refused(&Refusal::Several(vec![usb3(1), usb3(2)])).await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.unplug("A2");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::WasThere(usb3(1))).await;
    desk.wish(Wish::Yes);
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_second_module_that_needs_longer_to_start_is_noticed_too() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("appeared").await;
    desk.plug(2, "A2");
    let refused = desk.until("refused").await;
    assert_eq!(refused, format!("refused {:?}", Refusal::Several(vec![usb3(1), usb3(2)])));
    desk.wishes.send(Wish::Skip).expect("the session listens");
    desk.until("skipped A1").await;
    assert_eq!(desk.end().await, Taught { learned: vec![], missing: vec![name("A1")], failure: None });
}

#[tokio::test(start_paused = true)]
async fn a_module_in_the_slot_of_another_one_is_refused() {
    let setup = Setup { targets: vec![blank("A1"), blank("A2")], others: vec![both(4)], faults: Vec::new() };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A4");
    desk.refused(&Refusal::OfOther(name("A4"), usb3(4))).await;
    desk.unplug("A4");
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    // Taken out and put into the same slot again.
    desk.until("ask A2").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::Taught(name("A1"), usb3(1))).await;
    desk.unplug("A1");
    desk.plug(1, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await.learned, [both(1), both(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_port_below_that_of_another_slot_is_refused() {
    let hub: PortChain = "pci-0000:00:14.0/usb3/3".parse().expect("a chain");
    let wrong = SlotConfig { name: name("B1"), usb2: "pci-0/usb2/9".parse().expect("a chain"), usb3: Some(hub) };
    let setup = Setup { targets: vec![blank("A1")], others: vec![wrong], faults: Vec::new() };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::Behind(name("B1"), usb3(1))).await;
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_the_file_has_elsewhere_may_be_taught_anew() {
    // The stickers of A1 and A2 were exchanged.
    let target =
        |n: u8, there: u8| Target { name: name(&format!("A{n}")), usb2: Some(usb2(there)), usb3: Some(usb3(there)) };
    let mut desk = Desk::new(vec![target(1, 2), target(2, 1)]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::InFile(name("A2"), usb3(1))).await;
    desk.wish(Wish::Yes);
    desk.until("learned A1").await;
    // The other one's place in the file is not its own any more.
    desk.until("ask A2").await;
    desk.plug(2, "A2");
    desk.until("learned A2").await;
    assert_eq!(desk.end().await.learned, [both(1), both(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_pulled_in_download_mode_teaches_nothing_until_it_is_back() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until_edl(&usb2(1)).await;
    desk.unplug("A1");
    desk.refused(&Refusal::Gone).await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_pulled_before_download_mode_teaches_nothing() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("appeared").await;
    desk.unplug("A1");
    let refused = desk.until("refused").await;
    let possible = [Refusal::Gone, Refusal::NotInDownloadMode].map(|refusal| format!("refused {refusal:?}"));
    assert!(possible.contains(&refused), "{refused}");
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

fn fault(name: &str) -> Vec<FaultSpec> {
    vec![FaultSpec { fault: name.to_owned(), unit: 1, step: None, after: None }]
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_silent_in_download_mode_teaches_nothing_and_another_one_does() {
    let setup = Setup { targets: vec![blank("A1"), blank("A2")], others: Vec::new(), faults: fault("silent-edl") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::SilentDownloadMode).await;
    desk.until("ask A1").await;
    desk.unplug("A1");
    desk.clock.sleep(Duration::from_secs(3)).await;
    desk.plug(2, "A1");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    assert_eq!(desk.end().await, Taught { learned: vec![both(1)], missing: vec![name("A2")], failure: None });
}

#[tokio::test(start_paused = true)]
async fn a_module_whose_hello_was_eaten_teaches_like_any_other() {
    let setup = Setup { targets: vec![blank("A1")], others: Vec::new(), faults: fault("hello-eaten") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("learned A1").await;
    assert_eq!(desk.end().await.learned, [both(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_refuses_download_mode_is_named_as_such() {
    let setup = Setup { targets: vec![blank("A1")], others: Vec::new(), faults: fault("edl-refused") };
    let mut desk = Desk::with(setup).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    let refused = desk.until("refused").await;
    assert!(refused.starts_with("refused NoDiag"), "{refused}");
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_module_that_arrives_in_download_mode_does_not_say_where_its_other_port_is() {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    let unit = desk.factory.unit(1).expect("a module");
    unit.spoil_block(0).expect("block 0");
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.refused(&Refusal::InDownloadMode(usb2(1))).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    let (taught, all_normal) = desk.end_anyhow().await;
    assert!(!all_normal, "it cannot start otherwise");
    assert_eq!(taught.missing, [name("A1")]);
}

#[tokio::test(start_paused = true)]
async fn a_usb_2_module_teaches_one_port_and_leaves_no_doubt_about_the_other() {
    let known = Target { name: name("A1"), usb2: Some(usb2(1)), usb3: Some(usb3(1)) };
    let moved = Target { name: name("A2"), usb2: Some(usb2(9)), usb3: Some(usb3(9)) };
    let mut desk = Desk::new(vec![known, moved, blank("A3")]).await;
    desk.until("ask A1").await;
    desk.plug(5, "A1");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.unplug("A1");
    desk.plug(5, "A2");
    desk.refused(&Refusal::NeedsSuperSpeed(usb2(2))).await;
    desk.unplug("A2");
    desk.plug(1, "A2");
    desk.until("learned A2").await;
    desk.until("ask A3").await;
    desk.plug(5, "A3");
    desk.until("learned A3").await;
    let low = |n: u8| SlotConfig { usb3: None, ..both(n) };
    assert_eq!(desk.end().await.learned, [low(1), both(2), low(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_brings_the_module_back_first() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A2")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("download").await;
    desk.stop.cancel();
    assert_eq!(desk.end().await, Taught { learned: vec![both(1)], missing: vec![name("A2")], failure: None });
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_taught_wrongly_is_taught_again() {
    let mut desk = Desk::new(vec![blank("A1"), blank("A2"), blank("A3")]).await;
    desk.until("ask A1").await;
    desk.plug(1, "A2");
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    // Still in the wrong slot, and put in there again.
    desk.unplug("A2");
    desk.plug(1, "A2");
    desk.refused(&Refusal::WasThere(usb3(2))).await;
    desk.wish(Wish::Yes);
    desk.until("learned A1").await;
    desk.until("ask A2").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A1").await;
    desk.plug(2, "A1");
    desk.until("ask A2").await;
    desk.unplug("A2");
    desk.clock.sleep(Duration::from_secs(5)).await;
    desk.wishes.send(Wish::Skip).expect("the session listens");
    desk.until("ask A3").await;
    desk.wishes.send(Wish::Back).expect("the session listens");
    desk.until("ask A2").await;
    desk.plug(1, "A2");
    desk.refused(&Refusal::WasThere(usb3(2))).await;
    desk.wish(Wish::Yes);
    desk.until("ask A3").await;
    desk.wishes.send(Wish::End).expect("the session listens");
    assert_eq!(desk.end().await, Taught { learned: vec![both(1), both(2)], missing: vec![name("A3")], failure: None });
}
