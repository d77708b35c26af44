//! The person at the terminal: asks, tells, and reads what is typed.

use std::time::Duration;

use tokio::sync::mpsc;

use super::trainer::Trainer;
use crate::cli::{complain, wrapped};
use crate::config::SlotConfig;
use crate::controller::mapping::{Asker, News, Wish};
use crate::domain::text::printable;
use crate::domain::{PortChain, SlotName};
use crate::hardware::BoxFuture;
use crate::host::Clock;

/// How long nothing may be typed until what was typed before a real module was asked for is all thrown away.
const QUIET: Duration = Duration::from_millis(200);
/// How long nothing more is read after a simulated module was moved, unless something happens, in station time.
const REST: Duration = Duration::from_secs(60);

/// The person.
#[derive(Debug)]
pub(super) struct Person {
    lines: mpsc::Receiver<String>,
    trainer: Option<Trainer>,
    asked: Option<SlotName>,
    clock: Clock,
    /// Whether what was typed up to now was meant for something else.
    is_stale: bool,
    /// Where a module is that was sent into download mode and is not known to be back.
    away: Option<PortChain>,
    /// Whether something was refused that the person may overrule.
    is_doubtful: bool,
    /// Until when (station time) what was typed ahead waits for what a moved module does.
    resting: Option<Duration>,
}

impl Person {
    pub(super) fn new(lines: mpsc::Receiver<String>, trainer: Option<Trainer>, clock: Clock) -> Self {
        Self { lines, trainer, asked: None, clock, is_stale: false, away: None, is_doubtful: false, resting: None }
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
            say("Modules that are in slots may stay there; wait until they have started.", 0);
        }
        say("  yes      says that a module which is in doubt is in the right slot", 11);
        say("  s        leaves this slot out", 11);
        say("  b        goes back to the slot before", 11);
        say("  q        ends", 11);
    }

    /// What is to be done about a module that may still be in download mode, if there is one.
    pub(super) fn left_behind(&self) -> Option<String> {
        let chain = self.away.as_ref()?;
        Some(format!(
            "the module at {chain} may still be in download mode; it leaves it when it is taken out and put in again"
        ))
    }

    /// Throws away what was typed while nothing was asked: on a real fixture it was not meant for what is asked now.
    /// Practice is often typed ahead, or read from a file.
    async fn forget_typed(&mut self) {
        if self.trainer.is_some() {
            return;
        }
        while let Ok(Some(_)) = self.clock.timeout(QUIET, self.lines.recv()).await {}
        self.is_stale = false;
    }

    /// A question that is answered with yes or no; no, where nobody answers.
    pub(super) async fn agrees(&mut self, question: &str) -> bool {
        self.forget_typed().await;
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
                self.is_doubtful &= self.asked.as_ref() == Some(*slot);
                self.asked = Some((*slot).clone());
                self.is_stale = true;
                self.away = None;
                self.line(&format!("put one module into slot {slot}"));
            }
            News::Stranger(device) => {
                let (vendor, product) = (device.vendor_id, device.product_id);
                self.line(&format!("what appeared at {} is no module ({vendor:04x}:{product:04x})", device.key.chain));
            }
            News::Appeared(device) => {
                let product = printable(&device.product, 24);
                self.away = Some(device.key.chain.clone());
                self.line(&format!("{product} at {}, goes into download mode", device.key.chain));
            }
            News::InDownloadMode(chain) => {
                self.away = Some((*chain).clone());
                self.line(&format!("download mode at {chain}, comes back"));
            }
            News::Note(note) => self.line(&format!("note: {note}")),
            News::Learned(SlotConfig { name, .. }) => {
                self.away = None;
                self.line(&format!("slot {name} is learned"));
            }
            News::Refused(refusal) => {
                self.is_doubtful |= refusal.is_doubt();
                self.line(&format!("not learned: {}", refusal.sentence()));
                self.line(&format!("help: {}", refusal.remedy()));
            }
            News::Skipped(slot) => self.line(&format!("slot {slot} is left out")),
            News::BusFailed(error) => self.line(&format!("USB cannot be looked at, and is tried again: {error}")),
        }
    }

    fn wish(&mut self) -> BoxFuture<'_, Wish> {
        Box::pin(async {
            if self.is_stale {
                self.forget_typed().await;
            }
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
                    ("yes", ..) if self.is_doubtful => return Wish::Yes,
                    ("yes", ..) => self.line("nothing is in doubt"),
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

/// Writes a text to standard error, in lines of a terminal's width; all but the first are indented.
pub(super) fn say(text: &str, indent: usize) {
    complain(wrapped(text, indent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::mapping::Refusal;

    fn real() -> (mpsc::Sender<String>, Person) {
        let (sender, lines) = mpsc::channel(16);
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
        (sender, Person::new(lines, None, clock))
    }

    async fn typed(sender: &mpsc::Sender<String>, lines: &[&str]) {
        for line in lines {
            sender.send((*line).to_owned()).await.expect("it is read");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_typed_while_a_module_was_away_is_not_meant_for_the_next_slot() {
        let (sender, mut person) = real();
        let slot: SlotName = "A2".parse().expect("a name");
        typed(&sender, &["q\n", "s\n"]).await;
        person.tell(&News::Asked(&slot));
        let clock = person.clock.clone();
        let wished = clock.timeout(Duration::from_secs(5), person.wish()).await;
        assert!(wished.is_err(), "it was meant for something else: {wished:?}");
        typed(&sender, &["b\n"]).await;
        assert_eq!(person.wish().await, Wish::Back);
        // A line that was too much for the channel comes as soon as there is room.
        person.tell(&News::Asked(&slot));
        let many = tokio::spawn(async move {
            typed(&sender, &["q\n"; 40]).await;
            sender
        });
        tokio::task::yield_now().await;
        assert!(clock.timeout(Duration::from_secs(5), person.wish()).await.is_err());
        let sender = many.await.expect("all are read");
        typed(&sender, &["y\n", "yes\n"]).await;
        assert!(!clock.timeout(Duration::from_secs(5), person.agrees("Write?")).await.unwrap_or_default());
        let answer = async {
            clock.sleep(Duration::from_secs(1)).await;
            typed(&sender, &["y\n"]).await;
        };
        assert!(tokio::join!(person.agrees("Write?"), answer).0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_counts_only_where_something_is_in_doubt() {
        let (sender, mut person) = real();
        let slot: SlotName = "A2".parse().expect("a name");
        let chain: PortChain = "c/usb2/1".parse().expect("a chain");
        let clock = person.clock.clone();
        let said = async |person: &mut Person| {
            person.tell(&News::Asked(&slot));
            let later = async {
                clock.sleep(Duration::from_secs(1)).await;
                typed(&sender, &["yes\n"]).await;
            };
            tokio::join!(clock.timeout(Duration::from_secs(5), person.wish()), later).0.ok()
        };
        assert_eq!(said(&mut person).await, None);
        person.tell(&News::Refused(&Refusal::StaysOut));
        assert_eq!(said(&mut person).await, None);
        person.tell(&News::Refused(&Refusal::WasThere(chain)));
        assert_eq!(said(&mut person).await, Some(Wish::Yes));
        person.tell(&News::Asked(&"A3".parse().expect("a name")));
        assert_eq!(said(&mut person).await, None, "that was another slot");
    }

    #[test]
    fn the_module_that_is_away_is_named() {
        let (_sender, mut person) = real();
        let slot: SlotName = "A2".parse().expect("a name");
        let chain: PortChain = "c/usb2/1".parse().expect("a chain");
        person.tell(&News::Asked(&slot));
        assert_eq!(person.left_behind(), None);
        person.tell(&News::InDownloadMode(&chain));
        assert!(person.left_behind().expect("it is away").contains("the module at c/usb2/1"));
        person.tell(&News::Learned(&SlotConfig { name: slot, usb2: chain, usb3: None }));
        assert_eq!(person.left_behind(), None);
    }

    #[test]
    fn long_texts_are_broken_between_words_and_indented() {
        let text = format!("A1   {}", "four ".repeat(40));
        let lines = wrapped(text.trim_end(), 5);
        assert!(
            lines.lines().all(|line| line.chars().count() <= crate::domain::text::WIDTH && !line.ends_with(' ')),
            "{lines}"
        );
        assert!(lines.lines().skip(1).all(|line| line.starts_with("     four")), "{lines}");
        assert_eq!(lines.split_whitespace().count(), 41);
        assert_eq!(wrapped("  A3       puts", 11), "  A3       puts");
        let long = "x".repeat(200);
        assert_eq!(wrapped(&long, 5), long);
    }
}
