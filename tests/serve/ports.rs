//! What a program meets that opens a module's ports as terminals.

#![expect(clippy::disallowed_methods, reason = "terminals and their links are on the real disk")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use stationmaster::sim::pty;

use crate::client::Device;
use crate::rig::{EG25, RM520N, Rig};

/// A plain reader and writer, as any program has it.
struct Port(File);

impl Port {
    /// Opens a port as soon as it is there.
    fn open(path: &Path) -> Self {
        loop {
            match OpenOptions::new().read(true).write(true).open(path) {
                Ok(file) => return Self(file),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("taken");
    }

    fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        let mut byte = [0];
        while !found.ends_with(end) {
            self.0.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {found:?}"));
            found.push(byte[0]);
        }
        found
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn served(rig: &Rig) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path: PathBuf = directory.path().to_owned();
    pty::prepare(&path, ["A1"].into_iter()).expect("ready");
    tokio::spawn(pty::serve(path, rig.factory.exports(), rig.stop.clone()));
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_come_and_go_with_the_mode_and_hang_up() {
    let rig = Rig::start(&[RM520N]).await;
    let directory = served(&rig).await;
    let path = directory.path().to_owned();
    let spoken = tokio::task::spawn_blocking(move || {
        let mut at = Port::open(&path.join("A1.at"));
        at.read_until(b"PB DONE\r\n");
        at.write(b"ATI\r");
        let reply = String::from_utf8(at.read_until(b"OK\r\n")).expect("text");
        drop(at);
        // Closed and opened again: another program, the same port.
        let mut at = Port::open(&path.join("A1.at"));
        at.write(b"ATE0\r");
        at.read_until(b"OK\r\n");
        let mut diag = Port::open(&path.join("A1.diag"));
        let frame = [0x4b, 0x65, 0x01, 0x00, 0x54, 0x0f, 0x7e];
        diag.write(&frame);
        assert_eq!(diag.read_until(&[0x7e]), frame);
        let mut rest = Vec::new();
        let hung_up = diag.0.read_to_end(&mut rest).map(|_| rest).unwrap_or_default();
        assert_eq!((hung_up, at.0.read(&mut [0; 8]).unwrap_or_default()), (vec![], 0));
        let mut edl = Port::open(&path.join("A1.edl"));
        let mut hello = [0; 0x30];
        edl.0.read_exact(&mut hello).expect("HELLO");
        (reply, hello, names(&path))
    });
    let (reply, hello, names) = spoken.await.expect("no panic");
    assert!(reply.contains("RM520N-GL"), "{reply}");
    assert_eq!((hello[0], hello[4]), (1, 0x30));
    assert_eq!(names, ["A1.edl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_first_has_the_module() {
    let rig = Rig::start(&[EG25]).await;
    let directory = served(&rig).await;
    let path = directory.path().join("A1.at");
    let mut at = tokio::task::spawn_blocking(move || {
        let mut at = Port::open(&path);
        at.read_until(b"PB DONE\r\n");
        at
    })
    .await
    .expect("no panic");
    assert!(Device::import(rig.address, "1-1").await.is_none(), "a program has its AT port");
    at = tokio::task::spawn_blocking(move || {
        at.write(b"AT\r");
        at.read_until(b"OK\r\n");
        at
    })
    .await
    .expect("no panic");
    drop(at);
    let device = loop {
        if let Some(device) = Device::import(rig.address, "1-1").await {
            break device;
        }
        tokio::task::yield_now().await;
    };
    drop(device);
}

#[test]
fn what_is_no_link_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("A1.at"), "a note").expect("writable");
    let error = pty::prepare(directory.path(), ["A1"].into_iter()).expect_err("refused");
    assert!(error.to_string().contains("A1.at is no link"), "{error}");
    std::os::unix::fs::symlink("/dev/null", directory.path().join("A2.edl")).expect("a link");
    pty::prepare(directory.path(), ["A2"].into_iter()).expect("ready");
    assert_eq!(names(directory.path()), ["A1.at"]);
}
