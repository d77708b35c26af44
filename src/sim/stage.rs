//! What a test may do to one module: stop it in the middle of a command, and choose how it comes up.
//!
//! A module that is stopped stands still at exactly that point until the test lets go or takes its power, so that a
//! plug can be pulled between any two pages. What is in the partitions that belong to the unit is noted before the
//! first command that changes something and before each boot, for a boot writes to them itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::factory::UnitTruth;

/// Where within a command that changes the storage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Moment {
    /// It is accepted, and nothing is done yet.
    Begin,
    /// Half of its blocks are erased, or half of its pages are written.
    Middle,
    /// All of it is done, and not yet acknowledged.
    End,
}

impl Moment {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Begin, Self::Middle, Self::End];

    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// How a module comes up the next time that it gets power, whatever is in its flash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// In memory-dump mode, as after a crash. A reset, or a cut of its supply, ends it.
    Dump,
    /// In download mode, as with its test points closed.
    Edl,
    /// On the bus, but without an interface: the host did not get as far as its configuration.
    HalfEnumerated,
}

/// What was in the guarded partitions at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuardedSight {
    /// When.
    pub at: Duration,
    /// Whether a boot into normal mode followed; else the first command that changed something since the last boot.
    pub is_boot: bool,
    /// A hash over all of their pages.
    pub pages: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Armed,
    Reached,
    Open,
}

/// A point at which a module will stop, or has stopped. Dropped, it lets the module go on.
#[derive(Debug)]
pub struct StopPoint {
    gate: Arc<watch::Sender<Gate>>,
}

impl StopPoint {
    /// Waits until the module stands there.
    pub async fn reached(&self) {
        let mut gate = self.gate.subscribe();
        // The sender is here.
        let _closed = gate.wait_for(|gate| *gate != Gate::Armed).await;
    }

    /// Lets the module go on.
    pub fn release(&self) {
        self.gate.send_replace(Gate::Open);
    }
}

impl Drop for StopPoint {
    fn drop(&mut self) {
        self.release();
    }
}

/// What a test has planned for a module.
#[derive(Debug, Default)]
pub(super) struct Stage {
    stop: Option<(usize, Moment, Arc<watch::Sender<Gate>>)>,
    /// Commands that changed the storage so far.
    commands: usize,
    pub(super) arrival: Option<Arrival>,
    /// Added to the time of the next switch into download mode.
    pub(super) edl_delay: Option<Duration>,
    /// Whether it keeps the vendor's id in download mode.
    pub(super) vendor_edl: bool,
    pub(super) is_watched: bool,
    /// Whether the partitions were noted since the last boot.
    pub(super) is_noted: bool,
    pub(super) sights: Vec<GuardedSight>,
}

/// The stop that a module has come to.
pub(super) struct Stop(Arc<watch::Sender<Gate>>);

impl Stage {
    /// A further command that changes the storage has begun.
    pub(super) fn count_command(&mut self) {
        self.commands += 1;
    }

    /// Where the module is to stop now, if it is.
    pub(super) fn stop_at(&mut self, moment: Moment) -> Option<Stop> {
        let (command, wanted, _) = self.stop.as_ref()?;
        if command + 1 != self.commands || *wanted != moment {
            return None;
        }
        self.stop.take().map(|(.., gate)| Stop(gate))
    }
}

impl Stop {
    /// Stands still until the test lets go.
    pub(super) async fn stand(self) {
        let mut gate = self.0.subscribe();
        self.0.send_if_modified(|gate| {
            let was_armed = *gate == Gate::Armed;
            if was_armed {
                *gate = Gate::Reached;
            }
            was_armed
        });
        // The sender is here.
        let _closed = gate.wait_for(|gate| *gate == Gate::Open).await;
    }
}

/// Hands for tests.
impl UnitTruth {
    /// Makes the module stop in the `command`-th command from now on (0 is the next one) that changes its storage. One
    /// stop at a time.
    #[must_use]
    pub fn stop_at(&self, command: usize, moment: Moment) -> StopPoint {
        let gate = Arc::new(watch::Sender::new(Gate::Armed));
        let stage = &mut self.body.lock().stage;
        stage.stop = Some((stage.commands + command, moment, Arc::clone(&gate)));
        StopPoint { gate }
    }

    /// Chooses how the module comes up the next time that it gets power.
    pub fn arrive(&self, arrival: Arrival) {
        self.body.lock().stage.arrival = Some(arrival);
    }

    /// From now on the module keeps the vendor's id in download mode, with one interface.
    pub fn keep_vendor_id(&self) {
        self.body.lock().stage.vendor_edl = true;
    }

    /// The next switch into download mode takes so much longer.
    pub fn delay_edl(&self, delay: Duration) {
        self.body.lock().stage.edl_delay = Some(delay);
    }

    /// Notes from now on what is in the partitions that belong to the unit.
    pub fn watch_guarded(&self) {
        self.body.lock().stage.is_watched = true;
    }

    /// What was noted, oldest first.
    #[must_use]
    pub fn guarded_sights(&self) -> Vec<GuardedSight> {
        self.body.lock().stage.sights.clone()
    }

    /// Stores another IMEI in its file system, as a clone's maker does.
    ///
    /// # Errors
    /// When it has no file system.
    pub fn rewrite_imei(&self, imei: &str) -> Result<(), super::SimError> {
        let mut body = self.body.lock();
        let map = body.flash_map();
        let item = super::efs::encode_imei(imei);
        Ok(super::efs::write(body.nand_mut(), &map, super::efs::IMEI_PATH, Some(&item))
            .map_err(super::unit::UnitError::from)?)
    }

    /// Empties its sets of bands, as settings that belong to another firmware do; IMEI and calibration stay.
    ///
    /// # Errors
    /// When it has no file system.
    pub fn lose_bands(&self) -> Result<(), super::SimError> {
        let mut body = self.body.lock();
        let map = body.flash_map();
        for key in super::efs::BandKey::ALL {
            super::efs::write(body.nand_mut(), &map, key.path(), Some(&[])).map_err(super::unit::UnitError::from)?;
        }
        Ok(())
    }

    /// Spoils pages, as a supply does that fails while they are written.
    ///
    /// # Errors
    /// When they are not in the storage.
    pub fn spoil_pages(&self, range: crate::domain::PageRange) -> Result<(), super::SimError> {
        let mut body = self.body.lock();
        let map = body.flash_map();
        let noise = vec![0x5a; body.nand().page_bytes()];
        for page in range.start..range.end() {
            // What such a page holds is nothing that anybody meant.
            map.program(body.nand_mut(), page, &noise).map_err(super::unit::UnitError::from)?;
        }
        Ok(())
    }
}
