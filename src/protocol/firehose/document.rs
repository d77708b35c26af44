//! One XML document of a programmer, read with limits of our own.
//!
//! The XML crate cuts text into tags; it has no opinion on depth, count or size, so those are checked here, and what a
//! programmer never needs (a DTD, processing instructions, text) is refused.

use std::collections::BTreeMap;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::FirehoseError;
use crate::domain::limits;
use crate::domain::text::printable;

/// What a programmer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A line for people: printable, bounded.
    Log(String),
    /// The answer to a command, or to the payload after it.
    Response(Response),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Whether its value is `ACK`; everything else counts as a refusal.
    pub ack: bool,
    /// Whether payload follows (`true`) or XML goes on (`false`); `None` where it does not say.
    pub rawmode: Option<bool>,
    /// All attributes as sent; printable, bounded.
    pub attributes: BTreeMap<String, String>,
}

fn bad(reason: impl std::fmt::Display) -> FirehoseError {
    FirehoseError::Document(printable(&reason.to_string(), limits::DEVICE_TEXT_CHARS_MAX))
}

/// The messages of a document, from `<?xml` to `</data>`.
pub(super) fn parse(document: &[u8]) -> Result<Vec<Message>, FirehoseError> {
    // A log line may hold anything; a replaced byte makes no number and no ACK.
    let text = String::from_utf8_lossy(document);
    let mut reader = Reader::from_str(&text);
    let mut messages = Vec::new();
    let mut depth = 0;
    let mut first = true;
    loop {
        match reader.read_event().map_err(bad)? {
            Event::Decl(_) if first => {}
            Event::Start(tag) => {
                take(&tag, depth, &mut messages)?;
                depth += 1;
                if depth > limits::FIREHOSE_DEPTH_MAX {
                    return Err(bad(format_args!("nested deeper than {}", limits::FIREHOSE_DEPTH_MAX)));
                }
            }
            Event::Empty(tag) => take(&tag, depth, &mut messages)?,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Comment(_) => {}
            Event::Text(text) if text.trim_matches(['\0', ' ', '\t', '\r', '\n']).is_empty() => {}
            Event::Eof if depth == 0 => return Ok(messages),
            Event::Eof => return Err(bad("an element is not closed")),
            Event::DocType(_) => return Err(bad("it has a DTD")),
            Event::Decl(_) | Event::PI(_) | Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                return Err(bad("text where only elements belong"));
            }
        }
        first = false;
    }
}

/// Takes one start tag.
fn take(tag: &BytesStart<'_>, depth: usize, messages: &mut Vec<Message>) -> Result<(), FirehoseError> {
    let name = tag.name();
    match (depth, name.as_ref()) {
        (0, "data") => {}
        (0, _) => return Err(bad("its element is not `data`")),
        (1, "log") => messages.push(Message::Log(log(tag)?)),
        (1, "response") => messages.push(Message::Response(response(tag)?)),
        // Counted against the budget of logs, so that unknown elements cannot come for ever either.
        (1, other) => messages.push(Message::Log(printable(&format!("<{other}>"), limits::DEVICE_TEXT_CHARS_MAX))),
        _ => {}
    }
    Ok(())
}

fn log(tag: &BytesStart<'_>) -> Result<String, FirehoseError> {
    let mut line = String::new();
    for attribute in bounded(tag) {
        let attribute = attribute?;
        if attribute.key.as_ref() == "value" {
            // Real programmers put a bare `&` into their logs; that is no reason to stop a flash.
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap_or(attribute.value);
            line = printable(&value, limits::FIREHOSE_LOG_CHARS_MAX);
        }
    }
    Ok(line)
}

fn response(tag: &BytesStart<'_>) -> Result<Response, FirehoseError> {
    let mut attributes = BTreeMap::new();
    for attribute in bounded(tag) {
        let attribute = attribute?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(bad)?;
        attributes.insert(
            printable(attribute.key.as_ref(), limits::DEVICE_TEXT_CHARS_MAX),
            printable(&value, limits::FIREHOSE_ATTRIBUTE_CHARS_MAX),
        );
    }
    let value = attributes.get("value").ok_or_else(|| bad("a response without a value"))?;
    let ack = value.eq_ignore_ascii_case("ACK");
    let rawmode = attributes.get("rawmode").and_then(|word| match word.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    });
    Ok(Response { ack, rawmode, attributes })
}

/// The attributes of a tag; an error instead of the first one too many.
fn bounded<'a>(
    tag: &'a BytesStart<'_>,
) -> impl Iterator<Item = Result<quick_xml::events::attributes::Attribute<'a>, FirehoseError>> {
    tag.attributes().take(limits::FIREHOSE_ATTRIBUTES_MAX + 1).enumerate().map(|(index, attribute)| {
        if index == limits::FIREHOSE_ATTRIBUTES_MAX {
            return Err(bad(format_args!("an element has more than {} attributes", limits::FIREHOSE_ATTRIBUTES_MAX)));
        }
        attribute.map_err(bad)
    })
}
