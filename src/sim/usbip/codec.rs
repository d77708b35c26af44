//! Messages of USB/IP 1.1.1 as bytes. All numbers are big endian.
//!
//! A connection begins with one request: the list of devices, or the import of one. After a successful import it
//! carries commands, a header of 48 bytes each, with the data of OUT transfers behind it.

use bytes::{Buf, BytesMut};

use crate::domain::limits;

const VERSION: u16 = 0x0111;
const REQ_DEVLIST: u16 = 0x8005;
const REP_DEVLIST: u16 = 0x0005;
const REQ_IMPORT: u16 = 0x8003;
const REP_IMPORT: u16 = 0x0003;
const STATUS_OK: u32 = 0;

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
const DIRECTION_IN: u32 = 1;

/// Lengths of the parts, in bytes.
pub(super) const OP_BYTES: usize = 8;
const BUSID_BYTES: usize = 32;
const PATH_BYTES: usize = 256;
const DEVICE_BYTES: usize = PATH_BYTES + BUSID_BYTES + 24;
const HEADER_BYTES: usize = 48;

/// Transfers that are not isochronous have no packets: 0 says Linux, and this its documentation.
const NO_PACKETS: u32 = u32::MAX;

/// `transfer_flags`: an IN transfer must be filled; whole packets are followed by a zero-length one
/// (`include/uapi/linux/usbip.h`).
const FLAG_SHORT_NOT_OK: u32 = 0x0001;
const FLAG_ZERO_PACKET: u32 = 0x0040;

/// `speed` of a full-speed device (`enum usb_device_speed` of Linux).
pub const SPEED_FULL: u32 = 2;
/// `speed` of a high-speed device.
pub const SPEED_HIGH: u32 = 3;
/// `speed` of a SuperSpeed device.
pub const SPEED_SUPER: u32 = 5;

/// `-ENOENT`: no such endpoint.
pub(super) const ENOENT: i32 = -2;
/// `-ENOMEM`: no further transfer is taken.
pub(super) const ENOMEM: i32 = -12;
/// `-ESHUTDOWN`: the device left. Unlike `-EPROTO` it tells drivers not to try again (Linux,
/// `Documentation/driver-api/usb/error-codes.rst`).
pub(super) const ESHUTDOWN: i32 = -108;
/// `-EPIPE`: stalled.
pub(super) const EPIPE: i32 = -32;
/// `-EOVERFLOW`: babble.
pub(super) const EOVERFLOW: i32 = -75;
/// `-ECONNRESET`: unlinked.
pub(super) const ECONNRESET: i32 = -104;
/// `-EREMOTEIO`: shorter than allowed.
pub(super) const EREMOTEIO: i32 = -121;

/// What is wrong with a peer's bytes. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Another version of the protocol.
    #[error("version {0:04x} instead of 0111")]
    Version(u16),
    /// A request or reply that does not exist, or not here.
    #[error("code {0:04x} is unknown here")]
    Code(u16),
    /// A command that does not exist.
    #[error("command {0} is unknown")]
    Command(u32),
    /// A transfer is too long.
    #[error("a transfer of {0} bytes is too long")]
    Length(u32),
    /// An endpoint's number is too high.
    #[error("there is no endpoint {0}")]
    Endpoint(u32),
    /// Isochronous transfers.
    #[error("isochronous transfers are not supported")]
    Isochronous,
    /// A list of more devices or interfaces than there can be.
    #[error("a list of {0} entries is too long")]
    Count(u32),
    /// A text that does not end, or is none.
    #[error("a text has no end or is not printable")]
    Text,
}

/// The first message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// The list of devices.
    List,
    /// The device with this bus id.
    Import(String),
}

/// A command of a client that has imported a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Submit a transfer.
    Submit(Submit),
    /// Take one back.
    Unlink {
        /// The command's number.
        seqnum: u32,
        /// The number of the transfer's command.
        victim: u32,
    },
}

/// A transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submit {
    pub(super) seqnum: u32,
    /// The endpoint's number, 0 to 15.
    pub(super) endpoint: u8,
    pub(super) is_in: bool,
    /// What an IN transfer may bring, in bytes.
    pub(super) bytes_max: u32,
    /// What an OUT transfer carries.
    pub(super) data: Vec<u8>,
    pub(super) setup: [u8; 8],
    pub(super) short_not_ok: bool,
    pub(super) zero_packet: bool,
    /// `start_frame` and `number_of_packets`, which mean nothing here; the client gets them back as it gave them.
    pub(super) frames: (u32, u32),
}

/// A device of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Where it is at its server; simulated modules: `/stationmaster/SLOT/usb2` or `…/usb3`.
    pub path: String,
    /// Its bus id.
    pub busid: String,
    /// The number of its bus.
    pub busnum: u32,
    /// Its number there.
    pub devnum: u32,
    /// Its speed: [`SPEED_FULL`], [`SPEED_HIGH`], [`SPEED_SUPER`].
    pub speed: u32,
    /// `idVendor`.
    pub vendor_id: u16,
    /// `idProduct`.
    pub product_id: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// Class, subclass, protocol of each interface. Not part of the reply to an import.
    pub interfaces: Vec<(u8, u8, u8)>,
}

impl DeviceInfo {
    /// How commands name the device.
    #[must_use]
    pub const fn devid(&self) -> u32 {
        self.busnum << 16 | self.devnum
    }

    fn put(&self, configuration: u8, into: &mut Vec<u8>) {
        put_text(&self.path, PATH_BYTES, into);
        put_text(&self.busid, BUSID_BYTES, into);
        [self.busnum, self.devnum, self.speed].iter().for_each(|word| into.extend(word.to_be_bytes()));
        [self.vendor_id, self.product_id, self.bcd_device].iter().for_each(|half| into.extend(half.to_be_bytes()));
        let interfaces = u8::try_from(self.interfaces.len()).unwrap_or(u8::MAX);
        into.extend([0, 0, 0, configuration, 1, interfaces]);
    }

    /// Reads the fixed part; how many interfaces follow in a list.
    fn parse(mut bytes: &[u8]) -> Result<(Self, u8), CodecError> {
        let path = text(&bytes[..PATH_BYTES])?;
        bytes.advance(PATH_BYTES);
        let busid = text(&bytes[..BUSID_BYTES])?;
        bytes.advance(BUSID_BYTES);
        let (busnum, devnum, speed) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u32());
        let (vendor_id, product_id, bcd_device) = (bytes.get_u16(), bytes.get_u16(), bytes.get_u16());
        let interfaces = bytes[5];
        let info =
            Self { path, busid, busnum, devnum, speed, vendor_id, product_id, bcd_device, interfaces: Vec::new() };
        Ok((info, interfaces))
    }
}

fn put_text(text: &str, bytes: usize, into: &mut Vec<u8>) {
    let kept = text.len().min(bytes - 1);
    into.extend(&text.as_bytes()[..kept]);
    into.resize(into.len() + bytes - kept, 0);
}

fn text(bytes: &[u8]) -> Result<String, CodecError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(CodecError::Text)?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| CodecError::Text)?;
    if text.chars().any(|c| !c.is_ascii_graphic() && c != ' ') {
        return Err(CodecError::Text);
    }
    Ok(text.to_owned())
}

fn put_op(code: u16, status: u32, into: &mut Vec<u8>) {
    into.extend(VERSION.to_be_bytes());
    into.extend(code.to_be_bytes());
    into.extend(status.to_be_bytes());
}

/// Reads the head of a request or reply: its code and status.
fn op(bytes: &[u8]) -> Option<Result<(u16, u32), CodecError>> {
    let mut head = bytes.get(..OP_BYTES)?;
    let (version, code, status) = (head.get_u16(), head.get_u16(), head.get_u32());
    Some(if version == VERSION { Ok((code, status)) } else { Err(CodecError::Version(version)) })
}

// The server's side.

/// Takes a request from the front of `buffer`, once it is whole.
pub(super) fn request(buffer: &mut BytesMut) -> Result<Option<Request>, CodecError> {
    let (code, _) = match op(buffer) {
        None => return Ok(None),
        Some(head) => head?,
    };
    match code {
        REQ_DEVLIST => {
            buffer.advance(OP_BYTES);
            Ok(Some(Request::List))
        }
        REQ_IMPORT if buffer.len() < OP_BYTES + BUSID_BYTES => Ok(None),
        REQ_IMPORT => {
            let busid = text(&buffer[OP_BYTES..OP_BYTES + BUSID_BYTES])?;
            buffer.advance(OP_BYTES + BUSID_BYTES);
            Ok(Some(Request::Import(busid)))
        }
        other => Err(CodecError::Code(other)),
    }
}

/// Takes a command from the front of `buffer`, once it is whole, with its data.
pub(super) fn command(buffer: &mut BytesMut) -> Result<Option<Command>, CodecError> {
    let Some(mut head) = buffer.get(..HEADER_BYTES) else { return Ok(None) };
    let (kind, seqnum, _devid, direction) = (head.get_u32(), head.get_u32(), head.get_u32(), head.get_u32());
    let endpoint = head.get_u32();
    match kind {
        CMD_UNLINK => {
            let victim = head.get_u32();
            buffer.advance(HEADER_BYTES);
            Ok(Some(Command::Unlink { seqnum, victim }))
        }
        CMD_SUBMIT => {
            let (flags, length, start_frame) = (head.get_u32(), head.get_u32(), head.get_u32());
            let (packets, _interval) = (head.get_u32(), head.get_u32());
            let mut setup = [0; 8];
            head.copy_to_slice(&mut setup);
            if length > limits::USBIP_TRANSFER_BYTES_MAX {
                return Err(CodecError::Length(length));
            }
            if packets != 0 && packets != NO_PACKETS {
                return Err(CodecError::Isochronous);
            }
            let number = u8::try_from(endpoint).ok().filter(|number| *number < 16);
            let endpoint = number.ok_or(CodecError::Endpoint(endpoint))?;
            let is_in = direction == DIRECTION_IN;
            let data_bytes = if is_in { 0 } else { usize::try_from(length).unwrap_or(usize::MAX) };
            let whole = HEADER_BYTES.saturating_add(data_bytes);
            if buffer.len() < whole {
                buffer.reserve(whole - buffer.len());
                return Ok(None);
            }
            buffer.advance(HEADER_BYTES);
            let data = buffer.split_to(data_bytes).to_vec();
            Ok(Some(Command::Submit(Submit {
                seqnum,
                endpoint,
                is_in,
                bytes_max: length,
                data,
                setup,
                short_not_ok: flags & FLAG_SHORT_NOT_OK != 0,
                zero_packet: flags & FLAG_ZERO_PACKET != 0,
                frames: (start_frame, packets),
            })))
        }
        other => Err(CodecError::Command(other)),
    }
}

/// The reply to [`Request::List`].
pub(super) fn list_reply(devices: &[DeviceInfo], configuration: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_op(REP_DEVLIST, STATUS_OK, &mut bytes);
    bytes.extend(u32::try_from(devices.len()).unwrap_or(u32::MAX).to_be_bytes());
    for device in devices {
        device.put(configuration, &mut bytes);
        device.interfaces.iter().for_each(|(class, sub, protocol)| bytes.extend([*class, *sub, *protocol, 0]));
    }
    bytes
}

/// The reply to [`Request::Import`]; `None` where there is no such device, or somebody has it.
pub(super) fn import_reply(device: Option<&DeviceInfo>, configuration: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_op(REP_IMPORT, u32::from(device.is_none()), &mut bytes);
    if let Some(device) = device {
        device.put(configuration, &mut bytes);
    }
    bytes
}

/// A transfer has ended.
pub(super) fn put_submitted(
    seqnum: u32,
    status: i32,
    actual: usize,
    frames: (u32, u32),
    data: &[u8],
    into: &mut BytesMut,
) {
    let actual = u32::try_from(actual).unwrap_or(u32::MAX);
    [RET_SUBMIT, seqnum, 0, 0, 0].iter().for_each(|word| into.extend(word.to_be_bytes()));
    into.extend(status.to_be_bytes());
    [actual, frames.0, frames.1, 0, 0, 0].iter().for_each(|word| into.extend(word.to_be_bytes()));
    into.extend_from_slice(data);
}

/// A transfer was taken back (`-ECONNRESET`), or had ended before (0).
pub(super) fn put_unlinked(seqnum: u32, status: i32, into: &mut BytesMut) {
    [RET_UNLINK, seqnum, 0, 0, 0].iter().for_each(|word| into.extend(word.to_be_bytes()));
    into.extend(status.to_be_bytes());
    into.extend([0; HEADER_BYTES - 24]);
}

// The client's side.

/// Asks for the list.
pub(super) fn list_request() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_op(REQ_DEVLIST, STATUS_OK, &mut bytes);
    bytes
}

/// Asks for a device.
pub(super) fn import_request(busid: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_op(REQ_IMPORT, STATUS_OK, &mut bytes);
    put_text(busid, BUSID_BYTES, &mut bytes);
    bytes
}

/// Reads the reply to a request for the list; `None` while it is not whole.
pub(super) fn parse_list(bytes: &[u8]) -> Result<Option<Vec<DeviceInfo>>, CodecError> {
    match op(bytes) {
        None => return Ok(None),
        Some(Ok((REP_DEVLIST, STATUS_OK))) => {}
        Some(Ok((code, _))) => return Err(CodecError::Code(code)),
        Some(Err(error)) => return Err(error),
    }
    let mut rest = &bytes[OP_BYTES..];
    if rest.len() < 4 {
        return Ok(None);
    }
    let count = rest.get_u32();
    if count > limits::USBIP_DEVICES_MAX {
        return Err(CodecError::Count(count));
    }
    let mut devices = Vec::new();
    for _ in 0..count {
        let Some(fixed) = rest.get(..DEVICE_BYTES) else { return Ok(None) };
        let (mut device, interfaces) = DeviceInfo::parse(fixed)?;
        rest.advance(DEVICE_BYTES);
        if interfaces > limits::USBIP_INTERFACES_MAX {
            return Err(CodecError::Count(u32::from(interfaces)));
        }
        let Some(classes) = rest.get(..4 * usize::from(interfaces)) else { return Ok(None) };
        device.interfaces = classes.chunks_exact(4).map(|class| (class[0], class[1], class[2])).collect();
        rest.advance(classes.len());
        devices.push(device);
    }
    Ok(Some(devices))
}

/// What a server made of a request for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Imported {
    /// It is ours.
    Yes(DeviceInfo),
    /// It is not, with this status.
    No(u32),
}

/// How many bytes the reply to an import has that begins so; `None` while that cannot be known. Nothing behind the
/// reply may be read by whoever hands the connection on.
pub(super) fn import_reply_bytes(bytes: &[u8]) -> Result<Option<usize>, CodecError> {
    match op(bytes) {
        None => Ok(None),
        Some(Ok((REP_IMPORT, STATUS_OK))) => Ok(Some(OP_BYTES + DEVICE_BYTES)),
        Some(Ok((REP_IMPORT, _))) => Ok(Some(OP_BYTES)),
        Some(Ok((code, _))) => Err(CodecError::Code(code)),
        Some(Err(error)) => Err(error),
    }
}

/// Reads the whole reply to an import.
pub(super) fn parse_import(bytes: &[u8]) -> Result<Option<Imported>, CodecError> {
    let Some(whole) = import_reply_bytes(bytes)? else { return Ok(None) };
    match (op(bytes), bytes.get(OP_BYTES..whole)) {
        (Some(Ok((_, STATUS_OK))), Some(fixed)) => Ok(Some(Imported::Yes(DeviceInfo::parse(fixed)?.0))),
        (Some(Ok((_, status))), Some(_)) => Ok(Some(Imported::No(status))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
