//! What the texts of a station and a profile are read into before anything is checked.
//!
//! Plain structs: flattening, untagged and internally tagged types would lose the positions of errors. Their doc
//! comments are what an editor shows, through the schemas made from them; numbers are wide, so that a wrong one is
//! reported with its bounds and not with the name of a Rust type.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::domain::{Guard, Phase, limits};

use super::profile::{Efs, IfAlready, ReadBack};
use super::station::{FlashStore, HardwareKind, PowerKind};

/// A text, or what looked like one: a number without quotes is read here too, and reported by the checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
        Ok(Text(value.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
        Ok(Text(value.to_string()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })+) => {$(
        #[derive(serde::Deserialize, JsonSchema, Debug)]
        $(#[$doc])*
        #[serde(deny_unknown_fields, expecting = "a group of keys")]
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: $type,)+
        }
    )+};
}

groups! {
    /// A station: one controller host, the slots of its fixture, and which profiles it runs.
    #[schemars(title = "Station")]
    RawStation {
        /// The station's name; part of every record. Letters, digits, `.`, `_`, `-`.
        name: Text,
        /// `usb` for real modules, `simulated` for the virtual factory.
        hardware: HardwareKind,
        /// The profile files, relative to this file. A module's model picks exactly one of them.
        #[schemars(length(min = 1, max = limits::PROFILES_MAX))]
        profiles: Vec<Text>,
        /// Where ledger and vault are kept, relative to this file. Default: `../state/NAME`.
        state: Option<Text>,
        /// Where the CSV reports are written, relative to this file. Default: `../reports`.
        reports: Option<Text>,
        /// How backups are kept.
        vault: Option<RawVault>,
        /// How many modules behind one root port are flashed at the same time; the others wait. Default: 8.
        #[schemars(range(min = 1, max = 64))]
        permits_per_root_port: Option<i64>,
        /// Who switches the supply of the slots: `hub` for the ports of their hubs, `none` for nobody. Default: hub.
        power: Option<PowerKind>,
        /// The positions of the fixture.
        #[schemars(length(min = 1, max = limits::SLOTS_MAX))]
        slots: Vec<RawSlot>,
        /// The virtual factory; only, and always, with `hardware: simulated`.
        simulation: Option<RawSimulation>,
    }

    /// How backups are kept.
    RawVault {
        /// The public half (`age1...`) of a key that is kept away from the station: what opens its backups when its own
        /// key is lost.
        recovery: Option<Text>,
        /// A directory on another disk, relative to this file, in which each backup is too before it counts.
        copy: Option<Text>,
    }

    /// One position of the fixture.
    RawSlot {
        /// What the sticker says; quote it where it looks like a number.
        name: Text,
        /// The port chain of the USB 2 side: `CONTROLLER/usb2/PORTS`. Download mode always appears here.
        usb2: Text,
        /// The port chain of the SuperSpeed side, where it is wired: `CONTROLLER/usb3/PORTS`.
        usb3: Option<Text>,
    }

    /// The virtual factory.
    RawSimulation {
        /// How much faster than real time goes by, for modules and deadlines alike. Default: 1.
        #[schemars(range(min = 1, max = 1000))]
        time_scale: Option<i64>,
        /// What chance starts from; the same seed gives the same modules. Default: 1.
        #[schemars(range(min = 0, max = u32::MAX))]
        seed: Option<i64>,
        /// Where the modules' flash is kept: `memory`, or `files` (survives a restart). Default: memory.
        flash: Option<FlashStore>,
        /// The kinds of modules that arrive.
        #[schemars(length(min = 1, max = limits::SIM_UNIT_KINDS_MAX))]
        units: Vec<RawUnits>,
        /// The automatic operator.
        operator: Option<RawOperator>,
        /// What goes wrong, and with which unit.
        #[serde(default)]
        #[schemars(length(max = limits::SIM_FAULTS_MAX))]
        faults: Vec<RawFault>,
    }

    /// One kind of simulated modules.
    RawUnits {
        /// The model, as ATI would name it.
        model: Text,
        /// The firmware revision with which it arrives.
        revision: Text,
        /// The slots that get this kind. Default: all slots; kinds for the same slot take turns.
        slots: Option<Vec<Text>>,
    }

    /// Inserts and removes simulated modules, so that nobody has to.
    RawOperator {
        /// From an empty slot to the next module in it, in simulated seconds. Default: 2.
        #[schemars(range(min = 0, max = 3600))]
        insert_after_s: Option<f64>,
        /// From a finished run to the removal of its module, in simulated seconds. Default: 2.
        #[schemars(range(min = 0, max = 3600))]
        remove_after_s: Option<f64>,
    }

    /// One injected fault.
    RawFault {
        /// Its name; `stationmaster check` lists them when it is wrong.
        fault: Text,
        /// Which simulated unit has it: the n-th that the factory makes, from 1.
        #[schemars(range(min = 1, max = limits::SIM_UNITS_MAX))]
        unit: i64,
        /// The phase in which it happens, for faults that can happen in several. Default: the fault's usual one.
        #[schemars(extend("enum" = Phase::ALL.map(Phase::as_str)))]
        step: Option<Text>,
        /// How many operations of that phase go well before it, for the same faults. Default: the fault's usual
        /// number.
        #[schemars(range(min = 0, max = 100_000))]
        after: Option<i64>,
    }

    /// A profile: what to do with a product, and what must be true afterwards.
    #[schemars(title = "Profile")]
    RawProfile {
        /// The profile's name; part of every record. Letters, digits, `.`, `_`, `-`.
        name: Text,
        /// The models it is for, as ATI names them; all of one family.
        #[schemars(length(min = 1, max = limits::MODELS_MAX))]
        models: Vec<Text>,
        /// Revisions from which a module may be flashed, with `*` for any characters. Default: any revision.
        #[serde(default)]
        #[schemars(length(max = limits::PATTERNS_MAX))]
        source_revisions: Vec<Text>,
        /// What to do with a module that has the revision of `checks.revision` already. Default: flash.
        if_already: Option<IfAlready>,
        /// The firmware.
        package: RawPackage,
        /// Hardware ids of the chips it is for (16 hexadecimal digits each). Default: any.
        #[serde(default)]
        #[schemars(length(max = limits::PATTERNS_MAX))]
        hw_ids: Vec<Text>,
        /// Key hashes of the chips it is for (64, 96 or 128 hexadecimal digits each). Default: any.
        #[serde(default)]
        #[schemars(length(max = limits::PATTERNS_MAX))]
        key_hashes: Vec<Text>,
        /// Which backups must be durable before anything is changed: `raw` of the guarded partitions, `xqcn` of NV items
        /// and files over DIAG, or both. `xqcn` alone is refused where the package touches the partition table.
        /// Default: raw.
        guard: Option<Guard>,
        /// What a backup over DIAG must hold to be complete; only with `xqcn` in `guard`. Default: the family's.
        manifest: Option<RawManifest>,
        /// A package that touches the EFS: `keep` refuses it, `carve` leaves those operations out. Default: keep.
        efs: Option<Efs>,
        /// The least number of used pages of the EFS of a module in use: what has fewer is no backup. Default: 8.
        #[schemars(range(min = 8, max = 65_536))]
        efs_used_pages_min: Option<i64>,
        /// What is read back and compared before the boot loader is written. Default: boot-chain.
        read_back: Option<ReadBack>,
        /// How many boots are verified after the flash. Default: 2.
        #[schemars(range(min = 2, max = 5))]
        boots: Option<i64>,
        /// What must be true after each of these boots.
        checks: RawChecks,
        /// Allows to repair modules that arrive broken: out of factory test mode, or their EFS from their own backup.
        /// Default: not allowed, such modules are refused.
        rework: Option<RawRework>,
        /// How often something may be tried again.
        budgets: Option<RawBudgets>,
        /// How long to wait for what.
        timeouts: Option<RawTimeouts>,
    }

    /// A firmware package: either `directory` or `simulated`.
    RawPackage {
        /// The package's directory, relative to this file.
        directory: Option<Text>,
        /// Generated firmware for simulated stations.
        simulated: Option<RawSimulatedPackage>,
        /// The package's digest (64 hexadecimal digits, from `stationmaster package inspect`); stations with
        /// `hardware: usb` demand it.
        sha256: Option<Text>,
    }

    /// Generated firmware: the same keys give the same bytes.
    RawSimulatedPackage {
        /// The model it is for.
        model: Text,
        /// The revision that a module has after it.
        revision: Text,
        /// Its size, in MB (1 000 000 bytes). Default: 24.
        #[schemars(range(min = 1, max = 512))]
        megabytes: Option<i64>,
        /// What kind of package. Default: update.
        variant: Option<Text>,
    }

    /// What must be true after the flash. That the IMEI is valid, unchanged and unique is always checked.
    RawChecks {
        /// The revision, with `*` for any characters.
        revision: Text,
        /// The number in `+CFUN: n`. Default: 1.
        #[schemars(range(min = 0, max = 7))]
        cfun: Option<i64>,
        /// Bands that must be there. Default: none.
        bands: Option<RawBands>,
        /// Whether the RF calibration must be there, and equal before and after. Default: true.
        calibration: Option<bool>,
        /// Type allocation codes an IMEI may begin with: 8 digits each, in quotes. Default: any.
        #[serde(default)]
        #[schemars(length(max = limits::PATTERNS_MAX))]
        tacs: Vec<Text>,
        /// Further AT queries. Default: none.
        #[serde(default)]
        #[schemars(length(max = limits::QUERIES_MAX))]
        queries: Vec<RawQuery>,
    }

    /// Required bands by technology.
    RawBands {
        /// LTE bands.
        lte: Option<RawBandSets>,
        /// NR bands, stand-alone.
        nr_sa: Option<RawBandSets>,
        /// NR bands, non-stand-alone.
        nr_nsa: Option<RawBandSets>,
    }

    /// Required bands of one technology. A band works only where configuration and policy both have it.
    RawBandSets {
        /// Bands that must be switched on in the module.
        config: Option<Vec<i64>>,
        /// Bands that its carrier configuration must permit.
        policy: Option<Vec<i64>>,
    }

    /// One further query.
    RawQuery {
        /// The measurement's name. Letters, digits, `.`, `_`, `-`.
        name: Text,
        /// The AT command; it must be one that only reads.
        command: Text,
        /// A regular expression that the reply's lines must match.
        pattern: Option<Text>,
        /// Limits for the number that the pattern finds: its first group, or all that it matches.
        number: Option<RawNumber>,
    }

    /// Numeric limits; at least one of `min` and `max`.
    RawNumber {
        /// The smallest number that passes.
        min: Option<f64>,
        /// The largest number that passes.
        max: Option<f64>,
        /// The unit, for the records, such as `degC`.
        unit: Option<Text>,
    }

    /// What a backup over DIAG must hold. It must also hold the IMEI and the RF calibration that the module reported.
    RawManifest {
        /// Fewest NV items, those of all subscriptions together. Default: the family's.
        #[schemars(range(min = 1, max = 20_000))]
        nv_items: Option<i64>,
        /// Fewest files, RF items included. Default: the family's.
        #[schemars(range(min = 1, max = 20_000))]
        files: Option<i64>,
        /// Fewest RF items. Default: the family's.
        #[schemars(range(min = 1, max = 12_000))]
        rf_items: Option<i64>,
        /// Most items and files that a module may have and not give out. Default: 0.
        #[schemars(range(min = 0, max = limits::XQCN_REFUSALS_MAX))]
        unreadable: Option<i64>,
        /// Numbers of further NV items of the module that must be there. Default: none.
        #[serde(default)]
        #[schemars(length(max = limits::MANIFEST_ENTRIES_MAX))]
        required_items: Vec<i64>,
        /// Paths of further files that must be there. Default: none.
        #[serde(default)]
        #[schemars(length(max = limits::MANIFEST_ENTRIES_MAX))]
        required_paths: Vec<Text>,
    }

    /// How often a module that arrives broken may be repaired.
    RawRework {
        /// Restores of its EFS in one run. Default: 1.
        #[schemars(range(min = 1, max = 3))]
        per_run: Option<i64>,
        /// Runs of one unit on this station in which it was repaired. Default: 2.
        #[schemars(range(min = 1, max = 10))]
        per_unit: Option<i64>,
    }

    /// Retries before a unit is given up.
    RawBudgets {
        /// Of one erase. Default: 1.
        #[schemars(range(min = 0, max = 10))]
        erase_retries: Option<i64>,
        /// Of one program. Default: 1.
        #[schemars(range(min = 0, max = 10))]
        program_retries: Option<i64>,
        /// Entries into download mode again after silence. Default: 1.
        #[schemars(range(min = 0, max = 10))]
        reentries: Option<i64>,
        /// Of one AT query that is answered with an error or not at all. Default: 3.
        #[schemars(range(min = 0, max = 10))]
        at_retries: Option<i64>,
    }

    /// Deadlines in seconds, each from 0.1 to 3600.
    RawTimeouts {
        /// The answer to one AT command. Default: 5.
        at_s: Option<f64>,
        /// From the AT port to its first answer. Default: 60.
        ready_s: Option<f64>,
        /// From the switch to download mode until it is seen. Default: 30.
        edl_s: Option<f64>,
        /// Sahara's HELLO. Default: 5.
        hello_s: Option<f64>,
        /// Sending the programmer. Default: 10.
        loader_s: Option<f64>,
        /// The answer to `configure`. Default: 10.
        configure_s: Option<f64>,
        /// The answer to one erase. Default: 30.
        erase_s: Option<f64>,
        /// The answer after the last byte of one program. Default: 120.
        program_ack_s: Option<f64>,
        /// One transfer of data. Default: 30.
        transfer_s: Option<f64>,
        /// One read. Default: 60.
        read_s: Option<f64>,
        /// A whole backup over DIAG. Default: 600.
        xqcn_s: Option<f64>,
        /// From the order to restart, or from the cut of its supply, until the module is off the bus. Default: 10.
        reset_s: Option<f64>,
        /// From there until the module is back in normal mode. Default: 90.
        boot_s: Option<f64>,
    }
}
