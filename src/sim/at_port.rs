//! A serial port that speaks AT: line assembly, echo, framing, and the noise of a bad line.
//!
//! What the commands mean is in [`at_commands`](super::at_commands); this is the form in which replies leave the
//! module: `\r\n<line>\r\n` and a final code, the echo in front as long as it is on.

use super::at_commands::Reply;

/// Longest command line.
const LINE_BYTES_MAX: usize = 1024;

/// One port's state. Each port of a module has an echo setting of its own.
#[derive(Debug)]
pub(super) struct AtLine {
    line: Vec<u8>,
    echo: bool,
    overflow: bool,
}

impl Default for AtLine {
    fn default() -> Self {
        Self { line: Vec::new(), echo: true, overflow: false }
    }
}

/// A complete command line, or what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A command.
    Command(String),
    /// Too long, or not text.
    Bad,
}

impl AtLine {
    /// Takes bytes from the host: what is echoed at once, and the lines that are complete.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<Line>) {
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    let overflow = std::mem::take(&mut self.overflow);
                    match String::from_utf8(line) {
                        Ok(text) if !overflow && text.trim().is_empty() => {}
                        Ok(text) if !overflow => lines.push(Line::Command(text.trim().to_owned())),
                        _ => lines.push(Line::Bad),
                    }
                }
                b'\n' => {}
                _ if self.line.len() < LINE_BYTES_MAX => self.line.push(byte),
                _ => self.overflow = true,
            }
        }
        (if self.echo { bytes.to_vec() } else { Vec::new() }, lines)
    }

    /// Switches the echo.
    pub(super) fn set_echo(&mut self, on: bool) {
        self.echo = on;
    }
}

/// A reply's bytes.
pub(super) fn frame(reply: &Reply) -> Vec<u8> {
    let mut text = String::new();
    if !reply.lines.is_empty() {
        text.push_str("\r\n");
        reply.lines.iter().for_each(|line| {
            text.push_str(line);
            text.push_str("\r\n");
        });
    }
    text.push_str(&format!("\r\n{}\r\n", reply.code));
    text.into_bytes()
}

/// A reply on a bad line: garbage in front of it, the echo once more, an unsolicited line behind its first line, more
/// garbage before the final code.
pub(super) fn noisy_frame(command: &str, reply: &Reply) -> Vec<u8> {
    let mut bytes = b"\xfe\x80\x00~gar\x07ble\r\n".to_vec();
    bytes.extend(format!("{command}\r\r\n").bytes());
    for (index, line) in reply.lines.iter().enumerate() {
        bytes.extend(format!("{line}\r\n").bytes());
        if index == 0 {
            bytes.extend(b"\r\n+QIND: \"csq\",23,99\r\n");
        }
    }
    bytes.extend(b"\r\n\x1b[2J\xff\r\n+QUSIM: 1\r\n");
    bytes.extend(format!("\r\n{}\r\n", reply.code).bytes());
    bytes
}

/// An unsolicited line's bytes.
pub(super) fn unsolicited(line: &str) -> Vec<u8> {
    format!("\r\n{line}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_a_carriage_return_in_any_split() {
        let mut port = AtLine::default();
        assert_eq!(port.take(b"AT+C"), (b"AT+C".to_vec(), vec![]));
        let (echo, lines) = port.take(b"GSN\r\nATI\r");
        assert_eq!(echo, b"GSN\r\nATI\r", "the echo is on from the start");
        assert_eq!(lines, vec![Line::Command("AT+CGSN".into()), Line::Command("ATI".into())]);
        port.set_echo(false);
        assert_eq!(port.take(b"\r\n\r"), (vec![], vec![]));
        assert_eq!(port.take(&[b'x'; 2000]), (vec![], vec![]));
        assert_eq!(port.take(b"\r").1, vec![Line::Bad]);
    }

    #[test]
    fn frames_are_those_of_real_modules() {
        let reply = Reply::ok(vec!["Quectel".into(), "EC25".into(), "Revision: EC25EFAR06A08M4G".into()]);
        assert_eq!(frame(&reply), b"\r\nQuectel\r\nEC25\r\nRevision: EC25EFAR06A08M4G\r\n\r\nOK\r\n");
        assert_eq!(frame(&Reply::cme(3)), b"\r\n+CME ERROR: 3\r\n");
        let noisy = noisy_frame("AT+CFUN?", &Reply::ok(vec!["+CFUN: 1".into()]));
        assert!(noisy.windows(8).any(|window| window == b"+CFUN: 1"));
    }
}
