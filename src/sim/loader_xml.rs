//! What a programmer understands of XML: very little, and it is strict about it.
//!
//! One document per transfer, one self-closing command in it, double-quoted attributes, at most
//! [`DOCUMENT_BYTES_MAX`] bytes. Real programmers hang or answer NAK on anything else.

/// `MaxXMLSizeInBytes` of real programmers.
pub(super) const DOCUMENT_BYTES_MAX: usize = 4096;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
}

impl Command {
    /// An attribute's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A number; an attribute that is missing or no number is `None`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Reads a document.
    pub(super) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err("XML too long");
        }
        let text = std::str::from_utf8(document).map_err(|_| "XML not UTF-8")?;
        let rest = text.strip_prefix("<?xml ").ok_or("XML header not found")?;
        let (_, rest) = rest.split_once("?>").ok_or("XML header not closed")?;
        let rest = rest.trim_start().strip_prefix("<data>").ok_or("no data element")?;
        let rest = rest.trim_start().strip_prefix('<').ok_or("no command in data element")?;
        let name_end =
            rest.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').ok_or("command not closed")?;
        let (name, mut rest) = rest.split_at(name_end);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("bad command name");
        }
        let mut attributes = Vec::new();
        loop {
            let trimmed = rest.trim_start();
            if let Some(after) = trimmed.strip_prefix("/>") {
                rest = after;
                break;
            }
            if trimmed.len() == rest.len() {
                return Err("element is not self-closing");
            }
            let (key, after) = trimmed.split_once('=').ok_or("element is not self-closing")?;
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err("bad attribute name");
            }
            let value = after.strip_prefix('"').ok_or("attribute without quotes")?;
            let (value, after) = value.split_once('"').ok_or("attribute not closed")?;
            attributes.push((key.to_owned(), unescape(value)));
            rest = after;
        }
        let rest = rest.trim_start().strip_prefix("</data>").ok_or("more than one command in data element")?;
        if !rest.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0').is_empty() {
            return Err("garbage behind the document");
        }
        Ok(Self { name: name.to_owned(), attributes })
    }
}

fn unescape(value: &str) -> String {
    value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

fn escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const HEADER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data>";

/// A log line's document.
pub(super) fn log(line: &str) -> Vec<u8> {
    format!("{HEADER}<log value=\"{}\" /></data>", escape(line)).into_bytes()
}

/// A response's document.
pub(super) fn response(ack: bool, attributes: &[(&str, String)]) -> Vec<u8> {
    let value = if ack { "ACK" } else { "NAK" };
    let mut text = format!("{HEADER}<response value=\"{value}\"");
    for (name, value) in attributes {
        text.push_str(&format!(" {name}=\"{}\"", escape(value)));
    }
    text.push_str(" /></data>");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_those_of_real_programmers() {
        assert_eq!(
            response(true, &[("rawmode", "false".into())]),
            b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data><response value=\"ACK\" rawmode=\"false\" /></data>"
        );
        assert_eq!(
            log("INFO: {\"a\":1}"),
            b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data><log value=\"INFO: {&quot;a&quot;:1}\" /></data>"
        );
    }

    #[test]
    fn reads_what_hosts_send() {
        let command = Command::parse(
            b"<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n<erase PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" \
            num_partition_sectors=\"640\" physical_partition_number=\"0\" start_sector=\"0\" />\n</data>\n",
        )
        .expect("a command");
        assert_eq!(command.name, "erase");
        assert_eq!(command.number("num_partition_sectors"), Some(640));
        assert_eq!(command.get("label"), None);
        let command =
            Command::parse(b"<?xml version=\"1.0\"?><data><nop value=\"a&amp;&quot;b\"/></data>").expect("a nop");
        assert_eq!(command.get("value"), Some("a&\"b"));
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "<data><nop/></data>",
            "<?xml version=\"1.0\"?><data></data>",
            "<?xml version=\"1.0\"?><data><nop></nop></data>",
            "<?xml version=\"1.0\"?><data><nop/><nop/></data>",
            "<?xml version=\"1.0\"?><data><nop/></data><?xml version=\"1.0\"?><data><nop/></data>",
            "<?xml version=\"1.0\"?><data><nop value='x'/></data>",
            "<?xml version=\"1.0\"?><data><nop value=\"x\"y=\"z\"/></data>",
            "<?xml version=\"1.0\"?><data><nop",
        ] {
            assert!(Command::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!("<?xml version=\"1.0\"?><data><nop value=\"{}\"/></data>", "x".repeat(4096));
        assert_eq!(Command::parse(long.as_bytes()), Err("XML too long"));
    }
}
