//! Asking a USB/IP server: what it exports, and for one of its devices. What happens on an imported device's connection
//! is the business of whoever gets it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codec::{self, CodecError, DeviceInfo, Imported};
use crate::domain::limits;
use crate::host::{Clock, Elapsed};

/// Longest list, in bytes.
const LIST_BYTES_MAX: usize = 1024 * 1024;

/// Why a server did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached, or hung up.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It says nothing.
    #[error("no answer")]
    Silent(#[from] Elapsed),
    /// It speaks another protocol.
    #[error("no USB/IP server: {0}")]
    Codec(#[from] CodecError),
    /// It does not give the device: it is not there, or another client has it.
    #[error("the device is not there or somebody else has it (status {0})")]
    Refused(u32),
}

/// The list of a server's devices.
///
/// # Errors
/// When it cannot be reached, says nothing, or no list.
pub async fn list(address: &str) -> Result<Vec<DeviceInfo>, ClientError> {
    Clock::real().timeout(limits::USBIP_GREETING_TIME_MAX, list_now(address)).await?
}

async fn list_now(address: &str) -> Result<Vec<DeviceInfo>, ClientError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&codec::list_request()).await?;
    let mut bytes = Vec::new();
    loop {
        if let Some(devices) = codec::parse_list(&bytes)? {
            return Ok(devices);
        }
        if bytes.len() > LIST_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Imports a device: the connection, on which nothing but the reply was read, and the device.
///
/// # Errors
/// As [`list`], and [`ClientError::Refused`].
pub async fn import(address: &str, busid: &str) -> Result<(TcpStream, DeviceInfo), ClientError> {
    Clock::real().timeout(limits::USBIP_GREETING_TIME_MAX, import_now(address, busid)).await?
}

async fn import_now(address: &str, busid: &str) -> Result<(TcpStream, DeviceInfo), ClientError> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&codec::import_request(busid)).await?;
    let mut bytes = vec![0; codec::OP_BYTES];
    stream.read_exact(&mut bytes).await?;
    let whole = codec::import_reply_bytes(&bytes)?.unwrap_or(bytes.len());
    bytes.resize(whole, 0);
    stream.read_exact(&mut bytes[codec::OP_BYTES..]).await?;
    match codec::parse_import(&bytes)? {
        Some(Imported::Yes(device)) => Ok((stream, device)),
        Some(Imported::No(status)) => Err(ClientError::Refused(status)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}
