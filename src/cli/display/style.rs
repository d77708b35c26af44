//! What a terminal can show, and texts that fit into it.

use crate::domain::{Outcome, SlotState};

/// Whether colours and signs beyond ASCII may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) is_unicode: bool,
    pub(super) is_coloured: bool,
}

/// A colour of the terminal's own sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    /// What the environment says: `NO_COLOR`, `TERM=dumb`, and a locale without UTF-8 are respected.
    pub(super) fn detect(is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_unicode: locale.contains("utf-8") || locale.contains("utf8"),
            is_coloured: is_terminal && !is_dumb && set("NO_COLOR").is_none(),
        }
    }

    /// `text` in a colour, where there are colours.
    pub(super) fn paint(self, text: &str, colour: Option<Colour>) -> String {
        let number = match colour {
            Some(Colour::Red) => 31,
            Some(Colour::Green) => 32,
            Some(Colour::Yellow) => 33,
            Some(Colour::Cyan) => 36,
            None => return text.to_owned(),
        };
        if self.is_coloured { format!("\u{1b}[{number}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The sign and colour of an outcome. Signs differ in shape too: colour alone tells too few people anything.
    pub(super) fn outcome(self, outcome: Outcome) -> (char, Option<Colour>) {
        let (sign, plain, colour) = match outcome {
            Outcome::Pass => ('✓', '+', Some(Colour::Green)),
            Outcome::Fail => ('✕', 'x', Some(Colour::Red)),
            Outcome::Error => ('⚠', '!', Some(Colour::Yellow)),
            Outcome::Held => ('■', '=', Some(Colour::Cyan)),
            Outcome::Aborted => ('○', 'o', None),
        };
        (if self.is_unicode { sign } else { plain }, colour)
    }

    /// The sign and colour of a slot without an outcome.
    pub(super) fn state(self, state: SlotState) -> (char, Option<Colour>) {
        let (sign, plain, colour) = match state {
            SlotState::Empty => ('·', '.', None),
            SlotState::Waiting => ('…', ',', None),
            SlotState::Running => ('▶', '>', None),
            SlotState::Done => ('↑', '^', None),
            SlotState::Interrupted => ('‖', '"', Some(Colour::Yellow)),
            SlotState::HubLost => ('↯', '?', Some(Colour::Yellow)),
        };
        (if self.is_unicode { sign } else { plain }, colour)
    }

    /// A bar of `cells` cells, `done` of `total` filled.
    pub(super) fn bar(self, done: u64, total: u64, cells: usize) -> String {
        let (full, empty) = if self.is_unicode { ("█", "░") } else { ("#", ".") };
        let share = u128::from(done.min(total)) * cells as u128 / u128::from(total.max(1));
        let filled = usize::try_from(share).unwrap_or(cells).min(cells);
        full.repeat(filled) + &empty.repeat(cells - filled)
    }

    /// `text` in exactly `cells` cells: cut with a mark, or filled with blanks.
    pub(super) fn fit(self, text: &str, cells: usize) -> String {
        let mut out = self.cut(text, cells);
        let used = width(&out);
        out.extend(std::iter::repeat_n(' ', cells.saturating_sub(used)));
        out
    }

    /// `text` in at most `cells` cells.
    pub(super) fn cut(self, text: &str, cells: usize) -> String {
        if width(text) <= cells {
            return text.to_owned();
        }
        let mark = if self.is_unicode { '…' } else { '~' };
        let mut out = String::new();
        let mut left = cells.saturating_sub(1);
        for c in text.chars() {
            if cell(c) > left {
                break;
            }
            left -= cell(c);
            out.push(c);
        }
        if cells > 0 {
            out.push(mark);
        }
        out
    }
}

/// How many cells a character takes at the most. Texts of modules may hold wide ones; a table of all of Unicode is not
/// needed to stay within the line.
fn cell(c: char) -> usize {
    if c.is_ascii() || "✓✕⚠■○·…▶↑‖↯█░×°".contains(c) { 1 } else { 2 }
}

/// How many cells a text without colours takes at the most.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cell).sum()
}

/// `text` broken into lines of at most `cells` cells, at blanks where there are some.
pub(super) fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > cells {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if width(&line) + cell(c) > cells {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { is_unicode: false, is_coloured: false };
    const RICH: Style = Style { is_unicode: true, is_coloured: true };

    #[test]
    fn texts_fill_their_cells_exactly_and_are_marked_when_cut() {
        assert_eq!(PLAIN.fit("EG25-G", 8), "EG25-G  ");
        assert_eq!(PLAIN.fit("RM520N-GL", 6), "RM520~");
        assert_eq!(RICH.fit("RM520N-GL", 6), "RM520…");
        assert_eq!(RICH.fit("模块模块", 6), "模块… ");
        assert_eq!(PLAIN.fit("x", 0), "");
    }

    #[test]
    fn lines_are_broken_at_blanks_and_long_words_anywhere() {
        assert_eq!(wrap("Put the module into the red bin.", 12), ["Put the", "module into", "the red bin."]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert!(wrap("", 10).is_empty());
        assert!(wrap("模块模块", 5).iter().all(|line| width(line) <= 5));
    }

    #[test]
    fn bars_do_not_overflow() {
        assert_eq!(PLAIN.bar(50, 100, 4), "##..");
        assert_eq!(PLAIN.bar(200, 100, 4), "####");
        assert_eq!(PLAIN.bar(0, 0, 4), "....");
        assert_eq!(PLAIN.bar(u64::MAX, u64::MAX, 4), "####");
    }

    #[test]
    fn every_state_differs_without_colour() {
        for style in [PLAIN, RICH] {
            let outcomes = Outcome::ALL.map(|outcome| style.outcome(outcome).0);
            let states = SlotState::ALL.map(|state| style.state(state).0);
            let signs: std::collections::BTreeSet<char> = outcomes.into_iter().chain(states).collect();
            assert_eq!(signs.len(), outcomes.len() + states.len());
        }
        assert_eq!(PLAIN.paint("x", Some(Colour::Red)), "x");
        assert_eq!(RICH.paint("x", Some(Colour::Red)), "\u{1b}[31mx\u{1b}[0m");
    }
}
