use proptest::prelude::*;

use super::*;
use crate::sim::models::MODELS;
use crate::sim::unit::identity;

/// A module in a notebook: everything is stored at once.
struct Paper {
    model: &'static Model,
    items: Items,
    is_offline: bool,
}

impl Store for Paper {
    fn model(&self) -> &'static Model {
        self.model
    }
    fn revision(&self) -> String {
        "RM520NGLAAR03A03M4G_04.211.04.211".to_owned()
    }
    fn items(&self) -> &Items {
        &self.items
    }
    fn is_offline(&self) -> bool {
        self.is_offline
    }
    fn set_mode(&mut self, mode: RadioMode) -> bool {
        self.is_offline = mode == RadioMode::Offline;
        true
    }
    fn write_nv(&mut self, _: Duration, change: Change) -> bool {
        self.items.change(&change);
        true
    }
    fn write_file(&mut self, _: Duration, change: Change) -> bool {
        self.items.change(&change);
        true
    }
    fn sync(&mut self, _: Duration, _: Pacing) -> u32 {
        1
    }
    fn sync_state(&mut self, _: Duration, _: u32) -> SyncState {
        SyncState::Done
    }
}

fn paper(number: usize) -> Paper {
    let model = &MODELS[number % MODELS.len()];
    Paper { model, items: Items::of_unit(&identity(model, 1, 1)), is_offline: false }
}

#[test]
fn unknown_commands_are_refused_and_known_ones_name_the_build() {
    let mut port = DiagPort::new(Pacing::Real);
    let mut store = paper(0);
    assert_eq!(port.answer(&[0x55], &mut store, Duration::ZERO), [0x13, 0x55]);
    assert_eq!(port.answer(&[0x4b, 0x3e, 0, 0], &mut store, Duration::ZERO), [0x13, 0x4b, 0x3e, 0, 0]);
    let build = port.answer(&[0x7c], &mut store, Duration::ZERO);
    assert_eq!(&build[13..], b"RM520NGLAAR03A03M4G_04.211.04.211\0");
    assert_eq!(port.execute(&ENTER_EDL, &mut store, Duration::ZERO).1, Effect::EnterEdl);
    assert_eq!(port.execute(&[0x29, 2, 0], &mut store, Duration::ZERO), (vec![encode(&[0x29, 2, 0])], Effect::Restart));
}

#[test]
fn an_item_that_is_longer_than_any_is_cut() {
    let mut port = DiagPort::new(Pacing::Real);
    let mut store = paper(0);
    store.items.set("/nvm/num/1001", vec![7; 200]);
    let answer = port.answer(&[[0x26, 0xe9, 0x03].as_slice(), &[0; 130]].concat(), &mut store, Duration::ZERO);
    assert_eq!(answer, [[0x26, 0xe9, 0x03].as_slice(), &[7; 128], &[0, 0]].concat());
}

#[test]
fn log_frames_come_between_answers() {
    let mut port = DiagPort::new(Pacing::Real);
    let mut store = paper(3);
    let frames: usize = (0..20).map(|_| port.execute(&[0x4b, 0x13, 1, 0], &mut store, Duration::ZERO).0.len()).sum();
    assert_eq!(frames, 24);
}

proptest! {
    #[test]
    fn no_request_makes_a_module_panic(
        requests in prop::collection::vec(
            (0_u8..60, prop::collection::vec(prop_oneof![2 => Just(0_u8), 1 => any::<u8>(), 1 => Just(b'/')], 0..40)),
            1..40,
        ),
        number in 0_usize..4,
        is_raw: bool,
    ) {
        let mut port = DiagPort::new(Pacing::Real);
        let mut store = paper(number);
        port.answer(&[&[0x46], PASSWORD].concat(), &mut store, Duration::ZERO);
        port.answer(&[&[0x41], UNLOCK_CODE].concat(), &mut store, Duration::ZERO);
        for (operation, body) in requests {
            let request = if is_raw {
                [&[operation], body.as_slice()].concat()
            } else {
                [&[0x4b, 0x13, operation, 0], body.as_slice()].concat()
            };
            port.execute(&request, &mut store, Duration::ZERO);
        }
    }
}
