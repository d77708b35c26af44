//! A directory with stations and profiles, and the binary started in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest that a process may take: one that hangs is a failure, not a wait.
const PROCESS_MAX: Duration = Duration::from_secs(180);

/// Held while stations run: a station's deadlines shrink with its time scale, and several at a time on a small host
/// would miss theirs. A file, because tests may be processes of their own.
pub(crate) fn alone() -> fs::File {
    let file = fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-station.lock")).expect("writable");
    file.lock().expect("it can be waited for");
    file
}

/// A directory like a fresh clone's, where the packages are small.
pub(crate) struct Place {
    directory: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// Copies `stations/` and `profiles/` of the tree.
    pub(crate) fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().expect("a directory") };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for directory in ["stations", "profiles"] {
            fs::create_dir(place.path(directory)).expect("a directory");
            for entry in fs::read_dir(root.join(directory)).expect("it is in the tree") {
                let name = entry.expect("an entry").file_name();
                let text = fs::read_to_string(root.join(directory).join(&name)).expect("text");
                let small = text.replace("megabytes: 24", "megabytes: 3");
                fs::write(place.path(directory).join(name), small).expect("writable");
            }
        }
        place
    }

    /// A path in it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.path(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
        fs::write(path, text).expect("writable");
    }

    /// Rewrites a file.
    pub(crate) fn change(&self, path: impl AsRef<Path>, change: impl FnOnce(String) -> String) {
        self.write(&path, change(self.read(&path)));
    }

    /// The paths of everything in it.
    pub(crate) fn everything(&self) -> BTreeSet<PathBuf> {
        fn collect(directory: &Path, paths: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    collect(&path, paths);
                }
                paths.insert(path);
            }
        }
        let mut paths = BTreeSet::new();
        collect(self.directory.path(), &mut paths);
        paths
    }

    /// The binary with arguments that are separated by blanks, to be started in the directory.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stationmaster"));
        command
            .args(line.split_whitespace())
            .current_dir(self.directory.path())
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "80")
            .env_remove("LC_ALL")
            .env_remove("STATIONMASTER_LOG")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, line: &str) -> Ran {
        ended(self.command(line).spawn().expect("the binary starts"))
    }

    /// Runs it to its end with that at its standard input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Ran {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().expect("the binary starts");
        let mut pipe = child.stdin.take().expect("it is piped");
        pipe.write_all(input.as_bytes()).expect("a pipe holds that much");
        drop(pipe);
        ended(child)
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Waits for the end of a process.
pub(crate) fn ended(mut child: std::process::Child) -> Ran {
    // Both at once: a process that waits for one of its readers must not wait for ever.
    let mut err = child.stderr.take();
    let errors = std::thread::spawn(move || text(err.as_mut()));
    let mut out = child.stdout.take();
    let output = std::thread::spawn(move || text(out.as_mut()));
    let start = Instant::now();
    let mut status = None;
    while status.is_none() && start.elapsed() < PROCESS_MAX {
        std::thread::sleep(Duration::from_millis(5));
        status = child.try_wait().expect("it can be waited for");
    }
    let hangs = status.is_none();
    let status = status.unwrap_or_else(|| {
        child.kill().expect("it can be killed");
        child.wait().expect("it ends")
    });
    let [out, err] = [output, errors].map(|reader| reader.join().expect("output is text"));
    assert!(!hangs, "the process does not end:\n{out}{err}");
    Ran { status: status.code(), out, err }
}

fn text(stream: Option<&mut impl Read>) -> String {
    let mut text = String::new();
    if let Some(stream) = stream {
        stream.read_to_string(&mut text).expect("output is text");
    }
    text
}

/// The rows of a report, by column name.
pub(crate) struct Report {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Report {
    pub(crate) fn of(text: &str) -> Self {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let mut records =
            reader.records().map(|record| record.expect("a row").iter().map(str::to_owned).collect::<Vec<_>>());
        Self { columns: records.next().expect("a header"), rows: records.collect() }
    }

    /// A column's values, row by row.
    pub(crate) fn column(&self, name: &str) -> Vec<&str> {
        let at = self.columns.iter().position(|column| column == name).expect("a column of that name");
        self.rows.iter().map(|row| row[at].as_str()).collect()
    }
}
