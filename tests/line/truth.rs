//! What really became of the modules: read from their simulated flash and their side of the cable, not from what they
//! or the controller say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stationmaster::controller::Product;
use stationmaster::domain::{Fact, Outcome, RunRecord, Sha256Digest};
use stationmaster::hardware::{DeviceMode, Listing};
use stationmaster::host::Clock;
use stationmaster::ledger::Entry;
use stationmaster::protocol::rawprogram::RawKind;
use stationmaster::sim::efs::EfsState;
use stationmaster::sim::unit::UnitIdentity;
use stationmaster::sim::{BusAction, BusEvent, Factory, UnitTruth};

use crate::harness::{START, Witness};

/// What belongs to a unit besides its file system.
const GUARDED: [&str; 2] = ["sys_rev", "RAWDATA"];

/// What is in a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) boot: &'static str,
    pub(crate) revision: Option<String>,
    pub(crate) imei: Option<String>,
    efs: EfsState,
    /// All items of its file system but the count of boots.
    items: Sha256Digest,
    /// The pages of the guarded partitions besides the file system.
    guarded: Vec<Option<u64>>,
    /// All pages outside of the file system, to which every boot writes.
    pages: Vec<Option<u64>>,
    pub(crate) bad_blocks: u32,
}

/// A module at the end of a run.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) record: RunRecord,
    /// The number of the unit in the slot; `None` when it was out.
    pub(crate) unit: Option<u32>,
    pub(crate) identity: Option<UnitIdentity>,
    pub(crate) content: Option<Content>,
    /// What was done to it so far.
    pub(crate) events: Vec<BusEvent>,
    /// Whether it is on the bus in normal mode.
    pub(crate) is_normal: bool,
    /// Partitions whose beginning is not the package's image.
    pub(crate) different: Vec<String>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// What was in a unit when its first run began.
    pub(crate) before: BTreeMap<u32, Content>,
    pub(crate) ends: Vec<Seen>,
}

impl Content {
    fn of(unit: &UnitTruth) -> Self {
        let found = unit.inspect().expect("its storage can be read");
        let (pages, guarded) = unit.flash(|nand, map| {
            let efs = map.range("EFS2").expect("it has a file system");
            let outside = (0..nand.total_pages()).filter(|page| *page < efs.start || *page >= efs.end());
            let guarded = GUARDED.iter().filter_map(|name| map.range(name));
            (
                outside.map(|page| nand.tag(page)).collect(),
                guarded.flat_map(|range| range.start..range.end()).map(|page| map.tag(nand, page)).collect(),
            )
        });
        Self {
            boot: found.boot.as_str(),
            revision: found.revision,
            imei: found.imei,
            efs: found.efs,
            items: found.efs_digest,
            guarded,
            pages,
            bad_blocks: found.bad_blocks,
        }
    }
}

/// A witness who looks into every unit when its first run begins, and again when a run ends.
pub(crate) fn witness(products: Vec<Product>) -> (Witness, Arc<Mutex<Diary>>) {
    let diary = Arc::new(Mutex::new(Diary::default()));
    let pages = Arc::clone(&diary);
    let look = move |factory: &Factory, listing: &Listing, entry: &Entry| {
        let mut diary = pages.lock().unwrap_or_else(PoisonError::into_inner);
        match &entry.fact {
            Fact::RunStarted { slot, .. } => {
                if let Some(unit) = factory.occupant(slot).and_then(|number| factory.unit(number)) {
                    diary.before.entry(unit.number()).or_insert_with(|| Content::of(&unit));
                }
            }
            Fact::RunFinished(record) => diary.ends.push(end_of(record, factory, listing, &products)),
            _ => {}
        }
    };
    (Box::new(look), diary)
}

fn end_of(record: &RunRecord, factory: &Factory, listing: &Listing, products: &[Product]) -> Seen {
    let unit = factory.occupant(&record.slot).and_then(|number| factory.unit(number));
    let product = products.iter().find(|product| product.profile.name == record.profile);
    let passed = unit.as_ref().filter(|_| record.outcome == Outcome::Pass);
    Seen {
        record: record.clone(),
        unit: unit.as_ref().map(UnitTruth::number),
        identity: unit.as_ref().map(UnitTruth::identity),
        content: unit.as_ref().map(Content::of),
        events: unit.as_ref().map(UnitTruth::events).unwrap_or_default(),
        is_normal: listing.devices.iter().any(|device| {
            Some(&device.key.chain) == record.chain_normal.as_ref() && matches!(device.mode(), DeviceMode::Normal(_))
        }),
        different: passed.zip(product).map(|(unit, product)| differences(unit, product)).unwrap_or_default(),
    }
}

/// The images of a package that are not what stands at the beginning of their partitions.
fn differences(unit: &UnitTruth, product: &Product) -> Vec<String> {
    let programs = product.package.operations().iter().filter(|operation| operation.kind == RawKind::Program);
    let mut images = 0;
    let different = programs
        .filter_map(|operation| {
            let (key, bytes) = product.package.resolve(operation.file.as_deref()?)?;
            let image = product.package.image(&key)?;
            images += 1;
            let name = unit.flash(|_, map| {
                map.names()
                    .find(|name| map.range(name).is_some_and(|range| range.start == operation.range.start))
                    .map(str::to_owned)
            });
            let name = name.unwrap_or_else(|| panic!("{key} begins no partition"));
            (unit.digest(&name, bytes) != Some(image.sha256)).then_some(name)
        })
        .collect();
    assert!(images >= 10, "a package has more than {images} images");
    different
}

impl Seen {
    /// How often a programmer was started.
    pub(crate) fn programmers(&self) -> usize {
        self.events.iter().filter(|event| event.action == BusAction::Programmer).count()
    }

    /// A PASS is true: the module boots, every image of the package is in it, and what belongs to the unit is as it was.
    pub(crate) fn assert_proven(&self, before: &Content) {
        let what = self.describe();
        let content = self.content.as_ref().expect("the unit is in its slot");
        let identity = self.identity.as_ref().expect("the unit is in its slot");
        assert!(self.is_normal, "{what}");
        assert_eq!(content.boot, "normal", "{what}");
        assert_eq!(content.revision.as_deref(), Some(identity.model.current_revision()), "{what}");
        assert_eq!(self.different, Vec::<String>::new(), "{what}");
        assert_eq!(content.imei.as_deref(), Some(identity.imei.as_str()), "{what}");
        assert_eq!(content.efs, EfsState::Present, "{what}");
        assert_eq!(content.items, before.items, "{what}");
        assert!(content.guarded == before.guarded, "guarded pages were changed: {what}");
        assert_eq!(self.record.bad_blocks, content.bad_blocks, "{what}");
    }

    /// A refusal is true: the module is as it came, and back in normal mode.
    pub(crate) fn assert_untouched(&self, before: &Content) {
        let what = self.describe();
        let content = self.content.as_ref().expect("the unit is in its slot");
        assert!(self.is_normal, "{what}");
        assert!(content.pages == before.pages, "pages were changed: {what}");
        assert_eq!((content.boot, &content.items), (before.boot, &before.items), "{what}");
        assert!(!self.events.iter().any(BusEvent::is_destructive), "{what}");
    }

    fn describe(&self) -> String {
        let RunRecord { run, slot, outcome, code, detail, .. } = &self.record;
        format!("unit {:?} in {slot}, run {run}: {outcome} {code:?} {detail}", self.unit)
    }
}

/// No command that changes a module was on its cable before its backup and the announcement were durable.
pub(crate) fn assert_backed_up_first(clock: &Clock, diary: &Diary, entries: &[Entry]) {
    let began = clock.wall().duration_since(START.parse().expect("a timestamp"));
    assert_eq!(Duration::try_from(began).expect("it goes forward").as_millis(), clock.now().as_millis());
    let mut checked = 0;
    for seen in &diary.ends {
        let Some(first) = seen.events.iter().find(|event| event.is_destructive()) else { continue };
        let chip = seen.identity.as_ref().expect("the unit is in its slot").chip;
        let when = |entry: &Entry| {
            let since = entry.wall.duration_since(START.parse().expect("a timestamp"));
            Duration::try_from(since).expect("after the start")
        };
        let find = |wanted: fn(&Fact) -> Option<stationmaster::domain::ChipId>| {
            entries.iter().find(|entry| wanted(&entry.fact) == Some(chip)).map(when)
        };
        let backup = find(|fact| match fact {
            Fact::BackupStored { backup, .. } => Some(backup.chip),
            _ => None,
        });
        let intent = find(|fact| match fact {
            Fact::Intent { chip, .. } => Some(*chip),
            _ => None,
        });
        let (backup, intent) = (backup.expect("a backup"), intent.expect("an announcement"));
        assert!(backup <= intent && intent <= first.at, "{}: {backup:?} {intent:?} {:?}", seen.describe(), first.at);
        checked += 1;
    }
    assert!(checked > 0, "nothing was flashed");
}
