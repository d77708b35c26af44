//! Writing an XQCN file, as public tools do: single quotes, upper-case digits. What would not be read again as it is,
//! is refused.

use std::collections::BTreeSet;

use super::encoding::{escape, hex};
use super::error::XqcnWriteError;
use super::{
    ARRAYS, BACKUP_HEADER, CONFIGURATION, DATA, DIRECTORY, FEATURES, FILE_VERSION, ITEMS, MODEL, NAME_CHARS_MAX,
    PROPERTIES, PROPERTIES_MAGIC, RECORD_BYTES, RECORD_WORD, Section, VERSION, Xqcn, XqcnFile,
};
use crate::domain::limits::{DEVICE_TEXT_CHARS_MAX, EFS_FILE_BYTES_MAX, XQCN_BYTES_MAX, XQCN_STREAMS_MAX};
use crate::domain::text::printable;
use crate::protocol::diag::efs::EfsPath;

struct Writer {
    text: String,
    depth: usize,
    /// Storages and streams so far.
    elements: usize,
}

impl Writer {
    /// Begins a storage or stream on a line of its own.
    fn element(&mut self, tag: &str) -> Result<(), XqcnWriteError> {
        self.elements += 1;
        if self.elements > XQCN_STREAMS_MAX {
            return Err(XqcnWriteError::TooMany);
        }
        self.indent();
        self.text.push_str(tag);
        Ok(())
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn storage(
        &mut self,
        name: &str,
        inside: impl FnOnce(&mut Self) -> Result<(), XqcnWriteError>,
    ) -> Result<(), XqcnWriteError> {
        self.element(&format!("<Storage Name='{}'>\n", escape(name)))?;
        self.depth += 1;
        inside(self)?;
        self.depth -= 1;
        self.indent();
        self.text.push_str("</Storage>\n");
        Ok(())
    }

    fn stream(&mut self, name: &str, bytes: &[u8]) -> Result<(), XqcnWriteError> {
        self.element(&format!("<Stream Name='{name}' Length='{}' Value='", bytes.len()))?;
        hex(bytes, &mut self.text);
        self.text.push_str("'/>\n");
        self.check_length()
    }

    fn check_length(&self) -> Result<(), XqcnWriteError> {
        if self.text.len() > XQCN_BYTES_MAX { Err(XqcnWriteError::TooLarge) } else { Ok(()) }
    }
}

/// The file's bytes.
///
/// # Errors
/// [`XqcnWriteError`] where there is something that such a file cannot hold.
pub fn write(content: &Xqcn) -> Result<Vec<u8>, XqcnWriteError> {
    for key in content.items.keys() {
        if !ARRAYS.iter().any(|(_, subscription)| *subscription == key.subscription) {
            return Err(XqcnWriteError::Subscription(key.subscription.unwrap_or_default()));
        }
    }
    let chars = content.name.chars().count();
    if chars > NAME_CHARS_MAX {
        return Err(XqcnWriteError::Name { chars });
    }
    for text in [&content.model, &content.tool] {
        let found = printable(text, DEVICE_TEXT_CHARS_MAX);
        if found != *text {
            return Err(XqcnWriteError::Text { found });
        }
    }
    let mut writer = Writer { text: String::new(), depth: 0, elements: 0 };
    writer.text.push_str("<?xml version=\"1.0\" encoding=\"Windows-1252\" ?>\n");
    writer.storage(&content.name, |writer| {
        writer.storage(MODEL, |writer| writer.storage(CONFIGURATION, |writer| configuration(writer, content)))?;
        writer.stream(VERSION, &FILE_VERSION)
    })?;
    writer.check_length()?;
    Ok(writer.text.into_bytes())
}

fn configuration(writer: &mut Writer, content: &Xqcn) -> Result<(), XqcnWriteError> {
    writer.storage(ITEMS, |writer| {
        for (name, subscription) in ARRAYS {
            let mut bytes = Vec::new();
            for (key, data) in content.items.iter().filter(|(key, _)| key.subscription == subscription) {
                bytes.extend(RECORD_BYTES.to_le_bytes());
                bytes.extend(RECORD_WORD.to_le_bytes());
                bytes.extend(u32::from(key.item).to_le_bytes());
                bytes.extend(data);
            }
            writer.stream(name, &bytes)?;
        }
        Ok(())
    })?;
    for section in Section::ALL {
        let files = content.section(section);
        for file in files {
            if file.path == EfsPath::root() {
                return Err(XqcnWriteError::Root);
            }
            if file.data.len() > EFS_FILE_BYTES_MAX as usize {
                return Err(XqcnWriteError::File { path: file.path.clone(), bytes: file.data.len() });
            }
        }
        let mut paths = BTreeSet::new();
        if let Some(twice) = files.iter().find(|file| !paths.insert(&file.path)) {
            return Err(XqcnWriteError::Twice(twice.path.to_string()));
        }
        writer.storage(section.name(), |writer| {
            writer.storage(DIRECTORY, |writer| numbered(writer, files, |file| path_bytes(section, file)))?;
            writer.storage(DATA, |writer| numbered(writer, files, |file| file.data.clone()))
        })?;
    }
    let mut properties = Vec::new();
    properties.extend(PROPERTIES_MAGIC.to_le_bytes());
    properties.extend(0_u32.to_le_bytes());
    for text in [&content.model, &content.tool] {
        sized(&mut properties, text.as_bytes())?;
    }
    writer.stream(PROPERTIES, &properties)?;
    let mut features = Vec::new();
    sized(&mut features, &content.features)?;
    writer.stream(FEATURES, &features)
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), XqcnWriteError> {
    let length = u16::try_from(bytes.len()).map_err(|_| XqcnWriteError::Features { bytes: bytes.len() })?;
    out.extend(length.to_le_bytes());
    out.extend(bytes);
    Ok(())
}

fn numbered(
    writer: &mut Writer,
    files: &[XqcnFile],
    bytes: impl Fn(&XqcnFile) -> Vec<u8>,
) -> Result<(), XqcnWriteError> {
    (0_u32..).zip(files).try_for_each(|(index, file)| writer.stream(&format!("{index:08X}"), &bytes(file)))
}

fn path_bytes(section: Section, file: &XqcnFile) -> Vec<u8> {
    let path = file.path.as_str().as_bytes();
    match section {
        Section::Backup => [&BACKUP_HEADER, file.stamp.to_le_bytes().as_slice(), path].concat(),
        Section::Provisioning => [path, &[0]].concat(),
        Section::Items => path.to_vec(),
    }
}
