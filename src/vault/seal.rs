//! The outer layer of a stored backup: what keeps it small, and from eyes it is not for.
//!
//! The file (`.smb.age`) is an age file (<https://age-encryption.org/v1>) for the station's key and for a recovery key
//! that is kept elsewhere. In it stands a zstd stream: first a skippable frame with the label, then one frame with the
//! content. So a vault can be read without this program: `age -d -i KEY FILE | zstd -d` gives the content, and the
//! SHA-256 of that is the backup's name.
//!
//! The randomness of a seal is its own, from the operating system, and nothing that is recorded depends on it.

use std::io::{self, BufReader, Read, Write};

use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::section::{ReadError, Section};
use crate::domain::{RunId, Sha256Digest, limits};
use crate::host::{AppendFile, ReadAt};

/// Fast, and an eighth of the memory of the default level.
const LEVEL: i32 = 1;
/// The window of the compression, as a power of two in bytes: what one backup needs of memory, several times over.
pub(super) const WINDOW_LOG: u32 = 16;
/// Bytes written and read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a frame begins with that a zstd decoder passes over.
const SKIPPABLE: [u8; 4] = 0x184d_2a50_u32.to_le_bytes();
/// What an age file begins with.
const HEAD_START: &[u8] = b"age-encryption.org/";
/// What the last line of the head of an age file begins with.
const HEAD_END: &[u8] = b"\n--- ";
/// Most bytes of a sealed file: incompressible content, with what the layers add.
pub(super) const FILE_BYTES_MAX: u64 =
    limits::BACKUP_BYTES_MAX + limits::BACKUP_BYTES_MAX / 64 + limits::BACKUP_INDEX_BYTES_MAX;

/// What stands on a backup besides its content: when and why it was taken. Not part of its name, so that the same
/// content is the same backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Label {
    /// When its reading began, by the station's wall clock: for people; what is older is told by the vault's numbers.
    pub taken: Timestamp,
    /// The run that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Why a repair must not use it, although it is what was read. `None` for a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<String>,
}

/// The file, written in large pieces.
struct Sink {
    file: Box<dyn AppendFile>,
    buffer: Vec<u8>,
    /// Of everything that was appended.
    hasher: Sha256,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Seals what is written to it.
pub(super) struct Sealing {
    encoder: zstd::stream::write::Encoder<'static, StreamWriter<Sink>>,
}

impl Sealing {
    pub(super) fn begin(
        file: Box<dyn AppendFile>,
        recipients: &[age::x25519::Recipient],
        label: &Label,
    ) -> io::Result<Self> {
        let recipients = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let sink = Sink { file, buffer: Vec::with_capacity(2 * CHUNK_BYTES), hasher: Sha256::new() };
        let mut writer = encryptor.wrap_output(sink)?;
        // The head of an age file has a random length; what follows is then cut as the content is, so that a disk that
        // fails at its n-th call fails at the same place again.
        writer.flush()?;
        let text = serde_json::to_vec(label)?;
        let length = u32::try_from(text.len()).ok().filter(|length| *length <= limits::BACKUP_LABEL_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("the label is too long"))?;
        writer.write_all(&SKIPPABLE)?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(&text)?;
        let mut encoder = zstd::stream::write::Encoder::new(writer, LEVEL)?;
        encoder.window_log(WINDOW_LOG)?;
        encoder.include_checksum(true)?;
        Ok(Self { encoder })
    }

    /// Ends the file and makes it durable; gives the digest of what is in it now.
    pub(super) fn finish(self) -> io::Result<Sha256Digest> {
        let mut sink = self.encoder.finish()?.finish()?;
        sink.flush()?;
        sink.file.sync()?;
        Ok(Sha256Digest::finish(sink.hasher))
    }
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

type Opened<'a> = StreamReader<BufReader<Section<'a>>>;

/// Gives what was sealed.
pub(super) struct Unsealing<'a> {
    decoder: zstd::stream::read::Decoder<'static, BufReader<Opened<'a>>>,
}

/// Opens a sealed file; gives its label and its content.
pub(super) fn open<'a>(
    file: &'a dyn ReadAt,
    identities: &[age::x25519::Identity],
) -> Result<(Label, Unsealing<'a>), ReadError> {
    let bytes = file.bytes()?;
    if bytes > FILE_BYTES_MAX {
        return Err(ReadError::Damaged(format!("it has {bytes} bytes, more than a backup can have")));
    }
    check_head(file, bytes)?;
    let section = BufReader::with_capacity(CHUNK_BYTES, Section::new(file, 0, bytes));
    let decryptor = Decryptor::new_buffered(section).map_err(closed)?;
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, decryptor.decrypt(identities).map_err(closed)?);
    let mut start = [0; 8];
    let broken = |error| ReadError::through(error, "opening its seal");
    reader.read_exact(&mut start).map_err(broken)?;
    let (magic, length) = start.split_at(4);
    let length = u32::from_le_bytes(length.try_into().map_err(|_| ReadError::damaged("it is cut off"))?);
    if magic != SKIPPABLE || length > limits::BACKUP_LABEL_BYTES_MAX {
        return Err(ReadError::damaged("it has no label"));
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    reader.read_exact(&mut text).map_err(broken)?;
    let label = serde_json::from_slice(&text).map_err(|error| format!("its label cannot be read: {error}"))?;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    Ok((label, Unsealing { decoder }))
}

/// Whether the head of an age file ends within its bound: its reader looks at all of it again for each line.
fn check_head(file: &dyn ReadAt, bytes: u64) -> Result<(), ReadError> {
    let length = usize::try_from(bytes.min(limits::SEAL_HEAD_BYTES_MAX)).unwrap_or(usize::MAX);
    let mut start = vec![0; length];
    file.read_exact_at(&mut start, 0)?;
    if start.windows(HEAD_END.len()).any(|window| window == HEAD_END) {
        return Ok(());
    }
    Err(ReadError::damaged(match bytes {
        0 => "it is empty",
        _ if !start.starts_with(HEAD_START) => "it is no sealed backup: it does not begin like one",
        _ if bytes < limits::SEAL_HEAD_BYTES_MAX => "it is cut off in its head",
        _ => "its head is longer than that of a backup",
    }))
}

fn closed(error: DecryptError) -> ReadError {
    match error {
        DecryptError::Io(error) => ReadError::through(error, "opening its seal"),
        DecryptError::NoMatchingKeys => ReadError::OtherKey,
        DecryptError::UnknownFormat => ReadError::damaged("it is no sealed backup"),
        other => {
            tracing::debug!(error = %other, "the head of a sealed file is damaged");
            ReadError::damaged("its head was altered")
        }
    }
}

impl Unsealing<'_> {
    /// After the last byte of the content: whether nothing follows, in any layer.
    pub(super) fn finish(mut self) -> Result<(), ReadError> {
        let broken = |error| ReadError::through(error, "opening its seal");
        if self.decoder.read(&mut [0]).map_err(broken)? != 0 {
            return Err(ReadError::damaged("something stands behind its content"));
        }
        let mut inner = self.decoder.finish();
        match inner.read(&mut [0]).map_err(broken)? {
            0 => Ok(()),
            _ => Err(ReadError::damaged("something stands behind its content")),
        }
    }
}

impl Read for Unsealing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer)
    }
}
