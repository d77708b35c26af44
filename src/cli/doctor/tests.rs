use std::sync::Mutex;

use super::super::prepare;
use super::*;
use crate::config::PowerKind;
use crate::domain::{Fact, RunId};
use crate::hardware::{BoxFuture, HardwareError};
use crate::host::MemoryDisk;
use crate::ledger::{IndexPlace, Ledger, WriterMode};

fn station() -> Station {
    let mut station =
        prepare::station(&OsDisk::new(), Path::new("stations/demo.yaml")).expect("the demonstration is good");
    station.state = std::env::temp_dir();
    station.reports = std::env::temp_dir();
    station
}

fn named<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).expect("a check")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn a_clock_of_1970_and_a_broken_ledger_are_named() {
    let (disk, station) = (MemoryDisk::new(), station());
    let directory = station.state.join("ledger");
    let now = at("2026-03-01T00:00:00Z");
    let all = records(&disk, &station, now);
    assert_eq!(named(&all, "clock").verdict, Verdict::Good);
    assert_eq!(named(&all, "ledger").verdict, Verdict::Good);
    let all = records(&disk, &station, Timestamp::UNIX_EPOCH);
    assert_eq!(named(&all, "clock").verdict, Verdict::Finding);
    disk.create_dir_all(&directory).expect("makes it");
    disk.replace(&directory.join("ledger-000001.jsonl"), b"{}\n", false).expect("writes it");
    assert_eq!(named(&records(&disk, &station, now), "ledger").verdict, Verdict::Finding);
}

/// A ledger of two days; the later entry is of the second one, at noon.
async fn used(station: &Station) -> MemoryDisk {
    let memory = MemoryDisk::new();
    for day in ["2026-03-01T12:00:00Z", "2026-03-02T12:00:00Z"] {
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let directory = station.state.join("ledger");
        let opened =
            Ledger::open(disk, Clock::simulated(at(day)), directory, WriterMode::Inline, IndexPlace::Memory).await;
        let ledger = opened.expect("it is opened");
        let started = Fact::RunStarted {
            run: RunId::new(1, &[u8::try_from(day.len()).expect("it is short"); 10]),
            batch: "B".parse().expect("a name"),
            slot: station.slots[0].name.clone(),
            chain: station.slots[0].usb2.clone(),
            identity: None,
        };
        ledger.append(started).await.expect("it is durable");
        ledger.close().await;
    }
    memory
}

#[tokio::test(start_paused = true)]
async fn a_clock_before_the_ledgers_last_entry_is_named_with_both_times() {
    let station = station();
    let disk = used(&station).await;
    for (now, verdict) in [
        ("2026-03-02T11:59:59Z", Verdict::Finding),
        ("2026-03-01T13:00:00Z", Verdict::Finding),
        ("2026-03-02T12:00:00Z", Verdict::Good),
        ("2026-03-09T00:00:00Z", Verdict::Good),
    ] {
        let all = records(&disk, &station, at(now));
        let clock = named(&all, "clock");
        assert_eq!(clock.verdict, verdict, "{now}: {clock:?}");
        if verdict == Verdict::Finding {
            assert!(clock.seen.contains(now) && clock.seen.contains("2026-03-02T12:00:00Z"), "{clock:?}");
            assert!(clock.remedy.contains("NTP"), "{clock:?}");
        }
        let ledger = named(&all, "ledger");
        assert_eq!((ledger.verdict, ledger.seen.as_str()), (Verdict::Good, "unaltered, 2 entries"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_line_that_is_cut_off_is_no_finding_and_damage_is() {
    let station = station();
    let after = |change: fn(&mut Vec<u8>)| {
        let station = &station;
        async move {
            let disk = used(station).await;
            disk.tamper(&station.state.join("ledger/ledger-000001.jsonl"), change).expect("it is there");
            records(&disk, station, at("2026-03-02T13:00:00Z"))
        }
    };
    let cut = "unaltered, 2 entries; its last line is cut off; the next start repairs it";
    let all = after(|bytes| bytes.extend_from_slice(b"{\"seq\":3,\"pr")).await;
    assert_eq!((named(&all, "ledger").verdict, named(&all, "ledger").seen.as_str()), (Verdict::Good, cut));
    // What is durable before it still tells the time.
    let all = after(|bytes| bytes.truncate(bytes.len() - 1)).await;
    assert_eq!(named(&all, "ledger").verdict, Verdict::Good, "{all:?}");
    let damage: [fn(&mut Vec<u8>); 3] = [
        |bytes| *bytes.last_mut().expect("a line") = b'x',
        |bytes| bytes[30] ^= 1,
        |bytes| bytes.extend_from_slice(b"{\"seq\":3,\"pr\n"),
    ];
    for change in damage {
        let all = after(change).await;
        let ledger = named(&all, "ledger");
        assert_eq!(ledger.verdict, Verdict::Finding, "{ledger:?}");
        assert!(ledger.remedy.contains("copy"), "{ledger:?}");
    }
}

#[test]
fn a_disk_with_too_little_room_is_named() {
    let (disk, station) = (MemoryDisk::new(), station());
    let now = at("2026-03-01T00:00:00Z");
    disk.create_dir_all(&station.state).expect("makes it");
    for (free, verdict) in
        [(0, Verdict::Finding), (FREE_BYTES_MIN - 1, Verdict::Finding), (FREE_BYTES_MIN, Verdict::Good)]
    {
        disk.set_free_bytes(free);
        let all = records(&disk, &station, now);
        for name in ["state", "reports"] {
            let check = named(&all, name);
            assert_eq!(check.verdict, verdict, "{free} {check:?}");
            assert_eq!(check.remedy.is_empty(), verdict == Verdict::Good, "{check:?}");
        }
        if verdict == Verdict::Finding {
            let seen = &named(&all, "state").seen;
            assert!(seen.contains(&format!("{} MiB are free", free / 1024 / 1024)), "{seen}");
        }
    }
}

#[test]
fn a_directory_that_is_none_or_cannot_be_made_is_named() {
    let disk = OsDisk::new();
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("file");
    disk.replace(&file, b"x", false).expect("writes it");
    for path in [file.clone(), file.join("below")] {
        let check = directory_check(&disk, "state", &path);
        // Below a file there is nothing, so the file itself is asked.
        assert_eq!(check.verdict, Verdict::Finding, "{check:?}");
        assert!(check.seen.contains("is no directory"), "{check:?}");
    }
    let check = directory_check(&disk, "state", &place.path().join("not/yet/there"));
    assert_eq!(check.verdict, Verdict::Good, "{check:?}");
    assert!(disk.list(&place.path().join("not")).is_err(), "nothing is made");
}

/// What a supply does when it is switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Obeys,
    CannotSwitch,
    StaysOn,
    StaysOff,
}

/// A supply that writes down what it is asked, and when.
#[derive(Debug)]
struct Supply {
    clock: Clock,
    habits: Vec<(PortChain, Habit)>,
    asked: Mutex<Vec<(PortChain, bool, Duration)>>,
}

impl Supply {
    fn habit(&self, chains: &[PortChain]) -> Habit {
        self.habits.iter().find(|(chain, _)| chains.contains(chain)).map_or(Habit::Obeys, |(_, habit)| *habit)
    }
}

impl SlotPower for Supply {
    fn can_switch(&self, chains: &[PortChain]) -> bool {
        self.habit(chains) != Habit::CannotSwitch
    }

    fn set<'a>(&'a self, chains: &'a [PortChain], on: bool) -> BoxFuture<'a, Result<(), HardwareError>> {
        let disobeys = match self.habit(chains) {
            Habit::Obeys => false,
            Habit::CannotSwitch => true,
            Habit::StaysOn => !on,
            Habit::StaysOff => on,
        };
        self.asked.lock().expect("no holder panics").push((chains[0].clone(), on, self.clock.now()));
        let result = if disobeys { Err(HardwareError::Failed("the port does not obey".into())) } else { Ok(()) };
        Box::pin(std::future::ready(result))
    }
}

async fn switch(habits: &[(usize, Habit)]) -> (Check, Vec<(PortChain, bool, Duration)>, Station) {
    let mut station = station();
    station.slots.truncate(3);
    let clock = Clock::simulated(at("2026-03-01T00:00:00Z"));
    let habits = habits.iter().map(|(slot, habit)| (station.slots[*slot].usb2.clone(), *habit)).collect();
    let supply = Supply { clock: clock.clone(), habits, asked: Mutex::default() };
    let check = switched(&supply, &station, &clock).await;
    (check, supply.asked.into_inner().expect("no holder panics"), station)
}

#[tokio::test(start_paused = true)]
async fn every_slot_is_cut_for_two_seconds_and_given_back() {
    let (check, asked, station) = switch(&[]).await;
    assert_eq!(check.verdict, Verdict::Good, "{check:?}");
    assert_eq!(asked.len(), 6);
    for (slot, pair) in station.slots.iter().zip(asked.chunks(2)) {
        let [(off, false, cut), (on, true, given)] = pair else { panic!("{pair:?}") };
        assert_eq!((off, on), (&slot.usb2, &slot.usb2));
        assert_eq!(*given - *cut, OFF);
    }
}

#[tokio::test(start_paused = true)]
async fn hubs_that_do_not_really_switch_are_named_by_slot() {
    let habits = [(0, Habit::StaysOn), (1, Habit::StaysOff), (2, Habit::CannotSwitch)];
    let (check, asked, station) = switch(&habits).await;
    assert_eq!(check.verdict, Verdict::Finding, "{check:?}");
    let of = |slot: usize| station.slots[slot].name.as_str();
    for (slot, why) in [
        (0, "the port does not obey"),
        (1, "it was cut and not given back: the port does not obey"),
        (2, "its hub cannot switch"),
    ] {
        assert!(check.seen.contains(&format!("{}: {why}", of(slot))), "{check:?}");
    }
    assert!(check.remedy.contains("power: none"), "{check:?}");
    let given: Vec<bool> = asked.iter().map(|(_, on, _)| *on).collect();
    assert_eq!(given, [false, true, false, true], "every cut is followed by an attempt to give it back");
}

#[test]
fn nothing_is_switched_unasked_nor_while_the_station_works() {
    let disk = MemoryDisk::new();
    let mut station = station();
    station.hardware = HardwareKind::Usb;
    station.power = PowerKind::Hub;
    disk.create_dir_all(Path::new("stations")).expect("makes it");
    disk.create(&station.path, b"name: x").expect("writes it");
    assert_eq!(power(&disk, &station, false).expect("looked at").verdict, Verdict::Unknown);
    let refused = || {
        let check = power(&disk, &station, true).expect("looked at");
        assert_eq!(check.verdict, Verdict::Unknown, "{check:?}");
        assert!(check.seen.contains("is at work") && !check.seen.contains('\n'), "{check:?}");
        assert_eq!(status(&[Check::good("kernel", "6.12"), check.clone()], true), Status::Stuck);
        assert_eq!(status(std::slice::from_ref(&check), false), Status::Good, "nobody wants it");
        assert_eq!(status(&[check, Check::finding("kernel", "none", "one")], true), Status::NotAllGood);
    };
    let works = ledger::lock(&disk, &station.state.join("ledger")).expect("it is free");
    refused();
    drop(works);
    let works = disk.hold(&station.path, Hold::Alone).expect("it is free");
    refused();
    drop(works);
    station.power = PowerKind::None;
    assert_eq!(power(&disk, &station, true).expect("looked at").verdict, Verdict::Good);
}
