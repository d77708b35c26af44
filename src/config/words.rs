//! Words for remedies: what was probably meant, and lists of what is possible.

/// Most words of a list in a remedy.
const LISTED_MAX: usize = 64;
/// Longest word that is compared, in characters: longer ones are no typing errors.
const COMPARED_CHARS_MAX: usize = 40;
/// From this length on, the beginning of a word counts as meaning it, in characters.
const PART_CHARS_MIN: usize = 4;

/// The remedy for a word that is none of `possible`: the one that was probably meant, and all of them behind `intro`
/// (such as "slots are").
pub(super) fn choose<'a>(word: &str, intro: &str, possible: impl IntoIterator<Item = &'a str>) -> String {
    let possible: Vec<&str> = possible.into_iter().collect();
    match closest(word, &possible) {
        None => format!("{intro}: {}", list(possible)),
        Some(close) => {
            let (first, rest) = intro.split_at_checked(1).unwrap_or_default();
            format!("did you mean `{close}`? {}{rest}: {}", first.to_uppercase(), list(possible))
        }
    }
}

/// The possible word that `word` is a likely typing error, or a part, of.
fn closest<'a>(word: &str, possible: &[&'a str]) -> Option<&'a str> {
    let length = word.chars().count();
    if length > COMPARED_CHARS_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let comparable = || possible.iter().filter(|candidate| candidate.chars().count() <= COMPARED_CHARS_MAX);
    let rated = comparable().map(|candidate| (distance(&word, &candidate.to_lowercase()), *candidate));
    if let Some((_, close)) = rated.min().filter(|(distance, _)| distance * 3 <= length) {
        return Some(close);
    }
    let is_part = |candidate: &str| candidate.starts_with(&word) || word.starts_with(candidate);
    let part = comparable().find(|candidate| length >= PART_CHARS_MIN && is_part(&candidate.to_lowercase()));
    part.copied()
}

/// `a, b, c`; a long list is cut.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() {
        return "(none)".to_owned();
    }
    let shown = words[..words.len().min(LISTED_MAX)].join(", ");
    if words.len() > LISTED_MAX { format!("{shown}, …") } else { shown }
}

/// How many insertions, deletions, replacements and swaps of neighbours make `a` of `b` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised_and_other_words_are_not() {
        let keys = ["name", "slots", "hardware", "efs"];
        for (word, meant) in [("solts", "slots"), ("hardwear", "hardware"), ("Name", "name"), ("esf", "efs")] {
            assert_eq!(closest(word, &keys), Some(meant));
        }
        assert_eq!(closest("hard", &keys), Some("hardware"));
        assert_eq!(closest("A3", &["A1", "A2"]), None, "half of it is no typing error");
        for word in ["colour", &"x".repeat(1000), "", "n"] {
            assert_eq!(closest(word, &keys), None, "{word}");
        }
        assert_eq!(
            choose("esf", "keys here are", keys),
            "did you mean `efs`? Keys here are: name, slots, hardware, efs"
        );
        assert_eq!(choose("x", "slots are", []), "slots are: (none)");
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("slot", "slots", 1), ("abc", "xyz", 3)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
