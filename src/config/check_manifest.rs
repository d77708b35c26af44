//! The checks of what a backup over DIAG must hold.

use crate::domain::text::printable;
use crate::domain::{Family, Guard, Manifest, limits};

use super::checker::Checker;
use super::node::{At, QUOTE_CHARS_MAX};
use super::raw::{RawManifest, Text};

/// The manifest: the family's, with what the profile says of it. `None` without a family, which has been reported.
pub(super) fn manifest(
    at: &At,
    raw: Option<&RawManifest>,
    guard: Guard,
    family: Option<&'static Family>,
    checker: &mut Checker<'_>,
) -> Option<Manifest> {
    let family = family?;
    let mut manifest = Manifest::of_family(family);
    let Some(raw) = raw else { return Some(manifest) };
    if !guard.has_xqcn() {
        checker.wrong_key(
            at,
            format!("`manifest` says what a backup over DIAG must hold, and with `guard: {guard}` none is made"),
            "write `guard: raw+xqcn`, or remove `manifest`",
        );
    }
    let mut least = |key: &str, value, default, most| checker.whole(&at.key(key), value, default, 1..=most);
    manifest.items_min = least("nv_items", raw.nv_items, manifest.items_min, 20_000);
    manifest.files_min = least("files", raw.files, manifest.files_min, 20_000);
    manifest.rf_items_min = least("rf_items", raw.rf_items, manifest.rf_items_min, 12_000);
    let most = i64::try_from(limits::XQCN_REFUSALS_MAX).unwrap_or(i64::MAX);
    manifest.unreadable_max = checker.whole(&at.key("unreadable"), raw.unreadable, 0, 0..=most);
    items(&at.key("required_items"), &raw.required_items, family, &mut manifest.items, checker);
    paths(&at.key("required_paths"), &raw.required_paths, family, &mut manifest.paths, checker);
    Some(manifest)
}

fn items(at: &At, numbers: &[i64], family: &Family, required: &mut Vec<u16>, checker: &mut Checker<'_>) {
    checker.count(at, numbers.len(), limits::MANIFEST_ENTRIES_MAX);
    let most = family.nv.item_max;
    let mut read: Vec<(usize, u16)> = Vec::new();
    for (index, number) in numbers.iter().enumerate().take(limits::MANIFEST_ENTRIES_MAX) {
        match u16::try_from(*number).ok().filter(|number| *number <= most) {
            Some(number) => read.push((index, number)),
            None => checker.wrong(
                &at.index(index),
                format!("there is no NV item {number}; those of the family {} are 0 to {most}", family.name),
                "write the item's number, such as 550",
            ),
        }
    }
    checker.doubles(at, &read);
    required.extend(read.into_iter().map(|(_, number)| number));
    required.sort_unstable();
    required.dedup();
}

fn paths(at: &At, texts: &[Text], family: &Family, required: &mut Vec<String>, checker: &mut Checker<'_>) {
    checker.count(at, texts.len(), limits::MANIFEST_ENTRIES_MAX);
    let mut read: Vec<(usize, String)> = Vec::new();
    for (index, text) in texts.iter().enumerate().take(limits::MANIFEST_ENTRIES_MAX) {
        let at = at.index(index);
        let Some(path) = checker.text(&at, text, limits::EFS_PATH_BYTES_MAX) else { continue };
        if !is_path(path) {
            let shown = printable(path, QUOTE_CHARS_MAX);
            let sentence = format!("`{shown}` is no path in a module's file system");
            checker.wrong(&at, sentence, "write a whole path, such as /nv/item_files/rfnv/00020175");
        } else if family.nv.volatile_paths.contains(&path) {
            let sentence = format!("{path} changes at each start and is in no backup");
            checker.wrong(&at, sentence, "remove it");
        } else {
            read.push((index, path.to_owned()));
        }
    }
    checker.doubles(at, &read);
    for (_, path) in read {
        if !required.contains(&path) {
            required.push(path);
        }
    }
}

fn is_path(path: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    path.strip_prefix('/').is_some_and(|relative| relative.split('/').all(is_part))
}
