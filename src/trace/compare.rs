//! Whether a replay came to the same facts.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::domain::Fact;

/// What differs from one recording to the next although nothing else does: ids, stamps, durations, and what the ledger
/// of the station knew of the unit from earlier runs.
const IGNORED: [&str; 12] = [
    "run",
    "other",
    "holder",
    "started",
    "ended",
    "milliseconds",
    "bytes_per_second",
    "time_scale",
    "attempt",
    "config",
    // Which waits were long enough to be told, and whether the station had qualified the profile.
    "waits",
    "unqualified",
];
/// Digests that do not come from what was read of the module: nothing ever stands in for them.
const STRICT: [&str; 4] = ["key_hash", "profile_digest", "package_digest", "plan"];
/// How many digits a digest has: the short form in measurements, and the whole one. An IMEI has 15, a chip 16 and 8.
const DIGEST_DIGITS: [usize; 2] = [12, 64];

/// The first fact that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactsDiffer {
    /// Which one, from 1.
    pub number: usize,
    /// Which part of it.
    pub path: String,
    /// What the trace has.
    pub expected: String,
    /// What the replay came to.
    pub got: String,
}

impl fmt::Display for FactsDiffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, path, expected, got } = self;
        write!(f, "fact {number} differs at {path}\n  the trace:  {expected}\n  the replay: {got}")
    }
}

/// Compares the facts of a replay with those of the trace, but for what must differ. With `stood_in` something stood in
/// for content that is not in the trace: digests differ then, but equal ones must still be equal.
///
/// # Errors
/// The first difference.
pub fn compare(recorded: &[Fact], replayed: &[Fact], stood_in: bool) -> Result<(), FactsDiffer> {
    let mut digests = stood_in.then(Digests::default);
    for number in 0..recorded.len().max(replayed.len()) {
        let words =
            |fact: Option<&Fact>| fact.map_or(Value::Null, |fact| serde_json::to_value(fact).unwrap_or_default());
        let (expected, got) = (words(recorded.get(number)), words(replayed.get(number)));
        same(&expected, &got, "", &mut digests).map_err(|(path, expected, got)| FactsDiffer {
            number: number + 1,
            path,
            expected,
            got,
        })?;
    }
    Ok(())
}

/// Which digest of the replay stands for which of the trace.
#[derive(Debug, Default)]
struct Digests {
    there: BTreeMap<String, String>,
    back: BTreeMap<String, String>,
}

impl Digests {
    /// Compares texts word by word: digests stand in sentences too.
    fn agree(&mut self, expected: &str, got: &str) -> bool {
        let (expected, got): (Vec<&str>, Vec<&str>) = (expected.split(' ').collect(), got.split(' ').collect());
        expected.len() == got.len() && expected.iter().zip(&got).all(|(expected, got)| self.same_word(expected, got))
    }

    fn same_word(&mut self, expected: &str, got: &str) -> bool {
        if !is_digest(expected) || !is_digest(got) {
            return expected == got;
        }
        expected.len() == got.len()
            && self.there.entry(expected.to_owned()).or_insert_with(|| got.to_owned()) == got
            && self.back.entry(got.to_owned()).or_insert_with(|| expected.to_owned()) == expected
    }
}

fn is_digest(word: &str) -> bool {
    DIGEST_DIGITS.contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn same(
    expected: &Value,
    got: &Value,
    path: &str,
    digests: &mut Option<Digests>,
) -> Result<(), (String, String, String)> {
    let differ = || Err((if path.is_empty() { "its beginning" } else { path }.to_owned(), said(expected), said(got)));
    match (expected, got) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                if IGNORED.contains(&key.as_str()) {
                    continue;
                }
                let path = format!("{path}.{key}");
                let strict = &mut None;
                let digests = if STRICT.contains(&key.as_str()) { strict } else { &mut *digests };
                same(value, found.get(key).unwrap_or(&Value::Null), path.trim_start_matches('.'), digests)?;
            }
            if found.keys().any(|key| !expected.contains_key(key) && !IGNORED.contains(&key.as_str())) {
                differ()
            } else {
                Ok(())
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (value, other)) in expected.iter().zip(found).enumerate() {
                same(value, other, &format!("{path}[{index}]"), digests)?;
            }
            Ok(())
        }
        (Value::String(expected), Value::String(found)) => {
            let agree = match digests {
                Some(digests) => digests.agree(expected, found),
                None => expected == found,
            };
            if agree { Ok(()) } else { differ() }
        }
        (expected, found) if expected == found => Ok(()),
        _ => differ(),
    }
}

fn said(value: &Value) -> String {
    const CHARS_MAX: usize = 300;
    let text = if value.is_null() { "nothing".to_owned() } else { value.to_string() };
    if text.chars().count() <= CHARS_MAX { text } else { text.chars().take(CHARS_MAX).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FailureCode, Phase, RunId, Sha256Digest};

    fn interrupted(run: u8, detail: &str) -> Fact {
        let run = RunId::new(0, &[run; 10]);
        Fact::RunInterrupted { run, phase: Phase::Flash, code: FailureCode::Unplugged, detail: detail.to_owned() }
    }

    #[test]
    fn ids_may_differ_and_facts_may_not() {
        assert_eq!(compare(&[interrupted(1, "a")], &[interrupted(2, "a")], false), Ok(()));
        let other = compare(&[interrupted(1, "a")], &[interrupted(1, "b")], false).expect_err("it differs");
        assert_eq!((other.number, other.path.as_str()), (1, "run_interrupted.detail"));
        assert!(compare(&[interrupted(1, "a")], &[], false).is_err());
        assert!(compare(&[], &[interrupted(1, "a")], true).is_err());
    }

    #[test]
    fn digests_of_what_stood_in_agree_with_one_another() {
        let digest = |text: &str| interrupted(1, &Sha256Digest::of(text.as_bytes()).to_string());
        let (a, b, c, d) = (digest("a"), digest("b"), digest("c"), digest("d"));
        let facts = |facts: [&Fact; 2]| facts.map(Clone::clone);
        assert_eq!(compare(&facts([&a, &b]), &facts([&c, &d]), true), Ok(()));
        assert_eq!(compare(&facts([&a, &a]), &facts([&c, &c]), true), Ok(()));
        assert!(compare(&facts([&a, &a]), &facts([&c, &d]), true).is_err());
        assert!(compare(&facts([&a, &b]), &facts([&c, &c]), true).is_err());
        assert!(compare(&facts([&a, &b]), &facts([&c, &d]), false).is_err());
        assert!(compare(&[a], &[interrupted(1, "x")], true).is_err());
        let said = |digest: &str| interrupted(1, &format!("it is empty, required = {digest}"));
        assert_eq!(compare(&[said("45c2891bef95")], &[said("466eb86a3f98")], true), Ok(()));
        assert!(compare(&[said("45c2891bef95")], &[said("466eb86a3f98")], false).is_err());
        // An IMEI is no digest.
        assert!(compare(&[said("867395075600391")], &[said("867395075600392")], true).is_err());
    }
}
