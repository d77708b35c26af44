//! The commands that have to do with the module as a whole.

use super::error::ReplyError;
use super::request::{Body, Request};
use crate::domain::limits::DEVICE_TEXT_CHARS_MAX;
use crate::domain::text::printable;

/// The service programming code of a module that nobody has given another one: six ASCII zeros.
pub const DEFAULT_UNLOCK_CODE: [u8; 6] = *b"000000";
/// The security password of a module that nobody has given another one.
pub const DEFAULT_PASSWORD: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];

/// Where the build's name stands in the answer to `7C`, in bytes from the command on.
const BUILD_ID_OFFSET: usize = 13;

/// What the module's software says of itself (`00`). The layout is general knowledge about DIAG and was not checked
/// against a real module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Date and time of its compilation.
    pub compiled: String,
    /// Date and time of its release.
    pub released: String,
    /// Name of its build directory.
    pub directory: String,
}

fn text<const N: usize>(body: &mut Body<'_>) -> Result<String, ReplyError> {
    let bytes = body.array::<N>()?;
    let used = bytes.iter().position(|byte| *byte == 0).unwrap_or(N);
    Ok(printable(String::from_utf8_lossy(&bytes[..used]).trim(), DEVICE_TEXT_CHARS_MAX))
}

/// Asks for the software's dates.
#[must_use]
pub fn version() -> Request<Version> {
    Request::new("version", vec![0x00], 1, |body| {
        let compiled = format!("{} {}", text::<11>(body)?, text::<8>(body)?);
        let released = format!("{} {}", text::<11>(body)?, text::<8>(body)?);
        // Station class, protocol revisions and hardware revision follow.
        Ok(Some(Version { compiled, released, directory: text::<8>(body)? }))
    })
}

/// Asks for the full name of the firmware (`7C`), as the vendor's own flasher reads it before and after.
#[must_use]
pub fn build_id() -> Request<String> {
    Request::new("build id", vec![0x7c], 1, |body| {
        body.array::<{ BUILD_ID_OFFSET - 1 }>()?;
        let name = printable(&String::from_utf8_lossy(body.text()), DEVICE_TEXT_CHARS_MAX);
        if name.is_empty() { Err(body.malformed("the build has no name")) } else { Ok(Some(name)) }
    })
}

/// Asks for the electronic serial number (`01`). Never an identity: modules without CDMA hold what they like in it.
#[must_use]
pub fn electronic_serial() -> Request<u32> {
    Request::new("electronic serial", vec![0x01], 1, |body| {
        let serial = body.u32()?;
        body.end()?;
        Ok(Some(serial))
    })
}

fn accepted(command: &'static str) -> impl Fn(&mut Body<'_>) -> Result<Option<()>, ReplyError> {
    move |body| {
        let verdict = body.u8()?;
        body.end()?;
        if verdict == 1 { Ok(Some(())) } else { Err(ReplyError::Denied { command }) }
    }
}

/// Sends the service programming code (`41`). Some modules count wrong ones, so it is sent once.
#[must_use]
pub fn unlock(code: [u8; 6]) -> Request<()> {
    const NAME: &str = "service programming code";
    Request::new(NAME, [&[0x41], code.as_slice()].concat(), 1, accepted(NAME)).once()
}

/// Sends the security password (`46`). Some modules count wrong ones, so it is sent once.
#[must_use]
pub fn password(password: [u8; 8]) -> Request<()> {
    const NAME: &str = "security password";
    Request::new(NAME, [&[0x46], password.as_slice()].concat(), 1, accepted(NAME)).once()
}

/// What a module can be switched to (`29`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Offline: no radio, NV items may be written. Only a reset leads out of it.
    Offline,
    /// Restart.
    Reset,
}

impl Mode {
    const fn word(self) -> u16 {
        match self {
            Self::Offline => 1,
            Self::Reset => 2,
        }
    }
}

/// Switches the module's mode. It answers with the same bytes before it acts. Sent once: a second reset would restart
/// it again.
#[must_use]
pub fn control(mode: Mode) -> Request<()> {
    let payload = [&[0x29], mode.word().to_le_bytes().as_slice()].concat();
    Request::new("mode control", payload, 3, |body| body.end().map(Some)).once()
}
