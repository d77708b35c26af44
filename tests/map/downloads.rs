//! Download modes of other modules, while one is on its way.

use std::time::Duration;

use stationmaster::controller::mapping::Wish;
use stationmaster::hardware::DeviceMode;

use crate::desk::{Desk, blank, usb2, usb3};

const LONG: Duration = Duration::from_secs(300);

/// A module that starts in download mode (2) beside one that does not (1).
async fn with_spoiled() -> Desk {
    let mut desk = Desk::new(vec![blank("A1")]).await;
    desk.factory.unit(2).expect("a module").spoil_block(0).expect("block 0");
    desk.until("ask A1").await;
    desk.plug(1, "A1");
    desk.until("appeared").await;
    desk
}

/// Ends the session: nothing was learned, and the module in A1 is in normal mode.
async fn ends_without_lesson(desk: Desk) {
    desk.clock.sleep(LONG).await;
    let told = desk.told.borrow().clone();
    desk.wish(Wish::End);
    let factory = desk.factory.clone();
    let (taught, _) = desk.end_anyhow().await;
    assert!(taught.learned.is_empty(), "{told:#?}");
    assert!(told.iter().any(|line| line.starts_with("refused Several")), "{told:#?}");
    let devices = factory.bus().list().await.expect("a list").devices;
    let own = devices.iter().find(|device| [usb3(1), usb2(1)].contains(&device.key.chain)).expect("module 1");
    assert!(matches!(own.mode(), DeviceMode::Normal(_)), "left in download mode: {told:#?}");
}

#[tokio::test(start_paused = true)]
async fn another_modules_download_mode_is_not_taken_for_this_ones() {
    // Whichever of them shows first.
    for delay in [0, 500, 1000, 2000, 4000, 6000, 9000, 12_000, 20_000, 30_000] {
        let desk = with_spoiled().await;
        desk.clock.sleep(Duration::from_millis(delay)).await;
        desk.plug(2, "A2");
        ends_without_lesson(desk).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_is_put_in_again_did_not_come_back_from_its_download_mode() {
    for (stay, gap) in [(0, 3), (2, 1), (4, 3), (8, 10)] {
        let desk = with_spoiled().await;
        desk.plug(2, "A2");
        desk.clock.sleep(Duration::from_secs(stay)).await;
        desk.unplug("A2");
        desk.unplug("A1");
        desk.clock.sleep(Duration::from_secs(gap)).await;
        desk.plug(1, "A1");
        desk.clock.sleep(LONG).await;
        desk.wish(Wish::End);
        let told = desk.told.borrow().clone();
        let (taught, _) = desk.end_anyhow().await;
        let pairs = taught.learned.iter().all(|slot| slot.usb2 == usb2(1) && slot.usb3 == Some(usb3(1)));
        assert!(pairs, "{told:#?}");
    }
}
