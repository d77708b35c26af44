//! How fast the wire's bytes are understood, on one thread. A module sends at most 40 MB/s over one root port.
//!
//! `cargo bench --bench codecs`

#![expect(clippy::disallowed_methods, reason = "a bench measures the host itself, with its own clock")]
#![expect(clippy::print_stdout, reason = "its result is what it prints")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{median, print_machine};
use stationmaster::protocol::at::Exchange;
use stationmaster::protocol::firehose::Inbox;

/// Bytes that each codec is fed in one round.
const ROUND_BYTES: usize = 16 * 1024 * 1024;
const ROUNDS: usize = 11;
/// Bytes of an IN transfer.
const TRANSFER_BYTES: usize = 16 * 1024;

fn main() {
    print_machine();
    let line =
        b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data><log value=\"INFO: NAND bad block skipped: 123\" /></data>";
    measure("Firehose, log lines", line.len(), || {
        let mut inbox = Inbox::new();
        for _ in 0..ROUND_BYTES / line.len() {
            inbox.feed(line);
            while let Some(message) = inbox.next().expect("a document") {
                black_box(message);
            }
        }
    });
    let chunk = vec![0x5a; TRANSFER_BYTES];
    measure("Firehose, data that is read", TRANSFER_BYTES, || {
        let mut inbox = Inbox::new();
        inbox.expect_raw(ROUND_BYTES as u64);
        for _ in 0..ROUND_BYTES / TRANSFER_BYTES {
            inbox.feed(&chunk);
            while let Some(bytes) = inbox.take_raw() {
                black_box(bytes);
            }
        }
    });
    let reply = b"AT+QNWPREFCFG=\"nr5g_band\"\r\r\n+QNWPREFCFG: \"nr5g_band\",1:2:3:5:7:8:12:20:25:28:38:40:41:77:78\r\n\r\nOK\r\n";
    measure("AT, replies with echo", reply.len(), || {
        for _ in 0..ROUND_BYTES / reply.len() {
            let mut exchange = Exchange::new("AT+QNWPREFCFG=\"nr5g_band\"");
            black_box(exchange.feed(reply).expect("a reply").expect("it is complete"));
        }
    });
}

#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
fn measure(name: &str, piece: usize, round: impl Fn()) {
    let bytes = ROUND_BYTES / piece * piece;
    let rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            round();
            bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
        })
        .collect();
    println!("{name:<28} median {:8.0} MB/s ({piece} bytes at a time)", median(&rates));
}
