use super::*;

fn path() -> &'static Path {
    Path::new("/state/file")
}

fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new("/state")).expect("made");
    disk
}

#[test]
fn a_crash_drops_what_was_not_synced() {
    let disk = disk();
    let mut file = disk.append(path()).expect("opened");
    file.append(b"one").expect("appended");
    file.sync().expect("synced");
    disk.crash();
    assert_eq!(disk.read(path(), 9).expect_err("its name was not synced").kind(), io::ErrorKind::NotFound);
    assert!(file.append(b"x").is_err(), "a handle from before the crash is dead");

    let mut file = disk.append(path()).expect("opened");
    disk.sync_dir(Path::new("/state")).expect("synced");
    file.append(b"one").expect("appended");
    file.sync().expect("synced");
    file.append(b"two").expect("appended");
    assert_eq!(disk.read(path(), 9).expect("read"), b"onetwo");
    disk.crash_torn(1);
    assert_eq!(disk.read(path(), 9).expect("read"), b"onet");
    disk.crash();
    assert_eq!(disk.read(path(), 9).expect("read"), b"onet");
}

#[test]
fn a_failed_fsync_is_not_cured_by_the_next_one() {
    let disk = disk();
    let mut file = disk.append(path()).expect("opened");
    disk.sync_dir(Path::new("/state")).expect("synced");
    file.append(b"one").expect("appended");
    disk.fail_call(1, FailKind::FailedSync);
    assert!(file.sync().is_err());
    file.sync().expect("the kernel says so");
    assert_eq!(disk.read(path(), 9).expect("still in memory"), b"one");
    disk.crash();
    assert_eq!(disk.read(path(), 9).expect("read"), b"");
}

#[test]
fn the_chosen_call_fails_and_a_crash_fails_all_after_it() {
    let disk = disk();
    disk.fail_call(2, FailKind::ShortWrite);
    let mut file = disk.append(path()).expect("the first call");
    assert!(file.append(b"abcd").is_err());
    assert_eq!(disk.read(path(), 9).expect("read"), b"ab");
    disk.fail_call(1, FailKind::NoSpace);
    assert_eq!(disk.replace(path(), b"x", false).expect_err("full").kind(), io::ErrorKind::StorageFull);
    disk.fail_call(1, FailKind::Crash);
    assert!(file.sync().is_err());
    assert!(disk.list(Path::new("/state")).is_err());
    disk.crash();
    assert!(disk.list(Path::new("/state")).expect("up again").is_empty());
}

#[test]
fn a_full_disk_takes_what_has_room_and_has_room_again_when_something_is_removed() {
    let disk = disk();
    disk.replace(path(), &[0; 60], false).expect("room");
    disk.set_room(Some(100));
    let other = Path::new("/state/other");
    let mut file = disk.append(other).expect("a name takes no room");
    file.append(&[1; 40]).expect("room");
    assert_eq!(file.append(&[1; 1]).expect_err("full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.replace(path(), &[0; 61], false).expect_err("full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.used_bytes(), 100);
    disk.remove(path()).expect("removed");
    file.append(&[1; 60]).expect("room again");
}

#[test]
fn a_failing_call_is_told_while_it_fails() {
    let disk = disk();
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    disk.when_failing(move || *lock(&count) += 1);
    disk.fail_call(2, FailKind::Error);
    let mut file = disk.append(path()).expect("the first call");
    assert_eq!((*lock(&told), disk.failed_call()), (0, None));
    assert!(file.append(b"abcd").is_err());
    assert_eq!((*lock(&told), disk.failed_call()), (1, Some(Call::Write)));
}

#[test]
fn locks_end_with_their_guard_and_with_a_crash() {
    let disk = disk();
    let held = disk.lock(path()).expect("free");
    assert_eq!(disk.lock(path()).expect_err("held").kind(), io::ErrorKind::WouldBlock);
    disk.crash();
    let second = disk.lock(path()).expect("free after a crash");
    drop(held);
    assert!(disk.lock(path()).is_err(), "the dead holder's guard frees nothing");
    drop(second);
    disk.lock(path()).expect("free");
}

#[test]
fn publishing_needs_a_free_name() {
    let disk = disk();
    let other = Path::new("/state/other");
    disk.replace(path(), b"new", false).expect("written");
    disk.publish(path(), other).expect("free");
    disk.crash();
    assert_eq!(disk.read(other, 9).expect("durable"), b"new");
    disk.replace(path(), b"newer", false).expect("written");
    assert_eq!(disk.publish(path(), other).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
    let names: Vec<String> =
        disk.list(Path::new("state")).expect("listed").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["file", "other"]);
}
