//! A text with its lines: from the positions of the tree to bytes.

use std::ops::Range;

use super::super::node::Place;

/// A text and where its lines begin.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// The offset of each line, in bytes.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// How the file ends its lines: as it ends the first one.
    pub(super) fn end(&self) -> &'static str {
        let first = self.text.find('\n').unwrap_or_default();
        if self.text[..first].ends_with('\r') { "\r\n" } else { "\n" }
    }

    /// Line `line` (from 1), its end included.
    fn line(&self, line: usize) -> &'a str {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        &self.text[start..self.after(line).0]
    }

    /// The offset behind line `line` and its end; whether it has one.
    pub(super) fn after(&self, line: usize) -> (usize, bool) {
        self.starts.get(line).map_or((self.text.len(), false), |start| (*start, true))
    }

    fn offset(&self, place: Place) -> Option<usize> {
        let start = *self.starts.get(place.line.checked_sub(1)?)?;
        let before: usize = self.text[start..].chars().take(place.column.checked_sub(1)?).map(char::len_utf8).sum();
        Some(start + before)
    }

    /// The bytes of `written`, where that stands at a place.
    pub(super) fn span_of(&self, place: Place, written: &str) -> Option<Range<usize>> {
        let start = self.offset(place)?;
        self.text[start..].starts_with(written).then(|| start..start + written.len())
    }

    /// Whether that character stands at a place.
    pub(super) fn is_at(&self, place: Place, c: char) -> bool {
        self.offset(place).is_some_and(|offset| self.text[offset..].starts_with(c))
    }

    /// Blanks before the `-` of the entry that begins at `place`: in the same line, or alone in one above.
    pub(super) fn dash_before(&self, place: Place) -> Option<usize> {
        let offset = self.offset(place)?;
        let before = &self.text[self.starts[place.line - 1]..offset];
        if let Some(blanks) = before.trim_end_matches(' ').strip_suffix('-') {
            return blanks.bytes().all(|byte| byte == b' ').then_some(blanks.len());
        }
        let above = (1..place.line).rev().map(|line| self.line(line).trim_end());
        let mut above = above.skip_while(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'));
        let line = above.next()?;
        let blanks = line.len() - line.trim_start_matches(' ').len();
        let rest = line[blanks..].strip_prefix('-')?.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then_some(blanks)
    }

    /// The last of the comments right behind line `line` that stand deeper than `blanks`, or that line itself: they
    /// speak of what is above them.
    pub(super) fn with_comments(&self, line: usize, blanks: usize) -> usize {
        let is_deeper = |line: &usize| {
            let text = self.line(*line);
            let rest = text.trim_start_matches(' ');
            rest.starts_with('#') && text.len() - rest.len() > blanks
        };
        (line + 1..=self.starts.len()).take_while(is_deeper).last().unwrap_or(line)
    }

    /// The line in which the group that begins with `{` at `place` ends.
    pub(super) fn end_of_flow(&self, place: Place) -> Option<usize> {
        let offset = self.offset(place)?;
        let (mut line, mut depth, mut before) = (place.line, 0_u32, ' ');
        let mut quote: Option<char> = None;
        let mut is_comment = false;
        for c in self.text[offset..].chars() {
            match (quote, c) {
                (_, '\n') => {
                    line += 1;
                    is_comment = false;
                }
                _ if is_comment => {}
                (Some(open), c) if c == open && before != '\\' => quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => is_comment = true,
                (None, '\'' | '"') if before.is_whitespace() || "{[,:".contains(before) => quote = Some(c),
                (None, '{' | '[') => depth += 1,
                (None, '}' | ']') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(line);
                    }
                }
                (None, _) => {}
            }
            before = c;
        }
        None
    }
}
