//! A USB/IP client in as few lines as possible, from `Documentation/usb/usbip_protocol.rst` of Linux.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const IN: u32 = 1;
pub(crate) const OUT: u32 = 0;

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).expect("closed with zero");
    assert!(bytes[end..].iter().all(|byte| *byte == 0), "unused bytes are zero");
    String::from_utf8(bytes[..end].to_vec()).expect("text")
}

/// A device of the list: path, bus id, (busnum, devnum, speed), (vendor, product), interface classes.
pub(crate) type Listed = (String, String, (u32, u32, u32), (u16, u16), Vec<[u8; 3]>);

/// The list of devices.
pub(crate) async fn list(address: SocketAddr) -> Vec<Listed> {
    let mut stream = TcpStream::connect(address).await.expect("a server");
    stream.write_all(&[0x01, 0x11, 0x80, 0x05, 0, 0, 0, 0]).await.expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the server closes after the list");
    assert_eq!(bytes[..8], [0x01, 0x11, 0x00, 0x05, 0, 0, 0, 0]);
    let mut at = 12;
    let mut found = Vec::new();
    for _ in 0..word(&bytes, 8) {
        let device = &bytes[at..];
        let numbers = (word(device, 0x120), word(device, 0x124), word(device, 0x128));
        let classes = device[0x138..].chunks(4).take(usize::from(device[0x137]));
        let classes: Vec<[u8; 3]> = classes.map(|class| [class[0], class[1], class[2]]).collect();
        at += 0x138 + 4 * classes.len();
        let ids = (half(device, 0x12c), half(device, 0x12e));
        found.push((text(&device[..0x100]), text(&device[0x100..0x120]), numbers, ids, classes));
    }
    assert_eq!(at, bytes.len());
    found
}

/// A reply to a command: its number, status, and data or the word at `actual_length`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) command: u32,
    pub(crate) seqnum: u32,
    pub(crate) status: i32,
    pub(crate) actual: u32,
    pub(crate) data: Vec<u8>,
}

/// An imported device.
pub(crate) struct Device {
    stream: TcpStream,
    seqnum: u32,
    /// The numbers of IN transfers, whose replies carry data.
    inward: Vec<u32>,
}

impl Device {
    /// Imports a device; `None` when the server refuses.
    pub(crate) async fn import(address: SocketAddr, busid: &str) -> Option<Self> {
        let mut stream = TcpStream::connect(address).await.expect("a server");
        let mut request = vec![0x01, 0x11, 0x80, 0x03, 0, 0, 0, 0];
        request.extend(busid.bytes());
        request.resize(40, 0);
        stream.write_all(&request).await.expect("a request");
        let mut head = [0; 8];
        stream.read_exact(&mut head).await.expect("a reply");
        assert_eq!(head[..4], [0x01, 0x11, 0x00, 0x03]);
        if head[4..] != [0; 4] {
            return None;
        }
        let mut device = vec![0; 0x138];
        stream.read_exact(&mut device).await.expect("the device");
        assert_eq!(text(&device[0x100..0x120]), busid);
        Some(Self { stream, seqnum: 0, inward: Vec::new() })
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("taken");
    }

    /// Submits a transfer; its number.
    pub(crate) async fn submit(
        &mut self,
        direction: u32,
        endpoint: u32,
        setup: [u8; 8],
        length: usize,
        data: &[u8],
    ) -> u32 {
        self.submit_with(0, direction, endpoint, setup, length, data).await
    }

    pub(crate) async fn submit_with(
        &mut self,
        flags: u32,
        direction: u32,
        endpoint: u32,
        setup: [u8; 8],
        length: usize,
        data: &[u8],
    ) -> u32 {
        self.seqnum += 1;
        let length = u32::try_from(length).expect("short");
        let head = [1, self.seqnum, 0x0001_0001, direction, endpoint, flags, length, 0, 0, 0];
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(setup);
        bytes.extend(data);
        self.raw(&bytes).await;
        if direction == IN {
            self.inward.push(self.seqnum);
        }
        self.seqnum
    }

    pub(crate) async fn unlink(&mut self, victim: u32) -> u32 {
        self.seqnum += 1;
        let words = [2, self.seqnum, 0x0001_0001, 0, 0, victim, 0, 0, 0, 0, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        self.raw(&bytes).await;
        self.seqnum
    }

    /// The next reply; `None` once the server has hung up.
    pub(crate) async fn reply(&mut self) -> Option<Reply> {
        let mut head = [0; 48];
        self.stream.read_exact(&mut head).await.ok()?;
        let (command, seqnum, actual) = (word(&head, 0), word(&head, 4), word(&head, 0x18));
        assert!(head[8..20].iter().all(|byte| *byte == 0), "devid, direction and endpoint are 0");
        let has_data = command == 3 && self.inward.contains(&seqnum);
        let mut data = vec![0; if has_data { usize::try_from(actual).expect("short") } else { 0 }];
        self.stream.read_exact(&mut data).await.ok()?;
        let status = i32::from_be_bytes(head[0x14..0x18].try_into().expect("four bytes"));
        Some(Reply { command, seqnum, status, actual, data })
    }

    /// A control transfer: its status and data.
    pub(crate) async fn control(&mut self, setup: [u8; 8]) -> (i32, Vec<u8>) {
        let direction = u32::from(setup[0] >> 7);
        let length = usize::from(u16::from_le_bytes([setup[6], setup[7]]));
        let number = self.submit(direction, 0, setup, length, &vec![0; if direction == IN { 0 } else { length }]).await;
        let reply = self.reply().await.expect("an answer");
        assert_eq!((reply.command, reply.seqnum), (3, number));
        (reply.status, reply.data)
    }

    /// Sends to a bulk endpoint.
    pub(crate) async fn send(&mut self, endpoint: u32, bytes: &[u8]) {
        let number = self.submit(OUT, endpoint, [0; 8], bytes.len(), bytes).await;
        let reply = self.reply().await.expect("an answer");
        assert_eq!((reply.seqnum, reply.status, reply.actual as usize), (number, 0, bytes.len()));
    }

    /// Reads a bulk endpoint until what came ends with `end`.
    pub(crate) async fn read_until(&mut self, endpoint: u32, end: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        while !found.ends_with(end) {
            self.submit(IN, endpoint, [0; 8], 512, &[]).await;
            let reply = self.reply().await.expect("the device is there");
            assert_eq!((reply.command, reply.status), (3, 0));
            found.extend(reply.data);
        }
        found
    }
}
