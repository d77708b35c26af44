//! Why a run cannot go on, and what that makes of it.

use crate::domain::text::printable;
use crate::domain::{Blame, FailureCode, Outcome, Phase, limits};
use crate::hardware::HardwareError;
use crate::ledger::LedgerError;

/// Why a run cannot go on.
#[derive(Debug)]
pub(crate) enum RunError {
    /// For a reason that has a code; the run gets an outcome, or is interrupted.
    Failed(Failure),
    /// The ledger cannot make facts durable. Nothing may be done any more, on any slot.
    Ledger(LedgerError),
}

/// A failure code with what exactly was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: FailureCode,
    pub(crate) detail: String,
    /// Whether it is the station's disk that failed, and not what lies on it.
    pub(crate) is_of_disk: bool,
}

impl Failure {
    pub(crate) fn new(code: FailureCode, detail: impl AsRef<str>) -> Self {
        let is_of_disk = code == FailureCode::DiskFailed;
        Self { code, detail: printable(detail.as_ref(), 4 * limits::DEVICE_TEXT_CHARS_MAX), is_of_disk }
    }
}

impl From<Failure> for RunError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<LedgerError> for RunError {
    fn from(error: LedgerError) -> Self {
        match error {
            // Nothing was written, and the ledger works: only this run is at fault.
            LedgerError::Refused { .. } | LedgerError::TooLong { .. } => {
                Self::Failed(Failure::new(FailureCode::Internal, format!("the ledger: {error}")))
            }
            _ => Self::Ledger(error),
        }
    }
}

/// What a failure makes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is over, with this outcome.
    Finished(Outcome),
    /// It must be resumed when the unit is back.
    Interrupted,
}

/// What `code`, met in `phase`, makes of a run that has (`changed`) or has not changed its module.
///
/// A unit that was changed is judged by what is its own fault, and by nothing else: what the station, the package or
/// people did leaves its run open, because a run that is closed lets go of a unit that may be half written. The checks
/// after a boot judge the unit even where the profile only asked for a verification and nothing was changed.
pub(crate) fn ending(code: FailureCode, phase: Phase, changed: bool) -> Ending {
    use FailureCode as C;
    let is_of_unit = code.blame() == Blame::Unit;
    match code {
        // Also of a unit that was not changed: there is nothing left that would repair it.
        C::EfsLostNoBackup | C::RestoreBadBlocks | C::RestoreDiffers => Ending::Finished(Outcome::Fail),
        _ if changed && !is_of_unit => Ending::Interrupted,
        _ if changed || (is_of_unit && phase >= Phase::Flash) => Ending::Finished(Outcome::Fail),
        // A station whose disk fails stops; the unit comes again once it works.
        C::Unplugged | C::HubLost | C::Stopped | C::DiskFailed => Ending::Finished(Outcome::Aborted),
        C::PortBusy | C::UsbError | C::Internal | C::ControllerDied | C::PackageChanged => {
            Ending::Finished(Outcome::Error)
        }
        _ => Ending::Finished(Outcome::Held),
    }
}

/// Why a conversation with a module broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The device is gone.
    Gone,
    /// It is there and says nothing.
    Silent(&'static str),
    /// Another program holds it.
    Busy,
    /// A transfer failed although the device is there.
    Usb(String),
    /// It said something that ends the conversation.
    Failed(Failure),
}

impl From<HardwareError> for SessionError {
    fn from(error: HardwareError) -> Self {
        match error {
            HardwareError::Gone => Self::Gone,
            HardwareError::Busy => Self::Busy,
            HardwareError::Stall | HardwareError::Failed(_) | HardwareError::Unsupported(_) => {
                Self::Usb(error.to_string())
            }
        }
    }
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 4] = [Phase::Load, Phase::Flash, Phase::Reset, Phase::Verify];

    #[test]
    fn what_is_not_the_units_fault_never_ends_the_run_of_a_changed_unit() {
        for code in FailureCode::ALL {
            for phase in PHASES {
                let expected = match code.blame() {
                    Blame::Unit => Ending::Finished(Outcome::Fail),
                    Blame::Station | Blame::Package | Blame::Handling => Ending::Interrupted,
                };
                assert_eq!(ending(*code, phase, true), expected, "{code} in {phase}");
            }
        }
    }

    #[test]
    fn an_unchanged_unit_has_failed_for_its_own_fault_alone() {
        for code in FailureCode::ALL {
            for phase in PHASES {
                let has_failed = ending(*code, phase, false) == Ending::Finished(Outcome::Fail);
                assert!(!has_failed || code.blame() == Blame::Unit, "{code} in {phase}");
                assert_ne!(ending(*code, phase, false), Ending::Interrupted, "{code} in {phase}");
            }
        }
    }

    #[test]
    fn an_unplug_before_a_change_is_aborted() {
        for code in [FailureCode::Unplugged, FailureCode::HubLost, FailureCode::Stopped, FailureCode::DiskFailed] {
            assert_eq!(ending(code, Phase::Backup, false), Ending::Finished(Outcome::Aborted));
        }
    }

    #[test]
    fn refusals_before_a_change_are_held_and_the_checks_fail() {
        assert_eq!(ending(FailureCode::PayloadInvalid, Phase::Load, false), Ending::Finished(Outcome::Held));
        assert_eq!(ending(FailureCode::LoaderRejected, Phase::Load, false), Ending::Finished(Outcome::Held));
        assert_eq!(ending(FailureCode::BandMissing, Phase::Verify, false), Ending::Finished(Outcome::Fail));
    }

    #[test]
    fn the_stations_own_faults_before_a_change_are_errors() {
        for code in [FailureCode::PortBusy, FailureCode::UsbError, FailureCode::Internal, FailureCode::PackageChanged] {
            assert_eq!(ending(code, Phase::Load, false), Ending::Finished(Outcome::Error), "{code}");
        }
    }

    #[test]
    fn a_unit_that_cannot_be_repaired_has_failed_also_where_nothing_was_changed() {
        for code in [FailureCode::EfsLostNoBackup, FailureCode::RestoreBadBlocks] {
            for changed in [false, true] {
                assert_eq!(ending(code, Phase::Load, changed), Ending::Finished(Outcome::Fail));
            }
        }
        for code in [FailureCode::BackupOfAnother, FailureCode::ReworkExhausted, FailureCode::BackupMissing] {
            assert_eq!(ending(code, Phase::Probe, false), Ending::Finished(Outcome::Held));
        }
    }

    #[test]
    fn a_changed_unit_is_not_billed_for_a_slow_port() {
        assert_eq!(ending(FailureCode::RestoreSlow, Phase::Flash, true), Ending::Interrupted);
    }
}
