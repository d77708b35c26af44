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
/// A unit that was changed and then taken away is not judged: its run stays open. Nor is one that was changed where the
/// package turns out not to fit it (an interrupted run that goes on with another package): that is not the unit's
/// fault. The checks after a boot judge the unit even where the profile only asked for a verification and nothing was
/// changed.
pub(crate) fn ending(code: FailureCode, phase: Phase, changed: bool) -> Ending {
    use FailureCode as C;
    match code {
        C::Unplugged | C::HubLost | C::Stopped | C::UnitSwapped if changed => Ending::Interrupted,
        C::Internal | C::DiskFailed | C::ControllerDied | C::RestoreSlow if changed => Ending::Interrupted,
        // A station whose disk fails stops; the unit comes again once it works.
        C::Unplugged | C::HubLost | C::Stopped | C::DiskFailed => Ending::Finished(Outcome::Aborted),
        // Nothing was written in this pass: it goes on once the package is what it was.
        C::PackageChanged if changed && phase < Phase::Flash => Ending::Interrupted,
        C::PortBusy | C::UsbError | C::Internal | C::ControllerDied | C::PackageChanged => {
            Ending::Finished(Outcome::Error)
        }
        // Also of a unit that was not changed: there is nothing left that would repair it.
        C::EfsLostNoBackup | C::RestoreBadBlocks | C::RestoreDiffers => Ending::Finished(Outcome::Fail),
        C::EdlSilent if changed => Ending::Finished(Outcome::Error),
        _ if changed && code.blame() == Blame::Package => Ending::Interrupted,
        _ if changed || phase >= Phase::Flash => Ending::Finished(Outcome::Fail),
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

    #[test]
    fn an_unplug_is_never_billed_to_the_unit() {
        for code in [FailureCode::Unplugged, FailureCode::HubLost, FailureCode::Stopped] {
            assert_eq!(ending(code, Phase::Backup, false), Ending::Finished(Outcome::Aborted));
            assert_eq!(ending(code, Phase::Flash, true), Ending::Interrupted);
            assert_eq!(ending(code, Phase::Verify, true), Ending::Interrupted);
        }
    }

    #[test]
    fn refusals_before_a_change_are_held_and_after_it_fail() {
        assert_eq!(ending(FailureCode::PayloadInvalid, Phase::Load, false), Ending::Finished(Outcome::Held));
        assert_eq!(ending(FailureCode::ProgramNak, Phase::Flash, true), Ending::Finished(Outcome::Fail));
        assert_eq!(ending(FailureCode::EdlSilent, Phase::Flash, true), Ending::Finished(Outcome::Error));
        assert_eq!(ending(FailureCode::BandMissing, Phase::Verify, false), Ending::Finished(Outcome::Fail));
    }

    #[test]
    fn the_stations_own_faults_are_errors() {
        assert_eq!(ending(FailureCode::Internal, Phase::Identify, false), Ending::Finished(Outcome::Error));
        assert_eq!(ending(FailureCode::Internal, Phase::Flash, true), Ending::Interrupted);
        assert_eq!(ending(FailureCode::PackageChanged, Phase::Flash, true), Ending::Finished(Outcome::Error));
        assert_eq!(ending(FailureCode::PackageChanged, Phase::Load, true), Ending::Interrupted);
        assert_eq!(ending(FailureCode::PackageChanged, Phase::Load, false), Ending::Finished(Outcome::Error));
        assert_eq!(ending(FailureCode::DiskFailed, Phase::Backup, false), Ending::Finished(Outcome::Aborted));
        assert_eq!(ending(FailureCode::DiskFailed, Phase::Flash, true), Ending::Interrupted);
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

    #[test]
    fn a_changed_unit_is_not_billed_for_a_package_that_does_not_fit() {
        assert_eq!(ending(FailureCode::PlanInvalid, Phase::Load, true), Ending::Interrupted);
        assert_eq!(ending(FailureCode::LoaderRejected, Phase::Load, true), Ending::Interrupted);
        assert_eq!(ending(FailureCode::LoaderRejected, Phase::Load, false), Ending::Finished(Outcome::Held));
    }
}
