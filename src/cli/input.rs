//! What people type: lines of standard input.

use std::io::{BufRead, Read};

use tokio::sync::mpsc;

use crate::domain::limits;

/// Lines that may wait to be obeyed.
const LINES_MAX: usize = 16;

/// The lines of standard input; ends where that ends. A line that is too long is cut, and its rest is a line of its
/// own.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || read_lines(&sender));
    lines
}

fn read_lines(sender: &mpsc::Sender<String>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut bytes = Vec::new();
        match input.by_ref().take(limits::INPUT_LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if sender.blocking_send(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
            return;
        }
    }
}
