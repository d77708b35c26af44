//! The verifier that the documentation prints works, and finds what ours finds.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use stationmaster::domain::Outcome;
use stationmaster::host::{Clock, OsDisk};
use stationmaster::ledger::{IndexPlace, Ledger, WriterMode, verify};

use crate::facts;

fn script() -> &'static str {
    let text = include_str!("../../docs/ledger.md");
    let (_, rest) = text.split_once("```python\n").expect("the document has a script");
    rest.split_once("```").expect("which ends").0
}

/// Its verdict and what it says; `None` on a machine without Python.
fn run(state: &Path) -> Option<(bool, String)> {
    let output = Command::new("python3").arg("-c").arg(script()).arg(state).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[tokio::test]
async fn the_documented_script_agrees() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("state");
    let (disk, clock) = (Arc::new(OsDisk::new()), Clock::real());
    let opened = Ledger::open(disk, clock, path.clone(), WriterMode::Thread, IndexPlace::File).await;
    let ledger = opened.expect("opened");
    facts::up_to_intent(&ledger, 1).await.expect("durable");
    ledger.append(facts::finished(1, Outcome::Pass)).await.expect("durable");
    ledger.close().await;
    let report = verify(&OsDisk::new(), &path).expect("read");
    let Some((good, text)) = run(&path) else { return };
    assert!(good, "{text}");
    let head = report.head.expect("not empty");
    assert_eq!(text.trim(), format!("{} entries, head {head}", report.entries));

    let file = path.join("ledger-000001.jsonl");
    let bytes = std::fs::read(&file).expect("read");
    for at in (0..bytes.len()).step_by(211).chain([bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&file, changed).expect("written");
        let line = verify(&OsDisk::new(), &path).expect("read").difference.expect("found").line;
        let (good, text) = run(&path).expect("it ran before");
        assert!(!good && text.contains(&format!("ledger-000001.jsonl:{line}: ")), "byte {at}: {text}");
    }
}
