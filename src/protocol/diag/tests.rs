use proptest::prelude::*;

use super::efs::{DirectoryHandle, Efs, EfsPath, FileHandle, FileType, OpenMode, Stat, Subsystem};
use super::nv::{ItemKey, read as nv_read, write as nv_write};
use super::*;
use crate::domain::limits::{EFS_ITEM_BYTES_MAX, EFS_PUT_BYTES_MAX, EFS_TRANSFER_BYTES_MAX};

const EFS: Efs = Efs(Subsystem::Standard);

fn path(path: &str) -> EfsPath {
    EfsPath::new(path).expect("a path")
}

fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An answer of the file system.
fn efs(operation: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[0x4b, 0x13, operation, 0x00], parts.concat().as_slice()].concat()
}

#[test]
fn requests_are_the_bytes_that_public_tools_send() {
    let f = path("/f");
    let data = [0xaa; 128];
    let payload = |head: &[u8], data: &[u8]| [head, data, &[0, 0]].concat();
    let same = |found: &[u8], expected: &[u8]| assert_eq!(found, expected);
    same(version().payload(), &[0x00]);
    same(build_id().payload(), &[0x7c]);
    same(electronic_serial().payload(), &[0x01]);
    same(unlock(DEFAULT_UNLOCK_CODE).payload(), b"\x41000000");
    same(password(DEFAULT_PASSWORD).payload(), &[0x46, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
    same(control(Mode::Offline).payload(), &[0x29, 1, 0]);
    same(control(Mode::Reset).payload(), &[0x29, 2, 0]);
    same(nv_read(ItemKey::of_module(550)).payload(), &payload(&[0x26, 0x26, 0x02], &[0; 128]));
    assert_eq!(nv_read(ItemKey::of_module(550)).payload().len(), 133);
    same(nv_write(ItemKey::of_module(0x1234), &data).payload(), &payload(&[0x27, 0x34, 0x12], &data));
    let indexed = [0x4b, 0x30, 0x01, 0x00, 0x26, 0x02, 0x01, 0x00];
    same(nv_read(ItemKey::of_subscription(550, 1)).payload(), &payload(&indexed, &[0; 128]));
    let indexed = [0x4b, 0x30, 0x02, 0x00, 0x26, 0x02, 0x02, 0x00];
    same(nv_write(ItemKey::of_subscription(550, 2), &data).payload(), &payload(&indexed, &data));

    let hello = Efs(Subsystem::Alternate).hello();
    assert_eq!((hello.payload().len(), &hello.payload()[..4]), (44, [0x4b, 0x3e, 0, 0].as_slice()));
    assert_eq!(hello.payload()[28..], words(&[1, 1, 1, -1]));
    same(EFS.open(&f, OpenMode::Read).payload(), &efs(2, &[&words(&[0, 0]), b"/f\0"]));
    let replace = OpenMode::Replace { permissions: 0o644 };
    same(EFS.open(&f, replace).payload(), &efs(2, &[&words(&[0x8_0241, 0o644]), b"/f\0"]));
    same(EFS.close(FileHandle(3)).payload(), &efs(3, &[&words(&[3])]));
    same(EFS.read(FileHandle(3), 7, 5000).payload(), &efs(4, &[&words(&[3, 1024, 7])]));
    same(EFS.write(FileHandle(3), 7, b"ab").expect("short").payload(), &efs(5, &[&words(&[3, 7]), b"ab"]));
    same(EFS.unlink(&f).payload(), &efs(8, &[b"/f\0"]));
    same(EFS.make_directory(&f, 0o755).payload(), &efs(9, &[&[0xed, 0x01], b"/f\0"]));
    same(EFS.open_directory(&f).payload(), &efs(11, &[b"/f\0"]));
    same(EFS.read_directory(DirectoryHandle(1), 2).payload(), &efs(12, &[&words(&[1, 2])]));
    same(EFS.close_directory(DirectoryHandle(1)).payload(), &efs(13, &[&words(&[1])]));
    same(EFS.stat(&f).payload(), &efs(15, &[b"/f\0"]));
    let put = efs(38, &[&[2, 0, 0, 0], &words(&[0x8_0241]), &[0xff, 0xe1], b"ab", b"/f\0"]);
    same(EFS.put(&f, b"ab").expect("short").payload(), &put);
    same(EFS.get(&f).payload(), &efs(39, &[b"/f\0"]));
    same(EFS.sync(&f, 0x102).payload(), &efs(48, &[&[2, 1], b"/f\0"]));
}

#[test]
fn answers_are_read_as_public_tools_read_them() {
    let f = path("/f");
    let text = b"\x00Jan 01 202010:11:12Feb 02 202013:14:15SAMPLE\0\0\x01\x02\x03\x04\x05\x06";
    let found = version().answer(text).expect("an answer").expect("its own");
    assert_eq!(found.compiled, "Jan 01 2020 10:11:12");
    assert_eq!((found.released.as_str(), found.directory.as_str()), ("Feb 02 2020 13:14:15", "SAMPLE"));
    let build = [&[0x7c; 13], b"RM500QGLAAR01A01M4G_BETA_20200428F\0rest".as_slice()].concat();
    assert_eq!(build_id().answer(&build), Ok(Some("RM500QGLAAR01A01M4G_BETA_20200428F".to_owned())));
    assert_eq!(electronic_serial().answer(&[1, 4, 3, 2, 1]), Ok(Some(0x0102_0304)));
    assert_eq!(unlock(DEFAULT_UNLOCK_CODE).answer(&[0x41, 1]), Ok(Some(())));
    assert!(matches!(unlock(DEFAULT_UNLOCK_CODE).answer(&[0x41, 0]), Err(ReplyError::Denied { .. })));
    assert_eq!(control(Mode::Offline).answer(&[0x29, 1, 0]), Ok(Some(())));
    assert_eq!(control(Mode::Offline).answer(&[0x29, 2, 0]), Ok(None), "another mode's");

    let item = |item: u8, status: u8| [&[0x26, item, 0x02], [0xab; 128].as_slice(), &[status, 0]].concat();
    let imei = nv_read(ItemKey::of_module(550));
    assert_eq!(imei.answer(&item(0x26, 0)), Ok(Some([0xab; 128])));
    let inactive = imei.answer(&item(0x26, 5)).expect_err("an error");
    assert!(inactive.is_absent());
    assert_eq!(inactive.to_string(), "DIAG NV read: not active");
    assert_eq!(imei.answer(&item(0x27, 0)), Ok(None), "a late answer about another item");
    assert!(matches!(imei.answer(&item(0x26, 0)[..130]), Err(ReplyError::Malformed { .. })));

    let open = EFS.open(&f, OpenMode::Read);
    assert_eq!(open.answer(&efs(2, &[&words(&[4, 0])])), Ok(Some(FileHandle(4))));
    let error = open.answer(&efs(2, &[&words(&[-1, 2])])).expect_err("an error");
    assert!(error.is_absent());
    assert_eq!((error.errno(), error.to_string().as_str()), (Some(Errno(2)), "DIAG EFS open: ENOENT"));
    let read = EFS.read(FileHandle(4), 8, 2);
    assert_eq!(read.answer(&efs(4, &[&words(&[4, 8, 2, 0]), b"ab"])), Ok(Some(b"ab".to_vec())));
    assert_eq!(read.answer(&efs(4, &[&words(&[4, 0, 2, 0]), b"ab"])), Ok(None), "of another place");
    for bad in [b"a".as_slice(), b"abc"] {
        let answer = read.answer(&efs(4, &[&words(&[4, 8, 2, 0]), bad]));
        assert!(matches!(answer, Err(ReplyError::Malformed { .. })), "{bad:?}");
    }
    let other = read.answer(&efs(4, &[&words(&[4, 0, -1, 9])]));
    assert_eq!(other, Ok(None), "an error at another place");
    let own = read.answer(&efs(4, &[&words(&[4, 8, -1, 9])])).expect_err("an error");
    assert_eq!(own.errno(), Some(Errno::BAD_HANDLE));
    let write = EFS.write(FileHandle(4), 8, b"ab").expect("short");
    assert_eq!(write.answer(&efs(5, &[&words(&[4, 8, 2, 0])])), Ok(Some(2)));
    for other in [words(&[4, 0, -1, 28]), words(&[5, 8, 2, 0, 0])] {
        assert_eq!(write.answer(&efs(5, &[&other])), Ok(None), "of another place");
    }
    let own = write.answer(&efs(5, &[&words(&[4, 8, -1, 28])])).expect_err("an error");
    assert_eq!(own.errno(), Some(Errno::NO_SPACE));
    let more = read.answer(&efs(4, &[&words(&[4, 8, 3, 0]), b"abc"]));
    assert!(matches!(more, Err(ReplyError::Malformed { .. })), "more than was asked for");
    let entry = |kind: i32, mode: i32, name: &[u8]| efs(12, &[&words(&[1, 2, 0, kind, mode, 9, 0, 0, 0]), name]);
    let list = EFS.read_directory(DirectoryHandle(1), 2);
    let found = list.answer(&entry(0xf, 0o160_777, b"00020175\0")).expect("an answer").expect("its own");
    let stat = Stat { file_type: FileType::Item, permissions: 0o777, bytes: 9 };
    assert_eq!(found.map(|entry| (entry.name, entry.stat)), Some(("00020175".to_owned(), stat)));
    assert_eq!(list.answer(&entry(0, 0, b"\0")), Ok(Some(None)), "the end");
    for (kind, name) in [(1, b"\0".as_slice()), (0, b"a/b\0"), (0, b"\xff\0")] {
        assert!(matches!(list.answer(&entry(kind, 0, name)), Err(ReplyError::Malformed { .. })), "{name:?}");
    }
    let stat = EFS.stat(&f).answer(&efs(15, &[&words(&[0, 0o100_644, 5, 1, 0, 0, 0])])).expect("an answer");
    assert_eq!(stat, Some(Stat { file_type: FileType::File, permissions: 0o644, bytes: 5 }));
    assert_eq!(EFS.get(&f).answer(&efs(39, &[&words(&[2, 0]), b"ab"])), Ok(Some(b"ab".to_vec())));
    let put = EFS.put(&f, b"").expect("short");
    assert_eq!(put.answer(&efs(38, &[&[0, 0, 0, 0, 0, 0]])), Ok(Some(())));
    assert_eq!(put.answer(&efs(38, &[&[0, 0, 28, 0]])).expect_err("an error").errno(), Some(Errno::NO_SPACE));
    let token = EFS.sync(&f, 5).answer(&efs(48, &[&[5, 0, 7, 0, 0, 0], &words(&[0])])).expect("an answer");
    let status = EFS.sync_is_done(&f, token.expect("its own"));
    assert_eq!(status.payload(), efs(49, &[&[5, 0, 7, 0, 0, 0], b"/f\0"]));
    assert_eq!(status.answer(&efs(49, &[&[5, 0, 1], &words(&[0])])), Ok(Some(false)));
    assert_eq!(status.answer(&efs(49, &[&[5, 0, 0], &words(&[0])])), Ok(Some(true)));
    assert_eq!(status.answer(&efs(49, &[&[6, 0, 0], &words(&[0])])), Ok(None));
}

#[test]
fn refusals_are_told_from_answers_and_from_other_requests_refusals() {
    let request = EFS.stat(&path("/f"));
    let refused = |refusal| Err(ReplyError::Refused { command: "EFS stat", refusal });
    for (byte, refusal) in [
        (0x13, Refusal::Command),
        (0x14, Refusal::Parameter),
        (0x15, Refusal::Length),
        (0x16, Refusal::Device),
        (0x18, Refusal::Mode),
        (0x42, Refusal::Locked),
        (0x47, Refusal::Security),
    ] {
        assert_eq!(request.answer(&[&[byte], request.payload()].concat()), refused(refusal));
        assert_eq!(request.answer(&[byte, 0x4b, 0x13]), refused(refusal), "cut off");
        assert_eq!(request.answer(&[byte, 0x4b, 0x3e, 0, 0]), Ok(None), "another request's");
    }
    // A log frame and an event frame, which come unasked.
    assert_eq!(request.answer(&[0x10, 0, 1, 2, 3]), Ok(None));
    assert_eq!(request.answer(&[0x60, 0]), Ok(None));
    assert_eq!(request.answer(&[]), Ok(None));
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let f = path("/f");
    let long = vec![0; EFS_TRANSFER_BYTES_MAX as usize + 1];
    assert!(EFS.write(FileHandle(1), 0, &long[1..]).is_ok());
    assert!(EFS.write(FileHandle(1), 0, &long).is_err());
    assert!(EFS.put(&f, &vec![0; EFS_PUT_BYTES_MAX]).is_ok());
    assert!(EFS.put(&f, &vec![0; EFS_PUT_BYTES_MAX + 1]).is_err());
    assert!(EFS.put(&f, &vec![0; 0x1_0001]).is_err());
    let long = words(&[i32::try_from(EFS_ITEM_BYTES_MAX + 1).expect("short"), 0]);
    let answer = EFS.get(&f).answer(&efs(39, &[&long, &vec![0; EFS_ITEM_BYTES_MAX + 1]]));
    assert!(matches!(answer, Err(ReplyError::Malformed { .. })));
}

/// Feeds a frame to every kind of request, as it is and behind what the answer repeats.
fn feed_all(bytes: &[u8]) {
    let f = path("/f");
    fn feed<T>(request: &Request<T>, bytes: &[u8]) {
        let _ = request.answer(bytes);
        for key_bytes in [1, 3, 4, 8] {
            if let Some(key) = request.payload().get(..key_bytes) {
                let _ = request.answer(&[key, bytes].concat());
            }
        }
    }
    feed(&version(), bytes);
    feed(&build_id(), bytes);
    feed(&electronic_serial(), bytes);
    feed(&unlock(DEFAULT_UNLOCK_CODE), bytes);
    feed(&control(Mode::Reset), bytes);
    feed(&nv_read(ItemKey::of_module(1)), bytes);
    feed(&nv_read(ItemKey::of_subscription(1, 1)), bytes);
    feed(&EFS.hello(), bytes);
    feed(&EFS.open(&f, OpenMode::Read), bytes);
    feed(&EFS.close(FileHandle(0)), bytes);
    feed(&EFS.read(FileHandle(0), 0, 1024), bytes);
    feed(&EFS.write(FileHandle(0), 0, b"a").expect("short"), bytes);
    feed(&EFS.open_directory(&f), bytes);
    feed(&EFS.read_directory(DirectoryHandle(0), 0), bytes);
    feed(&EFS.stat(&f), bytes);
    feed(&EFS.put(&f, b"a").expect("short"), bytes);
    feed(&EFS.get(&f), bytes);
    feed(&EFS.sync(&f, 0), bytes);
}

proptest! {
    #[test]
    fn no_frame_makes_a_request_panic(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..200),
    ) {
        feed_all(&bytes);
    }

    #[test]
    fn items_come_back_as_they_were_sent(item: u16, index in prop::option::of(any::<u16>()), data: [u8; 32]) {
        let mut content = [0; 128];
        content[..32].copy_from_slice(&data);
        let key = ItemKey { item, subscription: index };
        // A module answers a write with the request itself, and a read with the same layout.
        let write = nv_write(key, &content);
        prop_assert_eq!(write.answer(write.payload()), Ok(Some(())));
        let mut answer = write.payload().to_vec();
        answer[if index.is_some() { 2 } else { 0 }] -= 1;
        prop_assert_eq!(nv_read(key).answer(&answer), Ok(Some(content)));
        let other = ItemKey { item: item.wrapping_add(1), subscription: index };
        prop_assert_eq!(nv_read(other).answer(&answer), Ok(None));
    }

    #[test]
    fn what_is_read_is_what_the_module_holds(
        handle in 0..100_i32,
        offset in 0..100_000_u32,
        data in prop::collection::vec(any::<u8>(), 0..1024),
        other in 0..100_i32,
    ) {
        let answer = efs(4, &[&words(&[handle]), &offset.to_le_bytes(),
            &words(&[i32::try_from(data.len()).expect("short"), 0]), &data]);
        let request = EFS.read(FileHandle(handle), offset, 1024);
        prop_assert_eq!(request.answer(&answer), Ok(Some(data.clone())));
        if other != handle {
            prop_assert_eq!(EFS.read(FileHandle(other), offset, 1024).answer(&answer), Ok(None));
        }
        let answer = efs(39, &[&words(&[i32::try_from(data.len()).expect("short"), 0]), &data]);
        prop_assert_eq!(EFS.get(&path("/f")).answer(&answer), Ok(Some(data)));
    }

    #[test]
    fn names_of_a_directory_come_through(name in "[ -.0-~]{1,60}", bytes in 0..1_000_000_i32, mode in 0..0o777_i32) {
        let answer = efs(12, &[&words(&[2, 9, 0, 0, 0o100_000 | mode, bytes, 1, 2, 3]), name.as_bytes(), &[0]]);
        let entry = EFS.read_directory(DirectoryHandle(2), 9).answer(&answer);
        let entry = entry.expect("an answer").expect("its own").expect("an entry");
        prop_assert_eq!(entry.name, name);
        prop_assert_eq!(entry.stat.file_type, FileType::File);
        prop_assert_eq!(i32::try_from(entry.stat.bytes), Ok(bytes));
    }
}
