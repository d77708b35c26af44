//! Reading a running station's metrics.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

/// The longest that a station may take until it serves metrics: in a debug build on a loaded host it makes its packages
/// first.
const START_MAX: Duration = Duration::from_secs(120);

/// The body of a GET, or `None` where nobody listens.
pub(crate) fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    Some(body.to_owned())
}

/// Waits until metrics are served, and goes on reading so that the process never waits for its reader.
pub(crate) fn follow(stderr: impl Read + Send + 'static) -> (String, mpsc::Receiver<String>) {
    let (sender, lines) = mpsc::channel();
    let (found, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let place = line.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics"));
            if let Some(address) = place {
                let _gone = found.send(address.to_owned());
            }
            let _gone = sender.send(line);
        }
    });
    let address = address.recv_timeout(START_MAX);
    (address.unwrap_or_else(|_| panic!("no metrics: {:?}", lines.iter().collect::<Vec<_>>())), lines)
}
