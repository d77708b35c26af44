//! The person at the terminal: asks, tells, and reads what is typed.

use std::time::Duration;

use tokio::sync::mpsc;

use super::trainer::Trainer;
use crate::cli::complain;
use crate::config::SlotConfig;
use crate::controller::mapping::{Asker, News, Wish};
use crate::domain::SlotName;
use crate::domain::text::printable;
use crate::hardware::BoxFuture;

/// Longest line that is written, in characters.
const WIDTH: usize = 80;
/// How long nothing more is read after a simulated module was moved, unless something happens, in station time.
const REST: Duration = Duration::from_secs(60);

/// The person.
#[derive(Debug)]
pub(super) struct Person {
    lines: mpsc::Receiver<String>,
    trainer: Option<Trainer>,
    asked: Option<SlotName>,
    /// Until when (station time) what was typed ahead waits for what a moved module does.
    resting: Option<Duration>,
}

impl Person {
    pub(super) fn new(lines: mpsc::Receiver<String>, trainer: Option<Trainer>) -> Self {
        Self { lines, trainer, asked: None, resting: None }
    }

    /// Says what is going to happen.
    pub(super) fn greet(&self, station: &str, slots: &[SlotName]) {
        let ends = match slots {
            [] => String::new(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first} to {last}"),
        };
        let count = crate::cli::counted(slots.len() as u64, "slot", "slots");
        say(&format!("Station {station}: {count} to be taught, {ends}."), 0);
        say("Each module is sent into download mode and back; nothing is written to it.", 0);
        if self.trainer.is_some() {
            say("The station is simulated: modules are put in for you, its records stay untouched.", 0);
            say("  Enter    puts a module into the slot that is asked for", 11);
            say("  A3       puts one into slot A3 instead; A3 A4 puts one into both", 11);
            say("  out A3   takes it out", 11);
        } else {
            say("Modules that are in slots may stay there.", 0);
        }
        say("  s        leaves this slot out", 11);
        say("  b        goes back to the slot before", 11);
        say("  q        ends", 11);
    }

    /// A question that is answered with yes or no; no, where nobody answers.
    pub(super) async fn agrees(&mut self, question: &str) -> bool {
        say(&format!("{question} (y/N)"), 0);
        let answer = self.lines.recv().await.unwrap_or_default();
        matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }

    fn line(&self, text: &str) {
        let slot = self.asked.as_ref().map(SlotName::as_str).unwrap_or_default();
        say(&format!("{slot:<4} {text}"), 5);
    }
}

impl Asker for Person {
    fn tell(&mut self, news: &News<'_>) {
        self.resting = None;
        match news {
            News::Asked(slot) => {
                self.asked = Some((*slot).clone());
                self.line(&format!("put one module into slot {slot}"));
            }
            News::Stranger(device) => {
                let (vendor, product) = (device.vendor_id, device.product_id);
                self.line(&format!("what appeared at {} is no module ({vendor:04x}:{product:04x})", device.key.chain));
            }
            News::Appeared(device) => {
                let product = printable(&device.product, 24);
                self.line(&format!("{product} at {}, goes into download mode", device.key.chain));
            }
            News::InDownloadMode(chain) => self.line(&format!("download mode at {chain}, comes back")),
            News::Note(note) => self.line(&format!("note: {note}")),
            News::Learned(SlotConfig { name, .. }) => self.line(&format!("slot {name} is learned")),
            News::Refused(refusal) => {
                self.line(&format!("not learned: {}", refusal.sentence()));
                self.line(&format!("help: {}", refusal.remedy()));
            }
            News::Skipped(slot) => self.line(&format!("slot {slot} is left out")),
            News::BusFailed(error) => self.line(&format!("USB cannot be looked at, and is tried again: {error}")),
        }
    }

    fn wish(&mut self) -> BoxFuture<'_, Wish> {
        Box::pin(async {
            loop {
                if let (Some(until), Some(trainer)) = (self.resting, &self.trainer) {
                    trainer.clock().sleep_until(until).await;
                    self.resting = None;
                }
                let Some(line) = self.lines.recv().await else {
                    // Nobody is there to put simulated modules in; real ones need no terminal.
                    return if self.trainer.is_some() { Wish::End } else { std::future::pending().await };
                };
                let asked = self.asked.clone();
                match (line.trim(), &mut self.trainer, asked) {
                    ("s", ..) => return Wish::Skip,
                    ("b", ..) => return Wish::Back,
                    ("q", ..) => return Wish::End,
                    (words, Some(trainer), Some(asked)) => match trainer.obey(words, &asked) {
                        Ok((done, starts)) => {
                            self.resting = starts.then(|| trainer.clock().deadline(REST));
                            self.line(&format!("({done})"));
                        }
                        Err(why) => self.line(&why),
                    },
                    ("", ..) => self.line("no module has appeared yet"),
                    _ => self.line("s leaves this slot out, b goes back, q ends"),
                }
            }
        })
    }
}

/// Writes a text to standard error, in lines of at most [`WIDTH`] characters; all but the first are indented.
pub(super) fn say(text: &str, indent: usize) {
    complain(wrapped(text, indent));
}

fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for (index, word) in text.split(' ').enumerate() {
        let chars = word.chars().count();
        if index > 0 && length + 1 + chars > WIDTH && length > indent {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            length = indent;
        } else if index > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += chars;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_between_words_and_indented() {
        let text = format!("A1   {}", "four ".repeat(40));
        let lines = wrapped(text.trim_end(), 5);
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH && !line.ends_with(' ')), "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("     four")), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 41);
        assert_eq!(wrapped("  A3       puts", 11), "  A3       puts");
        let long = "x".repeat(200);
        assert_eq!(wrapped(&long, 5), long);
    }
}
