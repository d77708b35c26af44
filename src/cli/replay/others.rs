//! What the runs of other units did to the run of a trace: they are not played, so what they left in the ledger is
//! written anew.
//!
//! Claims are decided by the ledger from all that it holds. A unit whose IMEI belongs to another chip is refused because
//! of a run that came before; one whose IMEI turns up on a second chip meanwhile is refused at its end. Both are in the
//! trace, as a fact of its own run and as the refusal of the other one's.

use std::convert::Infallible;

use jiff::Timestamp;

use crate::domain::{ChipId, Fact, FailureCode, Imei, KeyHash, Outcome, Phase, RunId, RunRecord};
use crate::ledger::{ClaimRequest, Ledger};
use crate::trace::{Event, Player, Trace};

/// An IMEI that no module has: that of the standard's example, and the next one (3GPP TS 23.003, annex B).
const EXAMPLES: [&str; 2] = ["490154203237518", "490154203237526"];

/// Gives the ledger the runs because of which claims of the trace's run were refused.
///
/// # Errors
/// A sentence for people, where the ledger does not take them.
pub(super) async fn earlier(trace: &Trace, ledger: &Ledger) -> Result<(), String> {
    let mut known: Vec<RunId> = Vec::new();
    for fact in &trace.facts {
        let Fact::ClaimRefused { run, chip, imei, holder, code } = fact else { continue };
        if holder == run || known.contains(holder) {
            continue;
        }
        known.push(*holder);
        let (chip, imei) = match code {
            // The IMEI had come with another chip.
            FailureCode::ImeiDuplicate => (neighbour(*chip), *imei),
            // The chip had come with another IMEI.
            _ => (*chip, other_than(*imei).ok_or("there is no other IMEI")?),
        };
        begin(trace, ledger, *holder).await?;
        claim(ledger, *holder, chip, imei).await?;
        ledger.append(Fact::RunFinished(Box::new(record(trace, *holder, chip)))).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Gives the ledger the refusals of other runs because of this one, each once the replay has come to where it was. Goes
/// on for ever unless it fails.
///
/// # Errors
/// As [`earlier`].
pub(super) async fn meanwhile(
    trace: &Trace,
    player: &Player,
    ledger: &Ledger,
    start: u64,
) -> Result<Infallible, String> {
    let mut facts = 0;
    for (index, line) in trace.lines.iter().enumerate() {
        match &line.event {
            Event::Fact(_) => facts += 1,
            Event::Elsewhere(fact) => {
                let Fact::ClaimRefused { run, chip, imei, .. } = fact.as_ref() else { continue };
                player.due(index).await;
                let mut head = ledger.head();
                while super::facts(ledger, start).await?.len() < facts {
                    head.changed().await.map_err(|_| "the ledger is closed")?;
                }
                begin(trace, ledger, *run).await?;
                claim(ledger, *run, *chip, *imei).await?;
            }
            _ => {}
        }
    }
    std::future::pending().await
}

fn neighbour(chip: ChipId) -> ChipId {
    ChipId { serial: chip.serial.wrapping_add(1), ..chip }
}

fn other_than(imei: Imei) -> Option<Imei> {
    EXAMPLES.iter().filter_map(|text| text.parse().ok()).find(|other| *other != imei)
}

async fn begin(trace: &Trace, ledger: &Ledger, run: RunId) -> Result<(), String> {
    let (slot, chain) = trace
        .lines
        .iter()
        .find_map(|line| match &line.event {
            Event::Slot { slot, chains, .. } => Some((slot.clone(), chains.first()?.clone())),
            _ => None,
        })
        .ok_or("the trace is of no slot")?;
    let started = Fact::RunStarted { run, batch: trace.header.batch.clone(), slot, chain, identity: None };
    ledger.append(started).await.map(drop).map_err(|error| error.to_string())
}

async fn claim(ledger: &Ledger, run: RunId, chip: ChipId, imei: Imei) -> Result<(), String> {
    let key_hash = KeyHash::new(&[0; 32]).map_err(|error| error.to_string())?;
    ledger.claim(ClaimRequest { run, chip, imei, key_hash }).await.map(drop).map_err(|error| error.to_string())
}

/// The end of a run of which nothing is known but its claim.
fn record(trace: &Trace, run: RunId, chip: ChipId) -> RunRecord {
    let header = &trace.header;
    let (batch, station, slot) = (header.batch.clone(), header.station.clone(), header.slot.clone());
    RunRecord {
        chip: Some(chip),
        outcome: Outcome::Held,
        phase: Phase::Probe,
        attempt: 1,
        ..RunRecord::begun(run, batch, station, slot, header.time_scale, Timestamp::UNIX_EPOCH)
    }
}
