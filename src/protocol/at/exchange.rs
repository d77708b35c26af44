//! One AT command and its reply.
//!
//! A modem mixes three kinds of lines: the echo of the command, the reply, and whatever it wants to say at that moment
//! (URCs). Which is which is decided line by line, from the command alone and never from the position: a command
//! `AT+X…` is answered by lines that begin with `+X:`, and only the few commands that answer without a prefix take
//! other lines, as long as those are no known URC. So a URC between any two lines changes nothing, and the late reply
//! to an earlier command is not taken for the answer to this one.

use super::AtError;
use crate::domain::limits;
use crate::domain::text::printable;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// `OK`.
    Ok,
    /// `ERROR`.
    Error,
    /// `+CME ERROR: n`.
    Cme(u16),
    /// `+CME ERROR: words`.
    CmeText(String),
    /// `+CMS ERROR: n`.
    Cms(u16),
}

/// The reply to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its lines without echo, URCs and final code; printable.
    pub lines: Vec<String>,
    /// How it ended.
    pub result: Final,
    /// Lines that came in between and are no part of it, the first few; printable.
    pub urcs: Vec<String>,
}

/// Commands whose reply has no prefix.
const BARE: &[&str] = &[
    "", "I", "E0", "E1", "+CGMI", "+CGMM", "+CGMR", "+CGSN", "+CIMI", "+CSUB", "+GMI", "+GMM", "+GMR", "+GSN", "+QGMR",
];
/// Unsolicited lines without a prefix.
const URC_LINES: &[&str] = &[
    "RDY",
    "APP RDY",
    "RING",
    "NO CARRIER",
    "PB DONE",
    "SMS DONE",
    "CALL READY",
    "SMS READY",
    "POWERED DOWN",
    "NORMAL POWER DOWN",
];

/// What a command's reply looks like.
#[derive(Debug)]
enum Grammar {
    /// Lines begin with this, in upper case: `+CFUN:`.
    Prefix(String),
    /// Lines have no prefix, or this one.
    Bare(String),
}

#[derive(Debug)]
enum State {
    Listening,
    Done,
    Failed(AtError),
}

/// One command, from its request to its final code. How long to wait is the caller's business; after a timeout a late
/// reply may still come, and the port should be asked something harmless before the next question.
#[derive(Debug)]
pub struct Exchange {
    command: String,
    grammar: Grammar,
    state: State,
    line: Vec<u8>,
    bytes: usize,
    lines: Vec<String>,
    urcs: Vec<String>,
    noise_lines: u32,
}

impl Exchange {
    /// An exchange for a command such as `AT+CFUN?`, without a line end.
    #[must_use]
    pub fn new(command: &str) -> Self {
        let command: String = command.chars().filter(|c| !c.is_control()).collect();
        let command = command.trim().to_owned();
        let upper = command.to_ascii_uppercase();
        let body = upper.strip_prefix("AT").unwrap_or(&upper);
        let name = &body[..body.find(['?', '=', ';']).unwrap_or(body.len())];
        let prefix = format!("{name}:");
        let bare = BARE.contains(&name) || !name.starts_with(['+', '^', '*', '$']);
        let grammar = if bare { Grammar::Bare(prefix) } else { Grammar::Prefix(prefix) };
        Self {
            command,
            grammar,
            state: State::Listening,
            line: Vec::new(),
            bytes: 0,
            lines: Vec::new(),
            urcs: Vec::new(),
            noise_lines: 0,
        }
    }

    /// The bytes to write.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        format!("{}\r", self.command).into_bytes()
    }

    /// Takes bytes as they arrived; the reply once its final code has come. Whatever follows that is not looked at.
    ///
    /// # Errors
    /// [`AtError`] when the module sends more than any reply has; the same error from then on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Reply>, AtError> {
        for byte in bytes {
            match &self.state {
                State::Listening => {}
                State::Done => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
            }
            match self.take(*byte) {
                Ok(None) => {}
                Ok(Some(result)) => {
                    self.state = State::Done;
                    let (lines, urcs) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.urcs));
                    return Ok(Some(Reply { lines, result, urcs }));
                }
                Err(error) => {
                    self.line = Vec::new();
                    self.state = State::Failed(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Lines that were dropped because they are no text.
    #[must_use]
    pub const fn noise_lines(&self) -> u32 {
        self.noise_lines
    }

    /// CR and LF both end a line and empty lines mean nothing, so every mixture of them reads the same.
    fn take(&mut self, byte: u8) -> Result<Option<Final>, AtError> {
        self.bytes += 1;
        if self.bytes > limits::AT_REPLY_BYTES_MAX {
            return Err(AtError::ReplyTooLong);
        }
        if byte != b'\r' && byte != b'\n' {
            self.line.push(byte);
            return if self.line.len() > limits::AT_LINE_BYTES_MAX { Err(AtError::LineTooLong) } else { Ok(None) };
        }
        let line = std::mem::take(&mut self.line);
        let Some((line, clean)) = text(&line) else {
            self.noise_lines = self.noise_lines.saturating_add(1);
            return Ok(None);
        };
        if let Some(result) = final_code(line) {
            return Ok(Some(result));
        }
        // What is left of a noisy line is believed only where it says by its prefix that it is the reply.
        if clean || self.grammar.is_prefix() && self.grammar.takes(line) {
            self.take_line(line)?;
        } else {
            self.noise_lines = self.noise_lines.saturating_add(1);
        }
        Ok(None)
    }

    fn take_line(&mut self, line: &str) -> Result<(), AtError> {
        if line.is_empty() || is_echo(line, &self.command) {
            return Ok(());
        }
        if self.grammar.takes(line) {
            if self.lines.len() == limits::AT_REPLY_LINES_MAX {
                return Err(AtError::TooManyLines);
            }
            self.lines.push(printable(line, limits::AT_LINE_BYTES_MAX));
        } else if self.urcs.len() < limits::AT_URCS_MAX {
            self.urcs.push(printable(line, limits::DEVICE_TEXT_CHARS_MAX));
        }
        Ok(())
    }
}

impl Grammar {
    const fn is_prefix(&self) -> bool {
        matches!(self, Self::Prefix(_))
    }

    fn takes(&self, line: &str) -> bool {
        let has = |prefix: &str| line.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        match self {
            Self::Prefix(prefix) => has(prefix),
            Self::Bare(own) => {
                (own.len() > 1 && has(own))
                    || !(line.starts_with(['+', '^', '*', '$'])
                        || URC_LINES.iter().any(|urc| line.eq_ignore_ascii_case(urc)))
            }
        }
    }
}

/// A line as text, without the noise of an idle port (0x00, 0xFF and other bytes that are no text) around it, and whether
/// there was none. `None` when there is noise inside or nothing else, since then the rest cannot be believed either.
fn text(line: &[u8]) -> Option<(&str, bool)> {
    let plain = |byte: &u8| (0x21..0x7f).contains(byte);
    let blank = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_whitespace);
    let (Some(start), Some(end)) = (line.iter().position(plain), line.iter().rposition(plain)) else {
        return blank(line).then_some(("", true));
    };
    let clean = blank(&line[..start]) && blank(&line[end + 1..]);
    let line = std::str::from_utf8(&line[start..=end]).ok()?;
    let noise = |c: char| c.is_control() && c != '\t';
    if line.chars().any(noise) { None } else { Some((line, clean)) }
}

/// An echo is the command, or any other command: no reply begins with `AT+`.
fn is_echo(line: &str, command: &str) -> bool {
    line.eq_ignore_ascii_case(command)
        || line.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("AT+"))
        || ["AT", "ATI", "ATE0", "ATE1"].iter().any(|other| line.eq_ignore_ascii_case(other))
}

/// A final code is a whole line: an `OK` inside another line is none.
fn final_code(line: &str) -> Option<Final> {
    match line {
        "OK" => return Some(Final::Ok),
        "ERROR" => return Some(Final::Error),
        _ => {}
    }
    if let Some(code) = line.strip_prefix("+CME ERROR:") {
        let code = code.trim();
        let text = || Final::CmeText(printable(code, limits::DEVICE_TEXT_CHARS_MAX));
        return Some(code.parse().map_or_else(|_| text(), Final::Cme));
    }
    let code = line.strip_prefix("+CMS ERROR:")?;
    Some(code.trim().parse().map_or(Final::Error, Final::Cms))
}
