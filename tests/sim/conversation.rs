//! Conversations over DIAG with simulated modules, through the bus: everything that a module holds is read, and given
//! back to it after it was lost; and with ports behind which no honest module is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stationmaster::controller::{DiagFailure, DiagSession};
use stationmaster::domain::limits::EFS_DIRECTORY_ENTRIES_MAX;
use stationmaster::hardware::{AtPort, BoxFuture, DeviceMode, HardwareError};
use stationmaster::host::Clock;
use stationmaster::protocol::content::{Kind, PortTap};
use stationmaster::protocol::diag::efs::{EfsPath, FileType, Subsystem};
use stationmaster::protocol::diag::nv::{ITEM_BYTES, ItemData, ItemKey};
use stationmaster::protocol::diag::{Deframer, FRAME_END, Mode, build_id, encode, version};
use stationmaster::sim::efs::{
    BOOTS_PATH, EfsState, Items, NV_DIRECTORY, NV_TREE, NodeKind, RF_DIRECTORY, subscription_directory,
};

use crate::rig::{EG25, RM520N, Rig, slot};

const SLOT: &str = "A1";

impl Rig {
    pub(crate) async fn session(&self) -> DiagSession {
        let device = self.normal().await;
        let DeviceMode::Normal(family) = device.mode() else { unreachable!("it was asked for") };
        let port = self.factory.bus().open_port(&device.key, family.diag_interface).await.expect("a DIAG port");
        DiagSession::open(port, self.clock.clone()).await.expect("a conversation")
    }

    fn truth(&self) -> Items {
        self.factory.unit(1).expect("a unit").inspect().expect("readable").items
    }

    pub(crate) fn replug(&self) {
        let slot = slot(SLOT);
        self.factory.unplug(&slot).expect("a unit");
        self.factory.plug(1, &slot).expect("a slot");
    }
}

fn path(path: &str) -> EfsPath {
    EfsPath::new(path).expect("a path")
}

fn padded(content: &[u8]) -> ItemData {
    let mut data = [0; ITEM_BYTES];
    data[..content.len()].copy_from_slice(content);
    data
}

/// Every NV item that a unit really has.
pub(crate) fn items_of(truth: &Items) -> BTreeMap<ItemKey, ItemData> {
    let mut found = BTreeMap::new();
    for (directory, subscription) in
        [(NV_DIRECTORY.to_owned(), None), (subscription_directory(1), Some(1)), (subscription_directory(2), Some(2))]
    {
        for (path, node) in truth.below(&directory) {
            let item = path[directory.len()..].parse().expect("a number");
            found.insert(ItemKey { item, subscription }, padded(&node.data));
        }
    }
    found
}

/// What a module gives: items, files with their kinds, directories.
#[derive(Debug, PartialEq, Eq, Default)]
struct Content {
    items: BTreeMap<ItemKey, ItemData>,
    files: BTreeMap<String, (FileType, Vec<u8>)>,
    directories: BTreeSet<String>,
}

fn really(truth: &Items) -> Content {
    let mut content = Content { items: items_of(truth), ..Content::default() };
    for (path, node) in truth.nodes().filter(|(path, _)| !path.starts_with(NV_TREE)) {
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            content.directories.insert(above.to_owned());
            parent = above;
        }
        let file_type = match node.kind {
            NodeKind::Directory => {
                content.directories.insert(path.to_owned());
                continue;
            }
            NodeKind::Item => FileType::Item,
            NodeKind::File => FileType::File,
        };
        content.files.insert(path.to_owned(), (file_type, node.data.clone()));
    }
    content
}

/// Reads NV items, all that is listed, and RF items by their numbers.
async fn read_all(session: &mut DiagSession, items: RangeInclusive<u16>, rf: impl IntoIterator<Item = u32>) -> Content {
    let mut content = Content::default();
    for subscription in [None, Some(1), Some(2)] {
        for item in items.clone() {
            let key = ItemKey { item, subscription };
            if let Some(data) = session.nv_read(key).await.expect("an answer") {
                content.items.insert(key, data);
            }
        }
    }
    let tree = session.tree(&EfsPath::root()).await.expect("a tree");
    assert_eq!(tree.unreadable, []);
    for (path, stat) in tree.entries {
        let data = match stat.file_type {
            FileType::Directory => {
                content.directories.insert(path.to_string());
                continue;
            }
            FileType::Item => session.get_item(&path).await.expect("an answer").expect("a listed item"),
            FileType::File => session.read_file(&path).await.expect("a file"),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(data.len(), stat.bytes as usize, "{path}");
        content.files.insert(path.to_string(), (stat.file_type, data));
    }
    let listed = content.files.len();
    for number in rf {
        let hidden = path(&format!("/nv/item_files/rfnv/{number:08}"));
        if let Some(data) = session.get_item(&hidden).await.expect("an answer") {
            content.files.insert(hidden.to_string(), (FileType::Item, data));
        }
    }
    assert!(content.files.len() > listed, "some items are not listed");
    content
}

#[tokio::test(start_paused = true)]
async fn everything_that_an_eg25_holds_is_read() {
    compare_everything(EG25, Subsystem::Standard, 2).await;
}

#[tokio::test(start_paused = true)]
async fn everything_that_an_rm520n_holds_is_read() {
    compare_everything(RM520N, Subsystem::Alternate, 3).await;
}

async fn compare_everything(kind: (&str, &str), subsystem: Subsystem, subscriptions: usize) {
    let rig = Rig::one(kind, &[]).await;
    let mut session = rig.session().await;
    assert!(session.is_unlocked() && session.is_trusted());
    assert_eq!(session.subsystem(), Some(subsystem));
    assert_eq!(session.ask(&build_id()).await, Ok(kind.1.to_owned()));
    assert!(session.ask(&version()).await.expect("an answer").compiled.starts_with("Apr 19 2020"));
    let found = read_all(&mut session, 0..=8192, 20_000..=32_000).await;
    let truth = rig.truth();
    let expected = really(&truth);
    assert_eq!(found.items, expected.items);
    assert_eq!(found.directories, expected.directories);
    assert_eq!(found.files, expected.files);
    let owners: BTreeSet<Option<u16>> = found.items.keys().map(|key| key.subscription).collect();
    assert_eq!(owners.len(), subscriptions);
    assert!(found.items.len() > 160 && found.files.len() > 70 && found.directories.len() > 8);
    let events = rig.factory.unit(1).expect("a unit").events();
    assert!(!events.iter().any(stationmaster::sim::BusEvent::is_destructive));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_controller_left_open_is_closed() {
    let rig = Rig::one(RM520N, &[]).await;
    let mut session = rig.session().await;
    let efs = stationmaster::protocol::diag::efs::Efs(Subsystem::Alternate);
    for directory in ["/", "/nv"] {
        session.ask(&efs.open_directory(&path(directory))).await.expect("a handle");
    }
    let failure = session.list(&EfsPath::root()).await.expect_err("too many are open");
    assert_eq!(failure.to_string(), "/: DIAG EFS opendir: EACCES");
    drop(session);
    let mut session = rig.session().await;
    assert!(session.list(&EfsPath::root()).await.expect("a listing").len() > 3);
    // A walk needs one handle at a time, however deep the tree is.
    session.ask(&efs.open_directory(&path("/"))).await.expect("a handle");
    assert_eq!(session.tree(&EfsPath::root()).await.expect("a tree").unreadable, []);
}

#[tokio::test(start_paused = true)]
async fn a_lost_file_system_is_given_back_item_by_item() {
    for kind in [EG25, RM520N] {
        let rig = Rig::one(kind, &[]).await;
        let mut session = rig.session().await;
        let unit = rig.factory.unit(1).expect("a unit");
        let before = unit.inspect().expect("readable");
        let rf = before.items.below(RF_DIRECTORY).filter_map(|(path, _)| path[RF_DIRECTORY.len()..].parse().ok());
        let saved = read_all(&mut session, 500..=2100, rf).await;
        drop(session);
        for range in unit.guarded() {
            for block in range.start / 64..range.end() / 64 {
                unit.erase_block(block).expect("a block");
            }
        }
        rig.replug();
        rig.normal().await;
        rig.replug();
        let mut session = rig.session().await;
        let lost = unit.inspect().expect("readable");
        assert_eq!((lost.efs, lost.imei, unit.cfun()), (EfsState::Skeleton, None, 5));

        session.control(Mode::Offline).await.expect("offline");
        for (key, data) in &saved.items {
            session.nv_write(*key, data).await.expect("a write");
        }
        let item = saved.files.iter().find(|(_, (kind, _))| *kind == FileType::Item).expect("an item").0;
        let full = session.put_item(&path(item), b"x").await.expect_err("the journal is full of NV items");
        assert_eq!(full.to_string(), format!("{item}: DIAG EFS put: ENOSPC"));
        session.sync().await.expect("a synchronisation");
        for directory in &saved.directories {
            session.make_directory(&path(directory), 0o755).await.expect("a directory");
        }
        session.sync().await.expect("a synchronisation");
        for (count, (name, (file_type, data))) in saved.files.iter().enumerate() {
            if name == BOOTS_PATH {
                continue;
            }
            match file_type {
                FileType::Item => session.put_item(&path(name), data).await.expect("a write"),
                _ => session.write_file(&path(name), data, 0o644).await.expect("a write"),
            }
            if count % 50 == 49 {
                session.sync().await.expect("a synchronisation");
            }
        }
        session.sync().await.expect("a synchronisation");
        session.control(Mode::Reset).await.expect("a reset");
        let gone = session.list(&EfsPath::root()).await;
        assert!(matches!(gone, Err(DiagFailure::Port(HardwareError::Gone))), "{gone:?}");
        rig.normal().await;
        let after = unit.inspect().expect("readable");
        assert_eq!((after.efs, after.imei, unit.cfun()), (EfsState::Present, before.imei, 1));
        assert_eq!(really(&after.items).items, saved.items);
        let without_boots = |items: &Items| {
            let mut content = really(items);
            content.files.remove(BOOTS_PATH);
            content
        };
        assert_eq!(without_boots(&after.items), without_boots(&before.items));
    }
}

/// A cable that flips a bit in every so many reads, once the conversation has begun.
#[derive(Debug)]
struct Cable {
    inner: Box<dyn AtPort>,
    reads: u32,
    every: u32,
}

impl AtPort for Cable {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            let length = self.inner.read(buffer).await?;
            self.reads += 1;
            if self.reads > 30 && self.reads.is_multiple_of(self.every) {
                buffer[length / 2] ^= 4;
            }
            Ok(length)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.inner.write(bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_cable_costs_time_and_no_content() {
    for every in [3, 5, 7] {
        let rig = Rig::one(RM520N, &[]).await;
        let device = rig.normal().await;
        let inner = rig.factory.bus().open_port(&device.key, 0).await.expect("a DIAG port");
        let cable = Cable { inner, reads: 0, every };
        let mut session = DiagSession::open(Box::new(cable), rig.clock.clone()).await.expect("a conversation");
        let truth = rig.truth();
        let rf = truth.below(RF_DIRECTORY).filter_map(|(path, _)| path[RF_DIRECTORY.len()..].parse().ok());
        let found = read_all(&mut session, 1000..=1100, rf).await;
        let expected = really(&truth);
        assert_eq!((found.files, found.directories), (expected.files, expected.directories), "{every}");
        assert!(!found.items.is_empty() && found.items.iter().all(|(key, data)| expected.items.get(key) == Some(data)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_may_be_written_once_may_be_written_as_it_is() {
    let rig = Rig::one(EG25, &[]).await;
    let mut session = rig.session().await;
    let imei = ItemKey::of_module(550);
    let data = session.nv_read(imei).await.expect("an answer").expect("an IMEI");
    let online = session.nv_write(imei, &data).await.expect_err("it is online");
    assert_eq!(online.to_string(), "DIAG NV write: refused, not in this mode");
    session.control(Mode::Offline).await.expect("offline");
    assert_eq!(session.nv_write(imei, &data).await, Ok(()));
    let other = session.nv_write(imei, &[8; ITEM_BYTES]).await.expect_err("there is one");
    assert_eq!(other.to_string(), "DIAG NV write: read only");
}

/// A port behind which a program sits: it is given each payload and says what comes back, and how late.
struct Script<F> {
    answer: F,
    clock: Clock,
    frames: Deframer,
    queue: VecDeque<(Duration, Vec<u8>)>,
}

impl<F> std::fmt::Debug for Script<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Script")
    }
}

impl<F: FnMut(&[u8]) -> Vec<(Duration, Vec<u8>)> + Send> AtPort for Script<F> {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            let Some((due, _)) = self.queue.front() else { return std::future::pending().await };
            self.clock.sleep_until(*due).await;
            let (_, bytes) = self.queue.pop_front().expect("it was there");
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        Box::pin(async move {
            self.frames.feed(bytes);
            for payload in self.frames.by_ref() {
                let now = self.clock.now();
                let answers = (self.answer)(&payload.expect("a sound frame"));
                self.queue.extend(answers.into_iter().map(|(late, payload)| (now + late, encode(&payload))));
            }
            Ok(())
        })
    }
}

/// A port on which somebody listens, and writes down what counts as talk of what was read.
#[derive(Debug)]
struct Overheard {
    inner: Box<dyn AtPort>,
    tap: PortTap,
    talk: Arc<Mutex<Vec<u8>>>,
}

impl AtPort for Overheard {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> BoxFuture<'a, Result<usize, HardwareError>> {
        Box::pin(async move {
            let length = self.inner.read(buffer).await?;
            let mut at = 0;
            for span in self.tap.take_in(&buffer[..length]) {
                if span.kind == Kind::Talk {
                    self.talk.lock().expect("no panic").extend_from_slice(&buffer[at..at + span.bytes]);
                }
                at += span.bytes;
            }
            Ok(length)
        })
    }

    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.tap.take_out(bytes);
        self.inner.write(bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_conversation_asked_for_is_no_talk() {
    let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
    let answer = |payload: &[u8]| greeting(payload).map(|answer| (Duration::ZERO, answer)).into_iter().collect();
    // A whole late answer, and the second half of one: neither is the beginning of anything.
    let late = encode(&[[0x26, 0x26, 0x02].as_slice(), &[b's'; 128], &[0, 0]].concat());
    let half = [[0; 20].as_slice(), &[b's'; 20], &[FRAME_END]].concat();
    for left in [late.clone(), half.clone(), [half, late].concat()] {
        let queue = VecDeque::from([(Duration::ZERO, left)]);
        let inner = Box::new(Script { answer, clock: clock.clone(), frames: Deframer::new(), queue });
        let talk = Arc::default();
        let port = Overheard { inner, tap: PortTap::new(), talk: Arc::clone(&talk) };
        DiagSession::open(Box::new(port), clock.clone()).await.expect("a conversation");
        let talk = talk.lock().expect("no panic");
        assert!(!talk.contains(&b's') && !talk.starts_with(&[0]), "{talk:02x?}");
        assert!(talk.windows(2).any(|pair| pair == [0x4b, 0x3e]), "{talk:02x?}");
    }
}

async fn scripted(
    answer: impl FnMut(&[u8]) -> Vec<(Duration, Vec<u8>)> + Send + 'static,
) -> (Result<DiagSession, DiagFailure>, Clock) {
    let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
    let port = Script { answer, clock: clock.clone(), frames: Deframer::new(), queue: VecDeque::new() };
    (DiagSession::open(Box::new(port), clock.clone()).await, clock)
}

/// What an obliging module says to the beginning of a conversation; `None` to anything else.
fn greeting(payload: &[u8]) -> Option<Vec<u8>> {
    match payload {
        [command @ (0x41 | 0x46), ..] => Some(vec![*command, 1]),
        [0x26, ..] => Some([&payload[..131], &[6, 0]].concat()),
        [0x4b, 0x3e, 0, 0, ..] => Some(payload.to_vec()),
        [0x4b, 0x3e, operation @ (3 | 13), 0, ..] => Some(vec![0x4b, 0x3e, *operation, 0, 9, 0, 0, 0]),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn unusual_words_at_the_beginning_end_nothing() {
    let (session, _) = scripted(|payload| {
        let answer = match payload {
            [0x41, ..] => vec![0x41, 1, 0, 0],
            [0x4b, 0x3e, 0, 0, ..] => payload[..8].to_vec(),
            [0x4b, 0x3e, 13, 0, ..] => payload[..4].to_vec(),
            _ => greeting(payload).expect("nothing else is asked"),
        };
        vec![(Duration::ZERO, answer)]
    })
    .await;
    let session = session.expect("a conversation");
    assert_eq!((session.is_unlocked(), session.is_trusted()), (false, true));
    assert_eq!(session.subsystem(), Some(Subsystem::Alternate));
}

#[tokio::test(start_paused = true)]
async fn silence_and_endless_chatter_end() {
    let (silent, _) = scripted(|_| Vec::new()).await;
    assert_eq!(silent.err(), Some(DiagFailure::Silent("probe")));
    let log = |count: u64| (Duration::from_millis(count), vec![0x10, 0, 1, 2]);
    let (chatter, clock) = scripted(move |_| (0..100_000).map(log).collect()).await;
    assert_eq!(chatter.err(), Some(DiagFailure::Silent("probe")));
    assert!(clock.now() < Duration::from_secs(10), "{:?}", clock.now());
}

/// A module that does one thing after the other, and takes its time for one of them: it answers with the path that was
/// asked for, and nothing in an answer says so.
async fn slow_module(slow: usize, late: Duration) -> (DiagSession, Clock) {
    let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
    let (time, mut busy_until, mut count) = (clock.clone(), Duration::ZERO, 0);
    let answer = move |payload: &[u8]| {
        let answer = greeting(payload).unwrap_or_else(|| {
            count += 1;
            let path = &payload[4..payload.len() - 1];
            let length = i32::try_from(path.len()).expect("short").to_le_bytes();
            [&payload[..4], &length, &[0; 4], path].concat()
        });
        let is_slow = payload[2] == 39 && count == slow;
        busy_until = busy_until.max(time.now()) + if is_slow { late } else { Duration::from_millis(5) };
        vec![(busy_until - time.now(), answer)]
    };
    let port = Script { answer, clock: clock.clone(), frames: Deframer::new(), queue: VecDeque::new() };
    (DiagSession::open(Box::new(port), clock.clone()).await.expect("a conversation"), clock)
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    for late in (1900..7000).step_by(50).map(Duration::from_millis) {
        let (mut session, _) = slow_module(2, late).await;
        for name in ["/one", "/two", "/three", "/four"] {
            let found = session.get_item(&path(name)).await;
            assert_eq!(found, Ok(Some(name.as_bytes().to_vec())), "{late:?}");
        }
    }
    // Whatever it takes, an answer is right or there is none.
    for late in (7000..40_000).step_by(500).map(Duration::from_millis) {
        let (mut session, _) = slow_module(2, late).await;
        for name in ["/one", "/two", "/three", "/four", "/five", "/six"] {
            if let Ok(found) = session.get_item(&path(name)).await {
                assert_eq!(found, Some(name.as_bytes().to_vec()), "{late:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn probes_do_not_run_out() {
    let mut gets = 0_u32;
    let (session, _) = scripted(move |payload| {
        // Every other answer to a question about an item is lost.
        let answer = greeting(payload).or_else(|| {
            gets += 1;
            gets.is_multiple_of(2).then(|| [&payload[..4], &[1, 0, 0, 0, 0, 0, 0, 0, 7]].concat())
        });
        answer.map(|answer| (Duration::ZERO, answer)).into_iter().collect()
    })
    .await;
    let mut session = session.expect("a conversation");
    for _ in 0..5000 {
        assert_eq!(session.get_item(&path("/a")).await, Ok(Some(vec![7])));
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_was_given_up_is_not_answered_by_the_next() {
    let (mut session, clock) = slow_module(1, Duration::from_secs(1)).await;
    let given_up = clock.timeout(Duration::from_millis(300), session.get_item(&path("/one"))).await;
    assert!(given_up.is_err());
    assert_eq!(session.get_item(&path("/two")).await, Ok(Some(b"/two".to_vec())));
}

#[tokio::test(start_paused = true)]
async fn a_directory_without_an_end_is_an_error() {
    let (session, _) = scripted(|payload| {
        let answer = greeting(payload).unwrap_or_else(|| match payload {
            [0x4b, 0x3e, 11, 0, ..] => [&payload[..4], &[1, 0, 0, 0, 0, 0, 0, 0]].concat(),
            _ => {
                let number = u32::from_le_bytes(payload[8..12].try_into().expect("a sequence number"));
                let entry = [&payload[..12], &[0; 28], format!("f{number}\0").as_bytes()].concat();
                assert!(number <= EFS_DIRECTORY_ENTRIES_MAX);
                entry
            }
        });
        vec![(Duration::ZERO, answer)]
    })
    .await;
    let failure = session.expect("a conversation").list(&path("/nv")).await.expect_err("no end");
    assert_eq!(failure.to_string(), "/nv: the directory does not end");
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_elsewhere_are_refused() {
    for name in ["a/b", "a\nb", "../x", "\u{e4}"] {
        let (session, _) = scripted(move |payload| {
            let answer = greeting(payload).unwrap_or_else(|| match payload {
                [0x4b, 0x3e, 11, 0, ..] => [&payload[..4], &[1, 0, 0, 0, 0, 0, 0, 0]].concat(),
                _ => [&payload[..12], &[0; 28], name.as_bytes(), &[0]].concat(),
            });
            vec![(Duration::ZERO, answer)]
        })
        .await;
        assert!(session.expect("a conversation").list(&path("/nv")).await.is_err(), "{name:?}");
    }
}
