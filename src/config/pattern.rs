//! Patterns for revisions: a text in which `*` stands for any characters. Regular expressions would be more than a
//! line lead wants to write for `EG25GGBR07A0*`, and a forgotten `\.` would let wrong firmware pass.

use std::fmt;
use std::str::FromStr;

use crate::domain::limits;

/// A text with `*` as a wildcard for any number of characters; everything else is compared as written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pattern(String);

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty or too long.
    #[error("a pattern has 1 to {} characters", limits::PATTERN_CHARS_MAX)]
    Length,
    /// Blanks and characters outside of ASCII are in no revision.
    #[error("a pattern consists of visible ASCII characters, with `*` for any others")]
    Characters,
}

impl Pattern {
    /// Whether the whole of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(found) = rest.find(part) else { return false };
            rest = &rest[found + part.len()..];
        }
        rest.ends_with(last)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.chars().count() > limits::PATTERN_CHARS_MAX {
            return Err(PatternError::Length);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(PatternError::Characters);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().expect("a valid pattern").matches(text)
    }

    #[test]
    fn the_whole_text_must_fit() {
        assert!(matches("EG25GGBR07A0*", "EG25GGBR07A08M2G"));
        assert!(!matches("EG25GGBR07A0*", "XEG25GGBR07A08M2G"));
        assert!(matches("*M2G*", "EG25GGBR07A08M2G_30.202"));
        assert!(!matches("EG25", "EG25GG"));
        assert!(matches("a*b*b", "abb") && !matches("ab*ba", "aba"), "one character is not used twice");
        assert!(matches("*", "") && matches("a.c", "a.c") && !matches("a.c", "abc"));
        assert!("".parse::<Pattern>().is_err() && "a b".parse::<Pattern>().is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_a_regular_expression(pattern in "[ab*.]{1,12}", text in "[ab.]{0,12}") {
            let expression = format!("^{}$", regex::escape(&pattern).replace(r"\*", ".*"));
            let expected = regex::Regex::new(&expression).expect("escaped").is_match(&text);
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
