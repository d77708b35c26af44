use proptest::prelude::*;

use super::packet::tests::device;
use super::*;
use crate::domain::{ChipId, FailureCode, KeyHash};

const SERIAL: u32 = 0x49cb_d7ef;
const HW_ID: u64 = 0x000f_50e1_0000_0000;
const IMAGE_BYTES: u64 = 0x39d0;

fn key() -> Vec<u8> {
    (0..48).collect()
}

/// What a device says until the chip is read.
fn command_mode() -> Vec<Vec<u8>> {
    vec![
        device::hello(2, 1, 0),
        device::ready(),
        device::answer(1, 4),
        SERIAL.to_le_bytes().to_vec(),
        device::answer(2, 24),
        HW_ID.to_le_bytes().repeat(3),
        device::answer(3, 144),
        key().repeat(3),
    ]
}

/// What it says after that: the read pattern of a real programmer (headers first), then the end.
fn transfer() -> Vec<Vec<u8>> {
    vec![
        device::hello(2, 1, 0),
        device::read(13, 0, 0x34),
        device::read(13, 0x34, 0x80),
        device::read(13, 0x1000, 0x1000),
        device::read64(13, 0x2000, 0x9d0),
        device::read(13, 0x3000, 0x9d0),
        device::end(13, 0),
        device::done(0),
    ]
}

/// Feeds a stream in pieces and collects what the host does; it starts to load as soon as the chip is known.
fn run(pieces: &[&[u8]]) -> (Vec<Step>, Option<SaharaError>) {
    let mut sahara = Sahara::new();
    let mut steps = Vec::new();
    for piece in pieces {
        sahara.feed(piece);
        loop {
            match sahara.step() {
                Ok(Step::NeedBytes) => break,
                Ok(Step::ChipRead(chip)) => {
                    steps.push(Step::ChipRead(chip));
                    sahara.start_load(IMAGE_BYTES);
                }
                Ok(step) => steps.push(step),
                Err(error) => return (steps, Some(error)),
            }
        }
    }
    (steps, None)
}

/// A session that waits for READ_DATA.
fn in_transfer() -> Sahara {
    let mut sahara = Sahara::new();
    sahara.feed(&command_mode().concat());
    while !matches!(sahara.step(), Ok(Step::ChipRead(_))) {}
    sahara.start_load(IMAGE_BYTES);
    sahara.feed(&device::hello(2, 1, 0));
    drain(&mut sahara).expect("a plain start");
    sahara
}

fn drain(sahara: &mut Sahara) -> Result<Vec<Step>, SaharaError> {
    let mut steps = Vec::new();
    loop {
        match sahara.step()? {
            Step::NeedBytes => return Ok(steps),
            step => steps.push(step),
        }
    }
}

#[test]
fn a_whole_session() {
    let stream = [command_mode(), transfer()].concat();
    let pieces: Vec<&[u8]> = stream.iter().map(Vec::as_slice).collect();
    let image = |offset, length| Step::SendImage { offset, length };
    let chip = ChipInfo {
        chip: ChipId { hw_id: HW_ID, serial: SERIAL },
        key_hash: KeyHash::new(&key()).expect("48 bytes"),
        sahara_version: 2,
    };
    let expected = vec![
        Step::Send(packet::hello_response(2, Mode::Command)),
        Step::Send(packet::execute(1)),
        Step::Send(packet::execute_data(1)),
        Step::Send(packet::execute(2)),
        Step::Send(packet::execute_data(2)),
        Step::Send(packet::execute(3)),
        Step::Send(packet::execute_data(3)),
        Step::ChipRead(chip),
        Step::Send(packet::switch_mode(Mode::ImageTransfer)),
        Step::Send(packet::hello_response(2, Mode::ImageTransfer)),
        image(0, 0x34),
        image(0x34, 0x80),
        image(0x1000, 0x1000),
        image(0x2000, 0x9d0),
        image(0x3000, 0x9d0),
        Step::Send(packet::done()),
        Step::Loaded,
    ];
    assert_eq!(run(&pieces), (expected, None));
}

#[test]
fn the_banner_behind_the_last_packet_is_not_lost() {
    let mut sahara = in_transfer();
    sahara.feed(&[transfer()[1..].concat(), b"<?xml version".to_vec()].concat());
    assert_eq!(drain(&mut sahara).expect("a plain transfer").last(), Some(&Step::Loaded));
    assert_eq!(sahara.take_rest(), b"<?xml version");
    assert_eq!(sahara.image_bytes_sent(), 0x34 + 0x80 + 0x1000 + 0x9d0 + 0x9d0);
}

#[test]
fn version_3_is_answered_with_2_and_asked_for_its_chip_id() {
    let mut sahara = Sahara::new();
    let mut chip_id = vec![0; 44];
    chip_id[36..44].copy_from_slice(&[0xe1, 0x50, 0x0f, 0, 0, 0, 0, 0]);
    for bytes in [device::hello(3, 1, 0), device::ready(), device::answer(1, 4), SERIAL.to_le_bytes().to_vec()] {
        sahara.feed(&bytes);
    }
    let steps = drain(&mut sahara).expect("plain");
    assert_eq!(steps[0], Step::Send(packet::hello_response(2, Mode::Command)));
    assert_eq!(steps.last(), Some(&Step::Send(packet::execute(0x0a))));
    for bytes in [device::answer(0x0a, 44), chip_id, device::answer(3, 32), vec![0; 32]] {
        sahara.feed(&bytes);
    }
    let Some(Step::ChipRead(info)) = drain(&mut sahara).expect("plain").pop() else { panic!("the chip is known now") };
    assert_eq!(info.chip.hw_id, HW_ID);
    assert!(info.key_hash.is_unfused());
    assert_eq!(info.sahara_version, 3);
}

#[test]
fn versions_without_command_mode_are_refused() {
    for (version, compatible) in [(1, 1), (4, 3), (0, 0)] {
        let (_, error) = run(&[&device::hello(version, compatible, 0)]);
        assert_eq!(error, Some(SaharaError::Version(version)));
    }
}

#[test]
fn a_memory_dump_and_a_running_programmer_are_recognised() {
    assert_eq!(run(&[&device::hello(2, 1, 2)]).0, [Step::MemoryDebug]);
    let mut sahara = Sahara::new();
    sahara.hello_lost();
    assert!(matches!(sahara.step(), Ok(Step::Send(_))));
    sahara.feed(b"<?x");
    assert_eq!(sahara.step(), Ok(Step::NeedBytes));
    sahara.feed(b"ml version=");
    assert_eq!(sahara.step(), Ok(Step::AlreadyFirehose));
    assert_eq!(sahara.take_rest(), b"<?xml version=");
}

#[test]
fn reads_beyond_the_image_are_refused() {
    let beyond = [
        device::read(13, 0x3000, 0x9d1),
        device::read(13, u32::MAX, u32::MAX),
        device::read64(13, u64::MAX, 2),
        device::read64(13, 0, u64::MAX),
        device::read(13, 0, 0),
    ];
    for read in beyond {
        let mut sahara = in_transfer();
        sahara.feed(&read);
        let error = drain(&mut sahara).expect_err("out of range");
        assert!(matches!(error, SaharaError::Range { .. }), "{error}");
        assert_eq!(error.code(), FailureCode::SaharaProtocol);
        assert_eq!(sahara.step(), Err(error), "a failed session stays failed");
    }
}

#[test]
fn only_programmers_are_sent() {
    for image in [7, 13, 21] {
        let mut sahara = in_transfer();
        sahara.feed(&device::read(image, 0, 52));
        sahara.feed(&device::end(image, 0));
        sahara.feed(&device::done(0));
        assert_eq!(drain(&mut sahara).expect("pending is accepted").last(), Some(&Step::Loaded));
    }
    let mut sahara = in_transfer();
    sahara.feed(&device::read(25, 0, 52));
    assert_eq!(drain(&mut sahara), Err(SaharaError::UnexpectedImage(25)));
    let mut sahara = in_transfer();
    sahara.feed(&[device::read(13, 0, 52), device::read(7, 0, 52)].concat());
    assert_eq!(drain(&mut sahara), Err(SaharaError::UnexpectedImage(7)), "not two programmers either");
}

#[test]
fn a_rejected_programmer_says_why() {
    let mut sahara = in_transfer();
    sahara.feed(&[device::read(13, 0, 52), device::end(13, 8)].concat());
    let error = drain(&mut sahara).expect_err("rejected");
    assert_eq!(error.to_string(), "the chip rejected the programmer with status 0x8 (bad data size)");
    assert_eq!(error.code(), FailureCode::LoaderRejected);
    // The module is then put back by a reset.
    sahara.reset();
    assert_eq!(sahara.step(), Ok(Step::Send(packet::reset())));
    sahara.feed(&[device::end(13, 8), device::reset(), device::hello(2, 1, 0)].concat());
    assert_eq!(sahara.step(), Ok(Step::ResetDone));
    assert_eq!(sahara.step(), Ok(Step::Send(packet::hello_response(2, Mode::Command))));
}

#[test]
fn an_image_that_was_never_read_cannot_be_complete() {
    let mut sahara = in_transfer();
    sahara.feed(&device::end(13, 0));
    assert!(matches!(drain(&mut sahara), Err(SaharaError::OutOfOrder { packet: "END_OF_IMAGE", .. })));
}

#[test]
fn endless_reads_end() {
    for length in [1, 0x1000] {
        let mut sahara = in_transfer();
        let error = (0..200_000).find_map(|_| {
            sahara.feed(&device::read(13, 0, length));
            drain(&mut sahara).err()
        });
        assert!(matches!(error, Some(SaharaError::Livelock { .. })), "{error:?}");
        assert!(sahara.image_bytes_sent() <= (IMAGE_BYTES + 0x1000) * limits::SAHARA_RESEND_FACTOR_MAX);
    }
}

#[test]
fn a_refused_question_is_no_rejected_programmer() {
    let (_, error) = run(&[&device::hello(2, 1, 0), &device::ready(), &device::end(0, 0x1f)]);
    let error = error.expect("refused");
    assert_eq!(error, SaharaError::CommandFailed { status: 0x1f });
    assert_eq!(error.code(), FailureCode::SaharaProtocol);
    for length in [0, limits::SAHARA_EXEC_BYTES_MAX + 1, u32::MAX] {
        let (_, error) = run(&[&device::hello(2, 1, 0), &device::ready(), &device::answer(1, length)]);
        assert!(matches!(error, Some(SaharaError::Answer { command: 1, .. })), "{error:?}");
    }
}

#[test]
fn a_lost_hello_is_recovered_from_and_not_for_ever() {
    let mut sahara = Sahara::new();
    let mut sent = Vec::new();
    for _ in 0..limits::SAHARA_RECOVERIES_MAX {
        assert_eq!(sahara.step(), Ok(Step::NeedBytes));
        sahara.hello_lost();
        sent.extend(drain(&mut sahara).expect("still trying"));
    }
    let recoveries = [packet::hello_response(2, Mode::Command), vec![0], packet::reset()];
    assert_eq!(sent, recoveries.map(Step::Send));
    sahara.hello_lost();
    let error = sahara.step().expect_err("that was the last one");
    assert_eq!((error.clone(), error.code()), (SaharaError::NoHello, FailureCode::SaharaNoHello));
}

#[test]
fn a_device_that_waits_for_an_answer_to_a_lost_hello_goes_on() {
    let mut sahara = Sahara::new();
    sahara.hello_lost();
    let mut stream = command_mode();
    stream.remove(0);
    sahara.feed(&stream.concat());
    assert!(matches!(drain(&mut sahara).expect("plain").last(), Some(Step::ChipRead(_))));
    // And the same once more after the change of mode.
    sahara.start_load(IMAGE_BYTES);
    sahara.hello_lost();
    sahara.feed(&transfer()[1..].concat());
    assert_eq!(drain(&mut sahara).expect("plain").last(), Some(&Step::Loaded));
}

#[test]
fn a_device_in_an_older_session_is_reset_first() {
    for stale in [device::end(13, 1), device::read(13, 0, 52), device::answer(1, 4)] {
        let mut sahara = Sahara::new();
        sahara.feed(&stale);
        assert_eq!(sahara.step(), Ok(Step::Send(packet::reset())));
        sahara.feed(&[vec![device::reset()], command_mode()].concat().concat());
        assert!(matches!(drain(&mut sahara).expect("recovered").last(), Some(Step::ChipRead(_))));
    }
    let (steps, error) = run(&[&device::end(13, 1).repeat(10)]);
    assert_eq!(steps.len(), 3, "one RESET each, a bounded number of them: {steps:?}");
    assert!(matches!(error, Some(SaharaError::OutOfOrder { wanted: "HELLO", .. })));
}

#[test]
fn loading_before_the_chip_is_known_is_impossible() {
    let mut sahara = Sahara::new();
    sahara.start_load(IMAGE_BYTES);
    assert_eq!(sahara.step(), Err(SaharaError::NotReady));
}

#[test]
fn what_nobody_reads_takes_no_memory() {
    let mut sahara = Sahara::new();
    for _ in 0..100 {
        sahara.feed(&[0x55; 4096]);
    }
    assert!(sahara.unread.len() <= limits::SAHARA_UNREAD_BYTES_MAX);
    assert!(matches!(sahara.step(), Err(SaharaError::Flood(_))));
}

proptest! {
    #[test]
    fn any_split_of_a_session_gives_the_same_steps(cuts in prop::collection::vec(1..40_usize, 1..60)) {
        let stream = [command_mode(), transfer()].concat().concat();
        let whole = run(&[&stream]);
        prop_assert_eq!(whole.0.last(), Some(&Step::Loaded));
        let (mut pieces, mut rest) = (Vec::new(), stream.as_slice());
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(run(&pieces), whole);
    }

    #[test]
    fn a_damaged_session_never_panics_and_never_leaves_the_image(
        damage in prop::collection::vec((0..700_usize, any::<u8>()), 0..8),
        cut in 1..100_usize,
    ) {
        let mut stream = [command_mode(), transfer()].concat().concat();
        for (at, byte) in damage {
            let length = stream.len();
            stream[at % length] = byte;
        }
        let (steps, _) = run(&stream.chunks(cut).collect::<Vec<_>>());
        for step in steps {
            if let Step::SendImage { offset, length } = step {
                prop_assert!(length > 0 && offset + length <= IMAGE_BYTES);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), load: bool) {
        let mut sahara = if load { in_transfer() } else { Sahara::new() };
        sahara.feed(&bytes);
        let _ = drain(&mut sahara);
    }
}
