//! Failure codes: one stable word for everything that can go wrong, with its sentence and its advice.
//!
//! The table is the single place where a code is defined; the screen, the CSV, the metrics, the ledger and the
//! documentation all read it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::imei::serde_as_text;

/// Whose fault a failure is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Blame {
    /// The unit itself.
    Unit,
    /// The station: hub, host, disk, or the controller.
    Station,
    /// The firmware package or the profile.
    Package,
    /// What people did: the wrong unit, an unplug, a stop.
    Handling,
}

impl Blame {
    /// The word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Station => "station",
            Self::Package => "package",
            Self::Handling => "handling",
        }
    }
}

macro_rules! failure_codes {
    ($($variant:ident = $word:literal, $blame:ident, $quarantine:literal, $sentence:literal, $advice:literal;)+) => {
        /// A failure code.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum FailureCode {
            $(#[doc = $sentence] $variant,)+
        }

        impl FailureCode {
            /// All codes, in the order of the phases in which they appear.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Whose fault it is.
            #[must_use]
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame,)+ }
            }

            /// Whether the unit must be set aside until a lead decides.
            #[must_use]
            pub const fn quarantines(self) -> bool {
                match self { $(Self::$variant => $quarantine,)+ }
            }

            /// What happened, as a sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }

            /// What the operator does now.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

failure_codes! {
    AtSilent = "AT_SILENT", Unit, false,
        "The module does not answer on its AT port.",
        "Re-seat the module; if it stays silent in another slot, put it into the red bin.";
    NotReady = "NOT_READY", Unit, false,
        "The module answers with errors only and never became ready.",
        "Run it again once; a second time in another slot, then the red bin.";
    ModelNotAllowed = "MODEL_NOT_ALLOWED", Handling, false,
        "No profile of this station is for this model.",
        "Take the module out: it belongs to another product.";
    RevisionNotAllowed = "REVISION_NOT_ALLOWED", Handling, false,
        "The profile does not allow to flash over the module's present firmware.",
        "Set the module aside and ask the lead which profile it needs.";
    ImeiInvalid = "IMEI_INVALID", Unit, false,
        "The module has no valid IMEI.",
        "Set the module aside: it came like that, and nothing was changed on it. The lead decides.";
    TacNotAllowed = "TAC_NOT_ALLOWED", Handling, false,
        "The IMEI's type allocation code is not one of the profile's.",
        "Set the module aside and show its label to the lead.";
    CfunFtmOnArrival = "CFUN_FTM_ON_ARRIVAL", Unit, false,
        "The module arrived in factory test mode, or offline.",
        "Set the module aside: it came like that, and nothing was changed on it. The lead decides.";
    CalibrationMissing = "CALIBRATION_MISSING", Unit, false,
        "The module arrived without its RF calibration.",
        "Set the module aside: it came like that, and nothing was changed on it. The lead decides.";
    EfsLostNoBackup = "EFS_LOST_NO_BACKUP", Unit, true,
        "The module has lost its own memory (EFS), and there is no backup of it: nobody can calibrate it again.",
        "Put the module into quarantine. No other module's backup helps: it would clone an IMEI and not fit the radio.";
    ReworkExhausted = "REWORK_EXHAUSTED", Unit, true,
        "The module was reworked as often as the profile allows, and came back broken.",
        "Put the module into quarantine; do not repair it again. The lead decides.";
    BackupMissing = "BACKUP_MISSING", Handling, false,
        "This station has no backup that can be restored to this module.",
        "Show this message to the lead: it says whether there never was one, or which file is damaged or missing.";
    BackupOfAnother = "BACKUP_OF_ANOTHER", Handling, false,
        "The backup was read from another module, and is never written to this one.",
        "Use this module's own backup. Another one's clones its IMEI, and its calibration does not fit this radio.";
    RestoreBadBlocks = "RESTORE_BAD_BLOCKS", Unit, true,
        "The module's storage has, or may have, other bad blocks than when its backup was read; it would come to lie wrong.",
        "Put the module into quarantine; its backup is kept. The lead decides.";
    RestoreDiffers = "RESTORE_DIFFERS", Unit, true,
        "What was restored of the module's own memory (EFS) is not what its backup holds.",
        "Put the module into quarantine as it is; its backup is kept. Call the lead.";
    RestoreSlow = "RESTORE_SLOW", Station, false,
        "What belongs to the module could not be given back to it over DIAG in the time that this takes at the worst.",
        "Leave the module in the slot, or put it in again: it is given back once more. If it happens again, call the technician.";
    ForeignImei = "FOREIGN_IMEI", Handling, true,
        "The module was written to while it stood in another one's place: it carries that one's IMEI and calibration.",
        "Put the module into quarantine; only its own backup brings it back. The unit whose IMEI it carries is not to blame.";
    EdlNotEntered = "EDL_NOT_ENTERED", Unit, false,
        "The module did not go into emergency download mode.",
        "Re-seat the module and run it again; in another slot if it happens twice.";
    EdlUnknownUnit = "EDL_UNKNOWN_UNIT", Unit, false,
        "The module arrived in emergency download mode, and no run of it is open.",
        "Set the module aside and show this message to the lead: where it names a backup, a restore by hand may bring the module back.";
    MemoryDump = "MEMORY_DUMP", Unit, false,
        "The module came up in memory-dump mode: its firmware crashed.",
        "Re-seat the module; if it happens again, put it into the red bin.";
    SaharaNoHello = "SAHARA_NO_HELLO", Unit, false,
        "The module in download mode does not say hello.",
        "Re-seat the module and run it again.";
    SaharaProtocol = "SAHARA_PROTOCOL", Unit, false,
        "The module broke the Sahara protocol.",
        "Re-seat the module and run it again; if it happens twice, call the technician.";
    LoaderMismatch = "LOADER_MISMATCH", Package, false,
        "The chip's hardware id or key is not one that the package's programmer is for.",
        "Take the module out; wrong variant or wrong package. Call the lead.";
    LoaderRejected = "LOADER_REJECTED", Package, false,
        "The chip rejected the package's programmer.",
        "Take the module out; wrong variant or wrong package. Call the lead.";
    CannotRead = "CANNOT_READ", Package, false,
        "The programmer cannot read, so no backup can be taken.",
        "Stop this product: the package needs another programmer. Call the lead.";
    GeometryMismatch = "GEOMETRY_MISMATCH", Package, false,
        "The package is made for another page or block size than the module's storage has.",
        "Take the module out; wrong variant or wrong package. Call the lead.";
    PayloadInvalid = "PAYLOAD_INVALID", Unit, false,
        "The programmer offers a payload size that cannot be used.",
        "Re-seat the module and run it again; if it happens twice, call the technician.";
    TableInvalid = "TABLE_INVALID", Unit, false,
        "The module's own partition table cannot be read.",
        "Set the module aside; where its calibration lies is unknown. The lead decides.";
    TableMovesGuarded = "TABLE_MOVES_GUARDED", Package, false,
        "The package's partition table moves or resizes a partition that holds the unit's calibration.",
        "Stop this product: the package would destroy calibration. Call the lead.";
    PackageTouchesGuarded = "PACKAGE_TOUCHES_GUARDED", Package, false,
        "The package erases or writes a partition that holds the unit's calibration.",
        "Stop this product: use the update package, not the factory one. Call the lead.";
    PlanInvalid = "PLAN_INVALID", Package, false,
        "The package cannot be executed safely on this module.",
        "Stop this product and call the lead: the package does not fit.";
    UnitSwapped = "UNIT_SWAPPED", Handling, false,
        "Another module is in the slot than the one whose run is open.",
        "Put the module of the open run back; this one can run afterwards.";
    ImeiDuplicate = "IMEI_DUPLICATE", Unit, true,
        "Two chips have the same IMEI.",
        "Put both modules into quarantine; neither may be shipped.";
    BackupFailed = "BACKUP_FAILED", Unit, false,
        "The module's calibration could not be read completely.",
        "Re-seat the module and run it again; if it happens twice, set it aside.";
    BackupInvalid = "BACKUP_INVALID", Unit, false,
        "What was read of the module's calibration is not plausible.",
        "Set the module aside: its calibration looks blank or damaged. The lead decides.";
    GuardTooWeak = "GUARD_TOO_WEAK", Package, false,
        "The profile asks for a backup over DIAG alone, and the package touches the partition table or calibration.",
        "Stop this product: the profile needs `guard: raw` or `guard: raw+xqcn`. Call the lead.";
    EraseNak = "ERASE_NAK", Unit, false,
        "The module refused an erase, beyond the budget of retries.",
        "Put it into the red bin: it stays in download mode, and its backup is kept. The lead decides.";
    ProgramNak = "PROGRAM_NAK", Unit, false,
        "The module refused a write, beyond the budget of retries.",
        "Put it into the red bin: it stays in download mode, and its backup is kept. The lead decides.";
    EdlSilent = "EDL_SILENT", Station, false,
        "The module fell silent while it was written, also after a fresh start of the programmer.",
        "Put the module into another slot: a run that was begun goes on there. If it is silent there too, set it aside; its backup is kept.";
    LogFlood = "LOG_FLOOD", Unit, false,
        "The programmer sends logs without end.",
        "Set the module aside; if it was being written it stays in download mode, and its backup is kept.";
    FirehoseProtocol = "FIREHOSE_PROTOCOL", Unit, false,
        "The programmer broke the Firehose protocol.",
        "Set the module aside; if it was being written it stays in download mode, and its backup is kept.";
    ReadBackDiffers = "READ_BACK_DIFFERS", Unit, false,
        "What was read back differs from what was written.",
        "Put it into the red bin: it stays in download mode, and its backup is kept. The lead decides.";
    TooManyBadBlocks = "TOO_MANY_BAD_BLOCKS", Unit, false,
        "The module's storage has more bad blocks than an image leaves room for.",
        "Put the module into the red bin; it stays in download mode.";
    PackageChanged = "PACKAGE_CHANGED", Station, false,
        "A file of the firmware package changed while it was in use.",
        "Stop the line and call the lead: the package on this station is not what was released. Modules that were being written are finished once it is.";
    NoReboot = "NO_REBOOT", Unit, false,
        "The module does not come back after the reset.",
        "Re-seat the module; if it stays away, put it into the red bin.";
    CfunFtm = "CFUN_FTM", Unit, true,
        "After the flash the module is in factory test mode.",
        "Put the module into quarantine; do not flash it again. Call the lead.";
    CfunWrong = "CFUN_WRONG", Unit, false,
        "After the flash the module's radio is not in full function mode.",
        "Run it again once; a second time, put it into the red bin.";
    ImeiChanged = "IMEI_CHANGED", Unit, true,
        "After the flash the module reports another IMEI than before.",
        "Put the module into quarantine; it may not be shipped. Call the lead.";
    CalibrationLost = "CALIBRATION_LOST", Unit, true,
        "After the flash the module's RF calibration is gone or changed.",
        "Put the module into quarantine; do not flash it again. Call the lead.";
    RevisionWrong = "REVISION_WRONG", Unit, false,
        "After the flash the module reports another firmware revision than the profile requires.",
        "Run it again once; a second time, put it into the red bin.";
    BandMissing = "BAND_MISSING", Unit, false,
        "A band that the profile requires is missing.",
        "Put the module into the red bin; the lead checks the product's variant.";
    QueryFailed = "QUERY_FAILED", Unit, false,
        "A further check of the profile is outside its limits.",
        "Run it again once; a second time, put it into the red bin.";
    Unplugged = "UNPLUGGED", Handling, false,
        "The module was unplugged.",
        "Put it back into any slot; the run goes on or starts again. If nothing is seen of it there either, put it into the red bin.";
    HubLost = "HUB_LOST", Station, false,
        "The hub of the slot is gone.",
        "Check the hub's cable and power; modules that were being written are resumed when it returns.";
    Stopped = "STOPPED", Handling, false,
        "The operator stopped the run.",
        "Put the module in again when the line goes on.";
    PortBusy = "PORT_BUSY", Station, false,
        "A port of the module is held by another program.",
        "Call the technician: another program (ModemManager?) uses the station's ports.";
    UsbError = "USB_ERROR", Station, false,
        "A USB transfer failed although the module is still there.",
        "Check the slot's cable; if it happens again, lock the slot and call the technician.";
    DiskFailed = "DISK_FAILED", Station, false,
        "The station's disk failed, or what it holds was damaged.",
        "Call the technician: the disk is full or broken, or a file on it was altered. Modules that were being written are resumed afterwards.";
    ControllerDied = "CONTROLLER_DIED", Station, false,
        "The controller ended while the module was being changed.",
        "Put the module into any slot; its run is finished there.";
    Internal = "INTERNAL", Station, false,
        "The controller itself failed in this slot.",
        "The slot goes on with the next module; send the log to the makers of the controller.";
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FailureCode {
    type Err = super::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(super::IdError::Format { what: "failure code" })
    }
}

serde_as_text!(FailureCode);
