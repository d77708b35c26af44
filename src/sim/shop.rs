//! Where units are made, kept and scrapped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::body::{Body, SharedBody};
use super::faults::{Faults, Kind};
use super::maker;
use super::models::{MODELS, Model};
use super::module::{Incident, Module};
use super::nand::PagePool;
use super::spec::{FaultSpec, Flash, Pacing, SimError, UnitKind};
use super::unit::identity;
use super::world::World;
use crate::domain::SlotName;
use crate::host::{Clock, Disk};

/// What a shop is made of.
pub(super) struct ShopParts {
    pub(super) seed: u64,
    pub(super) kinds: Vec<UnitKind>,
    pub(super) faults: Vec<FaultSpec>,
    pub(super) pacing: Pacing,
    pub(super) flash: Flash,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) world: Arc<World>,
    pub(super) clock: Clock,
    pub(super) incidents: mpsc::Sender<Incident>,
}

/// The shop.
pub(super) struct Shop {
    parts: ShopParts,
    pool: PagePool,
    units: Mutex<BTreeMap<u32, SharedBody>>,
}

impl std::fmt::Debug for Shop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shop").field("kinds", &self.parts.kinds).finish_non_exhaustive()
    }
}

impl Shop {
    pub(super) fn new(parts: ShopParts) -> Result<Self, SimError> {
        for kind in &parts.kinds {
            model(&kind.model)?;
        }
        if let Flash::Files(directory) = &parts.flash {
            parts.disk.create_dir_all(directory)?;
        }
        Ok(Self { parts, pool: PagePool::new(), units: Mutex::default() })
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<u32, SharedBody>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether units survive the process.
    pub(super) fn keeps_flash(&self) -> bool {
        matches!(self.parts.flash, Flash::Files(_))
    }

    /// What the unit of that number is when it goes into that slot.
    pub(super) fn kind_for(&self, unit: u32, slot: &SlotName) -> Result<UnitKind, SimError> {
        let fits = |kind: &&UnitKind| kind.slots.as_ref().is_none_or(|slots| slots.contains(slot));
        let kinds: Vec<&UnitKind> = self.parts.kinds.iter().filter(fits).collect();
        let turn = usize::try_from(unit.saturating_sub(1)).unwrap_or_default();
        let kind = kinds.get(turn % kinds.len().max(1)).ok_or_else(|| SimError::NoKind(slot.clone()))?;
        if !Faults::of_unit(unit, &self.parts.faults)?.has(Kind::WrongModel) {
            return Ok((*kind).clone());
        }
        let ours = model(&kind.model)?;
        // One that none of the line's profiles is for, if there is such a one.
        let expected: Vec<&str> = self.parts.kinds.iter().map(|kind| kind.model.as_str()).collect();
        let strangers = MODELS.iter().filter(|other| other.name != ours.name);
        let other = strangers.clone().find(|other| !expected.contains(&other.name)).or(strangers.clone().next());
        let other = other.ok_or_else(|| SimError::Model(kind.model.clone()))?;
        let revision = other.revisions.first().copied().unwrap_or_default().to_owned();
        Ok(UnitKind { model: other.name.to_owned(), revision, slots: None })
    }

    /// Makes a unit, or takes it as an earlier process left it, and starts its task without power.
    pub(super) fn build(&self, unit: u32, kind: &UnitKind, progress: Option<(&[usize], bool)>) -> Result<(), SimError> {
        if self.units().contains_key(&unit) {
            return Err(SimError::PluggedAlready(unit));
        }
        let mut faults = Faults::of_unit(unit, &self.parts.faults)?;
        if let Some((spent, flashed)) = progress {
            faults.restore(spent, flashed);
        }
        let body = SharedBody::new(self.body_of(unit, kind, faults, progress.is_some())?);
        self.units().insert(unit, body.clone());
        let supply = self.parts.world.register(unit);
        let module = Module {
            unit,
            body,
            world: self.parts.world.clone(),
            clock: self.parts.clock.clone(),
            pacing: self.parts.pacing,
            incidents: self.parts.incidents.clone(),
        };
        tokio::spawn(module.run(supply));
        Ok(())
    }

    /// Takes a unit out of the factory for good, with its flash.
    pub(super) fn scrap(&self, unit: u32) {
        self.parts.world.forget(unit);
        self.units().remove(&unit);
        self.delete_files(unit);
    }

    fn body_of(&self, unit: u32, kind: &UnitKind, faults: Faults, exists: bool) -> Result<Body, SimError> {
        let model = model(&kind.model)?;
        let identity = identity(model, unit, self.parts.seed);
        let path = self.path(unit);
        if !exists {
            self.delete_files(unit);
        }
        let place = match &path {
            Some(path) => maker::Place::File(self.parts.disk.as_ref(), path),
            None => maker::Place::Memory(&self.pool),
        };
        let mut nand = maker::open(model, &place)?;
        if !exists {
            let other = faults.has(Kind::ImeiOfAnother).then(|| self.imei_before(unit, model)).flatten();
            maker::fill(&mut nand, &identity, &kind.revision, &faults, self.parts.seed, other.as_deref())?;
        }
        Ok(Body::new(identity, kind.revision.clone(), nand, faults, self.parts.seed))
    }

    fn imei_before(&self, unit: u32, model: &Model) -> Option<String> {
        let units = self.units();
        let earlier = units.range(..unit).rev().map(|(_, body)| body.lock());
        earlier
            .map(|body| body.identity().clone())
            .find(|identity| identity.model.name == model.name)
            .map(|identity| identity.imei.to_string())
    }

    /// Removes a unit's flash files.
    pub(super) fn delete_files(&self, unit: u32) {
        let Some(path) = self.path(unit) else { return };
        for path in [path.with_extension("nand.state"), path] {
            match self.parts.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, unit, "a simulated unit's flash cannot be deleted");
                }
                _ => {}
            }
        }
    }

    /// What of a unit's faults is used up, and whether it was flashed.
    pub(super) fn progress(&self, unit: u32) -> (Vec<usize>, bool) {
        self.body(unit)
            .map(|body| {
                let body = body.lock();
                (body.faults.spent(), body.faults.is_flashed())
            })
            .unwrap_or_default()
    }

    /// Whether a unit that was taken out comes back once more; it has lost its EFS meanwhile.
    pub(super) fn comes_back(&self, unit: u32) -> bool {
        self.body(unit).is_some_and(|body| {
            let mut body = body.lock();
            let comes = body.faults.take(Kind::ComesBackLost);
            if comes {
                body.lose_efs();
            }
            comes
        })
    }

    /// A unit's body.
    pub(super) fn body(&self, unit: u32) -> Option<SharedBody> {
        self.units().get(&unit).cloned()
    }

    fn path(&self, unit: u32) -> Option<PathBuf> {
        match &self.parts.flash {
            Flash::Memory => None,
            Flash::Files(directory) => Some(directory.join(format!("{unit}.nand"))),
        }
    }
}

fn model(name: &str) -> Result<&'static Model, SimError> {
    Model::by_name(name).ok_or_else(|| SimError::Model(name.to_owned()))
}
