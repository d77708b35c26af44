//! The architecture, held by a test: who may use whom, and what may not be in the tree at all.

#![expect(clippy::disallowed_methods, reason = "this test reads the source tree itself, from the real disk")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the crate and what it may use, besides itself. The one place where the layers are written down for
/// the machine; the design says them for people.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("host", &["domain"]),
    ("config", &["domain", "host"]),
    ("hardware", &["domain", "host"]),
    ("firmware", &["domain", "protocol", "host", "config", "hardware"]),
    ("ledger", &["domain", "protocol", "host", "config", "hardware"]),
    ("vault", &["domain", "protocol", "host", "config", "hardware"]),
    // A tap must know the protocols to tell talk from content.
    ("trace", &["domain", "protocol", "host", "hardware"]),
    ("controller", &["domain", "protocol", "host", "config", "hardware", "firmware", "ledger", "vault"]),
    // Its wire bytes are its own, so that a wrong encoder cannot agree with itself.
    ("sim", &["domain", "host", "hardware"]),
    ("report", &["domain", "host", "config", "firmware", "ledger", "vault", "controller"]),
    ("metrics", &["domain", "host", "config", "firmware", "ledger", "vault", "controller"]),
    ("web", &["domain", "host", "config", "firmware", "ledger", "vault", "controller"]),
    (
        "cli",
        &[
            "domain",
            "protocol",
            "host",
            "config",
            "hardware",
            "firmware",
            "ledger",
            "vault",
            "trace",
            "controller",
            "sim",
            "report",
            "metrics",
            "web",
        ],
    ),
];

/// Words that only some files may hold: word, the paths below `src` where it is at home, and why.
const AT_HOME: &[(&str, &[&str], &str)] = &[
    ("serde_yaml::", &["config/yaml"], "one file alone names the YAML crate"),
    ("saphyr_parser::", &["config/yaml"], "one file alone names the YAML crate"),
    ("rusqlite::", &["ledger/"], "SQLite is the ledger's index and nothing else"),
    ("zstd::", &["vault/", "trace/payloads"], "only what was read of modules is compressed"),
    ("use age::", &["vault/"], "the vault alone seals and opens"),
    ("age::x25519", &["vault/", "config/check_station"], "the vault alone seals and opens; a station file names a key"),
    ("prometheus::", &["metrics"], "metrics are made in one place"),
    ("axum::", &["web/"], "HTTP is served in one place"),
    ("indicatif::", &["cli/"], "only the command line draws on a terminal"),
    ("clap::", &["cli/"], "only the command line reads arguments"),
    ("nusb::", &["hardware/usb"], "drivers' types never leave the real hardware"),
    ("tokio_serial::", &["hardware/usb"], "drivers' types never leave the real hardware"),
    ("crate::hardware::usb", &["hardware/usb", "cli/"], "only the command line chooses the real USB"),
];

/// Words that a layer may not hold: it would have time, tasks or files of its own.
const FOREIGN: &[(&str, &[&str])] = &[
    ("domain", &["tokio", "std::fs", "std::net", "std::thread"]),
    ("protocol", &["tokio", "std::fs", "std::net", "std::thread", "std::time::Instant"]),
];

/// Longer files do more than one thing; tables of data may be.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_symlink() || ["target", ".git", "state"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Every source file below a directory: its path there with `/`, and its text.
fn sources(directory: &str) -> Vec<(String, String)> {
    let directory = root().join(directory);
    let mut paths = Vec::new();
    files_below(&directory, &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&directory).expect("it is below").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    paths.into_iter().map(read).collect()
}

/// The module of the crate that a file below `src` belongs to.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The code of a file: comments and documentation blanked, lines kept.
fn code(text: &str) -> String {
    let strip = |line: &str| {
        let is_comment = line.trim_start().starts_with("//");
        if is_comment { String::new() } else { line.split(" // ").next().unwrap_or_default().to_owned() }
    };
    text.lines().map(strip).collect::<Vec<String>>().join("\n")
}

/// The modules that a text names as `crate::module`, also in groups: `crate::{a::B, c}`.
fn named_modules(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, prefix) in text.match_indices("crate::") {
        if text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|c| is_word(*c)).collect());
            continue;
        };
        let (mut depth, mut is_start) = (0_u32, true);
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && is_word(c) => {
                    found.insert(group[offset..].chars().take_while(|c| is_word(*c)).collect());
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    // Macros are exported to the crate's root and belong to no layer.
    found.retain(|name| MAY_USE.iter().any(|(module, _)| module == name) || !text.contains(&format!("crate::{name}!")));
    found
}

fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word))
}

/// Where in `text` a word stands, as lines from 1.
fn lines_with(text: &str, word: &str) -> Vec<usize> {
    text.lines().zip(1..).filter(|(line, _)| has_word(line, word)).map(|(_, number)| number).collect()
}

#[test]
fn modules_use_lower_layers_only() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in sources("src") {
        let module = module(&path);
        if ["lib", "main"].contains(&module) {
            continue;
        }
        seen.insert(module.to_owned());
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("src/{path}: `{module}` is in no layer: add it to the table and to the design"));
            continue;
        };
        for used in named_modules(&code(&text)) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("src/{path}: `{module}` may not use `crate::{used}`"));
            }
        }
    }
    for (module, _) in MAY_USE {
        if !seen.contains(*module) {
            wrong.push(format!("`{module}` is in the table but not in src"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_circles() {
    for (position, (module, allowed)) in MAY_USE.iter().enumerate() {
        for used in *allowed {
            let below = MAY_USE[..position].iter().any(|(lower, _)| lower == used);
            assert!(below, "`{module}` may use `{used}`, which is not below it");
        }
    }
}

#[test]
fn the_reader_of_paths_sees_every_form() {
    let text = "use crate::domain::Phase;\nuse crate::{host::{Clock, Disk}, ledger};\nlet x = crate::vault::new();\n\
                use mycrate::sim;\nuse crate::{\n    web,\n    cli::run,\n};";
    let expected = ["cli", "domain", "host", "ledger", "vault", "web"];
    assert_eq!(named_modules(text).into_iter().collect::<Vec<String>>(), expected);
    assert!(named_modules(&code("// crate::sim\n//! [`crate::sim`]\nlet x = 1; // crate::sim")).is_empty());
}

#[test]
fn drivers_are_named_where_they_are_at_home() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let code = code(&text);
        for (word, homes, why) in AT_HOME {
            if code.contains(word) && !homes.iter().any(|home| path.starts_with(home)) {
                wrong.push(format!("src/{path}: `{word}` ({why})"));
            }
        }
        for (module_name, words) in FOREIGN {
            if module(&path) == *module_name {
                let found = words.iter().filter(|word| code.contains(**word));
                wrong.extend(found.map(|word| format!("src/{path}: `{module_name}` may not use `{word}`")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_open_and_no_file_does_too_much() {
    // Split, so that this file does not hold what it looks for.
    let words = [
        concat!("uns", "afe {"),
        concat!("uns", "afe fn"),
        concat!("uns", "afe impl"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("db", "g!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    let mut wrong = Vec::new();
    for directory in ["src", "tests", "benches", "fuzz"] {
        if !root().join(directory).exists() {
            continue;
        }
        for (path, text) in sources(directory) {
            for word in words {
                let lines = lines_with(&text, word);
                wrong.extend(lines.into_iter().map(|line| format!("{directory}/{path}:{line}: `{word}`")));
            }
            let lines = text.lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{directory}/{path}: {lines} lines, more than {LINES_MAX}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    let needles = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/bash_", "jobs")];
    let mut paths = Vec::new();
    files_below(root(), &mut paths);
    let mut wrong = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for needle in needles {
            if text.contains(needle) {
                wrong.push(format!("{}: `{needle}`", path.strip_prefix(root()).unwrap_or(&path).display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
