//! What can go wrong, by name, unit and step.
//!
//! A fault belongs to one unit and strikes on the device's side of the cable; how far the host is, the simulator
//! knows only from what it sees on the wire (the first erase begins the flash, a read of a guarded partition is the
//! backup). Phases without a sign on the wire are taken for their neighbours: `admit` and `permit` for `identify`,
//! `record` for `verify`.

use std::collections::BTreeMap;

use super::spec::{FaultSpec, SimError};
use crate::domain::Phase;

/// A fault that can be injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultInfo {
    /// The name used in station files.
    pub name: &'static str,
    /// What happens.
    pub sentence: &'static str,
    /// Whether it can be told the phase in which it strikes.
    pub takes_step: bool,
}

macro_rules! faults {
    ($($kind:ident = $name:literal, $step:expr, $after:literal, $takes:literal, $sentence:literal;)+) => {
        /// All faults.
        pub const FAULTS: &[FaultInfo] =
            &[$(FaultInfo { name: $name, sentence: $sentence, takes_step: $takes },)+];

        /// Which fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(super) enum Kind { $(#[doc = $sentence] $kind,)+ }

        impl Kind {
            fn by_name(name: &str) -> Option<(Self, Phase, u32)> {
                match name { $($name => Some((Self::$kind, $step, $after)),)+ _ => None }
            }
        }
    };
}

faults! {
    BandMissingPolicy = "band-missing-policy", Phase::Verify, 0, false,
        "After every flash the module's carrier policy, which comes with the package, lacks a band (n77 where it has NR).";
    BandMissingConfig = "band-missing-config", Phase::Verify, 0, false,
        "After the flash the module's configuration lacks a band (n77 where it has NR, band 7 elsewhere).";
    BadBlocksUntold = "bad-blocks-untold", Phase::Backup, 0, false,
        "The programmer neither names nor counts the bad blocks of the storage.";
    CfunAfter = "cfun-5-after", Phase::Verify, 0, false,
        "After the flash the EFS is a blank skeleton: CFUN 5, no IMEI, no calibration.";
    CfunAfterAlways = "cfun-5-always", Phase::Verify, 0, false,
        "After the flash the EFS is a blank skeleton, and again after whatever is written there.";
    EfsWiped = "efs-wiped", Phase::Flash, 1, true,
        "With an erase the programmer erases the EFS too, once.";
    EfsLostAtCut = "efs-lost-at-power-cut", Phase::Verify, 0, false,
        "After the flash the EFS is lost with the first start that is not the first one, once.";
    EfsLost = "efs-lost", Phase::Identify, 0, false,
        "The module arrives with its EFS lost: CFUN 5, no IMEI, no calibration.";
    CalibrationMissing = "calibration-missing", Phase::Identify, 0, false,
        "The module arrives without the RF calibration that anyone asks for; its own second copy has it.";
    ModeStuck = "mode-stuck", Phase::Identify, 0, false,
        "The module arrives in factory test mode with its EFS whole, and leaves it when it is told.";
    ComesBackLost = "comes-back-lost", Phase::Identify, 0, false,
        "After its first run the module comes back once, with its EFS lost.";
    ImeiChanged = "imei-changed", Phase::Verify, 0, false,
        "After the flash the module reports another IMEI of its own.";
    ImeiOfAnother = "imei-of-another-slot", Phase::Identify, 0, false,
        "The module reports the IMEI of the nearest unit of its model before it.";
    ImeiZero = "imei-zero", Phase::Identify, 0, false,
        "The module arrives with an IMEI of zeros.";
    CalibrationLost = "calibration-lost", Phase::Verify, 0, false,
        "After the flash the RF calibration items are gone.";
    WrongModel = "wrong-model", Phase::Identify, 0, false,
        "A module of another model arrives.";
    RevisionWrongAfter = "revision-wrong-after", Phase::Verify, 0, false,
        "After the flash the module still reports its old revision.";
    ProgramNak = "program-nak", Phase::Flash, 1, true,
        "A program is refused, and again whenever it is repeated.";
    ProgramNakOnce = "program-nak-once", Phase::Flash, 1, true,
        "A program is refused once.";
    EraseNak = "erase-nak", Phase::Flash, 1, true,
        "An erase is refused, and again whenever it is repeated.";
    PayloadImpossible = "payload-impossible", Phase::Load, 0, false,
        "The programmer insists on a payload size that is no multiple of a page.";
    SilenceInProgram = "silence-in-program", Phase::Flash, 1, true,
        "The programmer falls silent in the middle of a program, once.";
    SilenceInProgramAlways = "silence-in-program-always", Phase::Flash, 1, true,
        "The programmer falls silent in the middle of a program, and again whenever it is repeated.";
    EndlessLogs = "endless-logs", Phase::Flash, 1, true,
        "After a program the programmer sends logs without end.";
    HelloEaten = "hello-eaten", Phase::Probe, 0, false,
        "The first HELLO after the switch into download mode is lost.";
    ProgrammerRejected = "programmer-rejected", Phase::Load, 0, false,
        "The chip refuses the programmer's signature.";
    ProgrammerSilent = "programmer-silent", Phase::Load, 0, false,
        "The chip takes the whole programmer and never says a word again.";
    ProgrammerCannotRead = "programmer-cannot-read", Phase::Load, 0, false,
        "The programmer has no read function.";
    ReadsDiffer = "reads-differ", Phase::Backup, 3, false,
        "The programmer gives another byte when the EFS is read a second time.";
    GeometryMismatch = "geometry-mismatch", Phase::Load, 0, false,
        "The programmer reports storage with another page size.";
    PackageMovesEfs = "package-moves-efs", Phase::Load, 0, false,
        "The module's own partition table has the EFS elsewhere than the package's.";
    BadBlock = "bad-block", Phase::Flash, 0, false,
        "A block in the middle of the system partition is bad.";
    Unplug = "unplug", Phase::Flash, 4, true,
        "The module is pulled out, and put back after ten seconds.";
    HubLost = "hub-lost", Phase::Flash, 4, true,
        "The hub of the slot is gone for five seconds.";
    Swapped = "swapped", Phase::Reset, 0, true,
        "While this module reboots another is put into its slot; this one comes back after that one was taken out.";
    GarbageAt = "garbage-at", Phase::Identify, 0, false,
        "Every AT reply has garbage, an echo and an unsolicited line in it.";
    Panic = "panic", Phase::Flash, 2, true,
        "The driver of the slot's port panics once.";
    EdlRefused = "edl-refused", Phase::EnterEdl, 0, false,
        "The module answers the switch into download mode with an error and stays.";
    BootLoop = "boot-loop", Phase::Verify, 0, false,
        "After the flash the module restarts again and again before its ports answer.";
    SilentEdl = "silent-edl", Phase::Probe, 0, false,
        "In download mode the module never says a word.";
    CrashAfter = "crash-after", Phase::Verify, 0, false,
        "After the flash the module comes up in memory-dump mode.";
}

/// What a host did, as seen on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// An AT command.
    AtCommand,
    /// The DIAG frame into download mode.
    EdlFrame,
    /// A Sahara packet.
    SaharaPacket,
    /// A request to load a programmer.
    SaharaImage,
    /// A Firehose command that changes nothing.
    Harmless,
    /// A read of a guarded partition, half done.
    GuardedRead,
    /// An erase, done, or a program, half done.
    Destructive,
    /// A reset out of download mode.
    Reset,
}

/// What is done to the whole fixture, or to the host's driver, when a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Strike {
    /// The module is pulled out.
    Unplug,
    /// The slot's hub goes away.
    HubLost,
    /// Another module is put in.
    Swap,
    /// The host's driver panics.
    Panic,
}

#[derive(Debug, Clone)]
struct Active {
    kind: Kind,
    step: Phase,
    after: u32,
    seen: u32,
    fired: bool,
    place: Option<u64>,
}

/// The faults of one unit, and how far the host has come with it.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    active: Vec<Active>,
    phase: Phase,
    flashed: bool,
}

impl Faults {
    /// The faults of a unit.
    pub(super) fn of_unit(unit: u32, specs: &[FaultSpec]) -> Result<Self, SimError> {
        let mut active = Vec::new();
        for spec in specs.iter().filter(|spec| spec.unit == unit) {
            let Some((kind, step, after)) = Kind::by_name(&spec.fault) else {
                return Err(SimError::Fault(spec.fault.clone()));
            };
            let step = on_the_wire(spec.step.unwrap_or(step));
            // The usual number is that of the usual step.
            let usual = if spec.step.is_none_or(|chosen| on_the_wire(chosen) == Phase::Flash) { after } else { 0 };
            let after = spec.after.unwrap_or(usual);
            active.push(Active { kind, step, after, seen: 0, fired: false, place: None });
        }
        Ok(Self { active, phase: Phase::Identify, flashed: false })
    }

    /// Whether the unit has this fault at all.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.active.iter().any(|active| active.kind == kind)
    }

    /// Whether it has this fault and it was not used up before; uses it up.
    pub(super) fn take(&mut self, kind: Kind) -> bool {
        let Some(active) = self.active.iter_mut().find(|active| active.kind == kind && !active.fired) else {
            return false;
        };
        active.fired = true;
        true
    }

    /// An operation at a place of the storage: whether a fault of this kind hits it. The nth operation is hit, and
    /// with `persists` every later one at the same place.
    pub(super) fn hits(&mut self, kind: Kind, place: u64, persists: bool) -> bool {
        let Some(active) = self.active.iter_mut().find(|active| active.kind == kind) else { return false };
        if active.fired {
            return persists && active.place == Some(place);
        }
        active.seen += 1;
        if active.seen <= active.after {
            return false;
        }
        active.fired = true;
        active.place = Some(place);
        true
    }

    /// Notes what the host did; what strikes because of it.
    pub(super) fn observe(&mut self, sign: Sign) -> Vec<Strike> {
        self.phase = match sign {
            Sign::AtCommand if self.flashed => Phase::Verify,
            Sign::AtCommand => Phase::Identify,
            Sign::EdlFrame => Phase::EnterEdl,
            Sign::SaharaPacket => Phase::Probe,
            Sign::SaharaImage => Phase::Load,
            Sign::Harmless if matches!(self.phase, Phase::Backup | Phase::Flash) => self.phase,
            Sign::Harmless => Phase::Load,
            Sign::GuardedRead => Phase::Backup,
            Sign::Destructive => Phase::Flash,
            Sign::Reset => Phase::Reset,
        };
        let phase = self.phase;
        let mut strikes = Vec::new();
        for active in self.active.iter_mut().filter(|active| active.step == phase && !active.fired) {
            let strike = match active.kind {
                Kind::Unplug => Strike::Unplug,
                Kind::HubLost => Strike::HubLost,
                Kind::Swapped => Strike::Swap,
                Kind::Panic => Strike::Panic,
                _ => continue,
            };
            active.seen += 1;
            if active.seen > active.after {
                active.fired = true;
                strikes.push(strike);
            }
        }
        strikes
    }

    /// The boot loader was programmed: what comes after is after the flash.
    pub(super) fn boot_loader_programmed(&mut self) {
        self.flashed = true;
    }

    /// Whether the boot loader was programmed in this factory's time.
    pub(super) fn is_flashed(&self) -> bool {
        self.flashed
    }

    /// Where the host is, as far as the wire tells.
    #[cfg(test)]
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Which faults are used up, by their order: kept across restarts, so that a plug is not pulled twice.
    pub(super) fn spent(&self) -> Vec<usize> {
        self.active.iter().enumerate().filter(|(_, active)| active.fired).map(|(index, _)| index).collect()
    }

    /// Restores what [`spent`](Self::spent) gave.
    pub(super) fn restore(&mut self, spent: &[usize], flashed: bool) {
        self.flashed = flashed;
        for index in spent {
            if let Some(active) = self.active.get_mut(*index) {
                active.fired = true;
            }
        }
    }
}

/// The names of the faults that a specification uses, checked.
pub(super) fn check(specs: &[FaultSpec]) -> Result<(), SimError> {
    let unknown: BTreeMap<&str, ()> = specs
        .iter()
        .filter(|spec| Kind::by_name(&spec.fault).is_none())
        .map(|spec| (spec.fault.as_str(), ()))
        .collect();
    unknown.first_key_value().map_or(Ok(()), |(name, ())| Err(SimError::Fault((*name).to_owned())))
}

const fn on_the_wire(phase: Phase) -> Phase {
    match phase {
        Phase::Admit | Phase::Permit => Phase::Identify,
        Phase::Record => Phase::Verify,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(fault: &str, step: Option<Phase>, after: Option<u32>) -> FaultSpec {
        FaultSpec { fault: fault.into(), unit: 1, step, after }
    }

    #[test]
    fn every_fault_has_a_name_of_its_own_and_belongs_to_its_unit_only() {
        for (index, info) in FAULTS.iter().enumerate() {
            assert!(FAULTS[index + 1..].iter().all(|other| other.name != info.name), "{}", info.name);
            let specs = [spec(info.name, None, None)];
            assert_eq!(Faults::of_unit(1, &specs).expect("known").active.len(), 1);
            assert!(Faults::of_unit(2, &specs).expect("known").active.is_empty());
        }
        assert!(matches!(check(&[spec("no-such-fault", None, None)]), Err(SimError::Fault(_))));
    }

    #[test]
    fn the_phase_is_known_from_the_wire() {
        let mut faults = Faults::of_unit(1, &[spec("unplug", Some(Phase::Verify), Some(1))]).expect("known");
        let script = [
            (Sign::AtCommand, Phase::Identify),
            (Sign::EdlFrame, Phase::EnterEdl),
            (Sign::SaharaPacket, Phase::Probe),
            (Sign::SaharaImage, Phase::Load),
            (Sign::Harmless, Phase::Load),
            (Sign::GuardedRead, Phase::Backup),
            (Sign::Harmless, Phase::Backup),
            (Sign::Destructive, Phase::Flash),
            (Sign::Harmless, Phase::Flash),
            (Sign::Reset, Phase::Reset),
        ];
        for (sign, phase) in script {
            assert!(faults.observe(sign).is_empty());
            assert_eq!(faults.phase(), phase);
        }
        faults.boot_loader_programmed();
        assert!(faults.observe(Sign::AtCommand).is_empty(), "one command goes well");
        assert_eq!(faults.observe(Sign::AtCommand), vec![Strike::Unplug]);
        assert!(faults.observe(Sign::AtCommand).is_empty(), "once");
    }

    #[test]
    fn a_persisting_fault_hits_its_place_again_and_a_single_one_does_not() {
        let specs = [spec("program-nak", None, Some(1)), spec("program-nak-once", None, Some(0))];
        let mut faults = Faults::of_unit(1, &specs).expect("known");
        let hits: Vec<bool> = [10, 20, 10, 20].map(|place| faults.hits(Kind::ProgramNak, place, true)).to_vec();
        assert_eq!(hits, [false, true, false, true]);
        let hits: Vec<bool> = [10, 20, 10].map(|place| faults.hits(Kind::ProgramNakOnce, place, false)).to_vec();
        assert_eq!(hits, [true, false, false]);
    }
}
