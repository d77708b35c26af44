//! Whether a backup over DIAG is complete, and whose it is.
//!
//! That a file can be read says nothing of what is missing in it: a walk that got no further than the directories gives
//! a sound file too. So what is in it is held to a manifest, to the IMEI that the module reported, and to the RF
//! calibration that it showed over another port.

use std::collections::BTreeSet;
use std::fmt;

use super::Xqcn;
use crate::domain::family::IMEI_ITEM;
use crate::domain::{Family, Identity, Imei, Manifest, Sha256Digest};
use crate::protocol::diag::nv::{self, ItemKey};

/// Most reasons that are named.
const REASONS_SHOWN_MAX: usize = 4;

/// Whose backup it must be: what the module said of itself over AT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Its IMEI.
    pub imei: Imei,
    /// The digest of its RF calibration ([`Identity::calibration_of`]), where it was read.
    pub calibration: Option<Sha256Digest>,
}

/// Everything that is wrong with a backup; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete(Vec<String>);

impl fmt::Display for Incomplete {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(REASONS_SHOWN_MAX)];
        formatter.write_str(&shown.join("; "))?;
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => write!(formatter, "; and {more} more"),
        }
    }
}

impl std::error::Error for Incomplete {}

/// Holds a backup to the manifest and to its owner.
///
/// # Errors
/// [`Incomplete`] with everything that is wrong.
pub fn check(content: &Xqcn, family: &Family, manifest: &Manifest, owner: &Owner) -> Result<(), Incomplete> {
    let mut wrong = Vec::new();
    let mut at_least = |found: usize, least: u32, what: &str| {
        if (found as u64) < u64::from(least) {
            wrong.push(format!("{found} {what}, at least {least} are needed"));
        }
    };
    at_least(content.items.len(), manifest.items_min, "NV items");
    at_least(content.in_order().count(), manifest.files_min, "files");
    let rf_items = content.in_order().filter(|(file, _)| is_below(file.path.as_str(), family.nv.rf_directory));
    at_least(rf_items.count(), manifest.rf_items_min, "RF items");
    for item in &manifest.items {
        if !content.items.contains_key(&ItemKey::of_module(*item)) {
            wrong.push(format!("NV item {item} is missing"));
        }
    }
    for path in &manifest.paths {
        match content.find(path) {
            None => wrong.push(format!("{path} is missing")),
            Some([]) => wrong.push(format!("{path} is empty")),
            Some(_) => {}
        }
    }
    let mut paths = BTreeSet::new();
    if let Some((file, _)) = content.in_order().find(|(file, _)| !paths.insert(&file.path)) {
        wrong.push(format!("{} is there twice", file.path));
    }
    check_owner(content, family, owner, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(Incomplete(wrong)) }
}

fn check_owner(content: &Xqcn, family: &Family, owner: &Owner, wrong: &mut Vec<String>) {
    // An item that is missing was named above.
    if let Some(data) = content.items.get(&ItemKey::of_module(IMEI_ITEM)) {
        match nv::imei(data) {
            Some(imei) if imei == owner.imei => {}
            Some(imei) => wrong.push(format!("it holds the IMEI {imei}, the module reported {}", owner.imei)),
            None => wrong.push("it holds no valid IMEI".to_owned()),
        }
    }
    let calibration: Option<Vec<(&str, &[u8])>> =
        family.calibration_items.iter().map(|path| Some((*path, content.find(path)?))).collect();
    if let (Some(found), Some(reported)) = (calibration, owner.calibration)
        && Identity::calibration_of(found) != Some(reported)
    {
        wrong.push("its RF calibration is not the one that the module reported".to_owned());
    }
}

/// Whether a path lies in a directory, however deep.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::diag::efs::EfsPath;
    use crate::protocol::diag::nv::{ITEM_BYTES, ItemData};
    use crate::protocol::xqcn::{FileKind, read, write};

    const IMEI: &str = "356938035643809";

    fn family() -> &'static Family {
        Family::by_name("mdm9x07").expect("a family")
    }

    fn imei_item() -> ItemData {
        let mut data = [0; ITEM_BYTES];
        data[..9].copy_from_slice(&[0x08, 0x3a, 0x65, 0x39, 0x08, 0x53, 0x46, 0x83, 0x90]);
        data
    }

    fn path(path: &str) -> EfsPath {
        EfsPath::new(path).expect("a path")
    }

    /// A whole backup, and whose it is.
    fn whole() -> (Xqcn, Owner) {
        let family = family();
        let mut content = Xqcn::default();
        content.items.insert(ItemKey::of_module(IMEI_ITEM), imei_item());
        for item in 1000..1100 {
            content.items.insert(ItemKey::of_module(item), [7; ITEM_BYTES]);
        }
        let named = family.calibration_items.iter().map(|path| (*path).to_owned());
        let others = (24_000..24_030).map(|number| format!("{}/{number:08}", family.nv.rf_directory));
        for (number, name) in (0..).zip(named.chain(others)) {
            content.add(family, path(&name), FileKind::Item, vec![number, 1, 2, 3]);
        }
        for number in 0..20 {
            content.add(family, path(&format!("/mcfg/{number}")), FileKind::Ordinary, vec![number; 40]);
        }
        let calibration =
            family.calibration_items.iter().map(|path| (*path, content.find(path).expect("it was added")));
        let owner = Owner { imei: IMEI.parse().expect("an IMEI"), calibration: Identity::calibration_of(calibration) };
        (content, owner)
    }

    fn problems(content: &Xqcn, owner: &Owner) -> String {
        let manifest = Manifest::of_family(family());
        check(content, family(), &manifest, owner).expect_err("it is not whole").to_string()
    }

    #[test]
    fn a_whole_backup_is_valid_also_after_it_was_a_file() {
        let (content, owner) = whole();
        let manifest = Manifest::of_family(family());
        check(&content, family(), &manifest, &owner).expect("it is whole");
        let again = read(&write(&content).expect("it can be written")).expect("it can be read");
        check(&again, family(), &manifest, &owner).expect("it is whole");
        assert_eq!(again.in_order().count(), 53);
        assert!(again.in_order().eq(content.in_order()), "files keep their kinds");
    }

    #[test]
    fn directories_without_files_are_no_backup() {
        // What a tool gave that stumbled over its own open directories: every NV item, and no file.
        let (mut content, owner) = whole();
        content.files.clear();
        let problems = problems(&content, &owner);
        for words in ["0 files, at least 40 are needed", "0 RF items, at least 24 are needed", "00020175 is missing"] {
            assert!(problems.contains(words), "{problems}");
        }
    }

    #[test]
    fn a_skeleton_is_no_backup() {
        let (mut content, owner) = whole();
        content.items.remove(&ItemKey::of_module(IMEI_ITEM));
        for section in content.files.values_mut() {
            section.retain(|file| !is_below(file.path.as_str(), family().nv.rf_directory));
        }
        let problems = problems(&content, &owner);
        assert!(problems.contains("NV item 550 is missing") && problems.contains("0 RF items"), "{problems}");
        assert!(problems.ends_with("; and 2 more"), "{problems}");
    }

    #[test]
    fn another_units_backup_is_known_by_what_it_holds() {
        let (content, owner) = whole();
        let imei = Owner { imei: "490154203237518".parse().expect("an IMEI"), ..owner };
        assert_eq!(problems(&content, &imei), "it holds the IMEI 356938035643809, the module reported 490154203237518");
        // Two modules that say one IMEI: a clone.
        let clone = Owner { calibration: Some(Sha256Digest::of(b"another chip's")), ..owner };
        assert_eq!(problems(&content, &clone), "its RF calibration is not the one that the module reported");
    }

    #[test]
    fn one_thing_that_is_missing_or_empty_is_named() {
        let (whole, owner) = whole();
        let calibration = family().calibration_items[0];
        for (change, words) in [
            (None, format!("{calibration} is missing")),
            (Some(Vec::new()), format!("{calibration} is empty")),
            (Some(vec![9]), "its RF calibration is not the one that the module reported".to_owned()),
        ] {
            let mut content = whole.clone();
            for section in content.files.values_mut() {
                section.retain(|file| file.path.as_str() != calibration);
            }
            if let Some(data) = change {
                content.add(family(), path(calibration), FileKind::Item, data);
            }
            assert!(problems(&content, &owner).contains(&words), "{words}");
        }
        let mut content = whole.clone();
        content.add(family(), path(calibration), FileKind::Ordinary, vec![0]);
        assert!(problems(&content, &owner).contains(" is there twice"));
        let mut content = whole;
        content.items.insert(ItemKey::of_module(IMEI_ITEM), [0; ITEM_BYTES]);
        assert_eq!(problems(&content, &owner), "it holds no valid IMEI");
    }

    #[test]
    fn what_a_profile_asks_for_besides_is_held_to_as_well() {
        let (content, owner) = whole();
        let mut manifest = Manifest::of_family(family());
        manifest.items.push(453);
        manifest.paths.push("/nv/item_files/modem/mmode/lte_bandpref".to_owned());
        let problems = check(&content, family(), &manifest, &owner).expect_err("not whole").to_string();
        assert_eq!(problems, "NV item 453 is missing; /nv/item_files/modem/mmode/lte_bandpref is missing");
    }

    #[test]
    fn no_cut_of_a_file_is_read_as_less() {
        let (content, _) = whole();
        let bytes = write(&content).expect("it can be written");
        let ends = (0..bytes.len() - 1).step_by(997).chain(bytes.len() - 40..bytes.len() - 1);
        for end in ends {
            assert!(read(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
        }
    }
}
