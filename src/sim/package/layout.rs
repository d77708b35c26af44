//! Which files a model's package has, for which partition each is, and how long they are.

use crate::sim::models::{Model, PartitionSpec};
use crate::sim::page_pool::{content_hash, mix};

use super::PackageError;

const MIB: u64 = 1024 * 1024;

/// An image of a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PlannedImage {
    /// Its path in the package.
    pub(super) key: String,
    /// Its kind, as the partition map names it.
    pub(super) kind: &'static str,
    /// Its length.
    pub(super) bytes: u64,
}

/// The file name of an image, and its share of a package in thousandths; what is left goes to the system.
const FILES: &[(&str, &str, u64)] = &[
    ("sbl", "sbl1.mbn", 4),
    ("tz", "tz.mbn", 12),
    ("rpm", "rpm.mbn", 4),
    ("aboot", "appsboot.mbn", 10),
    ("devcfg", "devcfg.mbn", 1),
    ("sec", "sec.dat", 1),
    ("apdp", "apdp.mbn", 1),
    ("xbl_cfg", "xbl_cfg.elf", 1),
    ("multi_image", "multi_image.mbn", 1),
    ("aop", "aop.mbn", 3),
    ("hyp", "hyp.mbn", 5),
    ("abl", "abl.elf", 3),
    ("uefi", "uefi.elf", 18),
    ("toolsfv", "tools.fv", 10),
    ("cust_info", "cust_info.ubi", 6),
    ("boot", "{os}-boot.img", 60),
    ("modem", "NON-HLOS.ubi", 360),
    ("recoveryfs", "{os}-recovery.ubi", 80),
    ("usr_data", "usrdata.ubi", 30),
    ("usrdata", "usrdata.ubi", 30),
    ("oemdata", "oemdata.ubi", 20),
    ("system", "{os}-sysfs.ubi", 0),
];

/// What the Linux side of a model is called in file names.
pub(super) fn os_name(model: &Model) -> &'static str {
    match model.chip {
        "MDM9607" => "mdm9607",
        "SDX55" => "sdxprairie",
        _ => "sdxlemur",
    }
}

/// The file of a kind of image; `None` for a kind that packages leave out.
pub(super) fn key_of(model: &Model, kind: &str) -> Option<String> {
    let (_, name, _) = FILES.iter().find(|(own, _, _)| *own == kind)?;
    Some(format!("update/{}", name.replace("{os}", os_name(model))))
}

/// The partitions that packages of a model program, with the file for each.
pub(super) fn programmed(model: &Model) -> impl Iterator<Item = (&'static PartitionSpec, String)> + '_ {
    let filed = |partition: &'static PartitionSpec| key_of(model, partition.kind).map(|key| (partition, key));
    model.partitions.iter().filter_map(filed)
}

/// Bytes of a partition that an image may fill: two blocks stay free for bad ones.
fn capacity(partition: &PartitionSpec, page_bytes: u64, pages_per_block: u64) -> u64 {
    (partition.pages - 2 * pages_per_block) * page_bytes
}

/// Spreads `megabytes` over a model's images, as real packages do.
pub(super) fn images(model: &Model, page_bytes: u32, megabytes: u32) -> Result<Vec<PlannedImage>, PackageError> {
    let page = u64::from(page_bytes);
    let total = u64::from(megabytes) * MIB;
    let mut images: Vec<(PlannedImage, u64)> = Vec::new();
    for (partition, key) in programmed(model) {
        let room = capacity(partition, page, u64::from(model.geometry.pages_per_block));
        if let Some((_, known)) = images.iter_mut().find(|(image, _)| image.key == key) {
            *known = room.min(*known);
            continue;
        }
        let share = FILES.iter().find(|(kind, _, _)| *kind == partition.kind).map_or(0, |(_, _, share)| *share);
        let wanted = (total * share / 1000).clamp(2 * page, room);
        let pages = wanted / page;
        // Images for UBI fill their pages; others end somewhere.
        let is_whole = key.ends_with(".ubi");
        let odd = if is_whole { 0 } else { 4 * (mix(content_hash(key.as_bytes())) % (page / 4)) };
        images.push((PlannedImage { key, kind: partition.kind, bytes: pages * page - odd }, room));
    }
    let mut rest = total.saturating_sub(images.iter().map(|(image, _)| image.bytes).sum());
    let order = ["system", "modem", "usrdata", "usr_data", "oemdata", "recoveryfs"];
    for kind in order {
        for (image, room) in images.iter_mut().filter(|(image, _)| image.kind == kind) {
            let more = rest.min(*room - image.bytes) / page * page;
            image.bytes += more;
            rest -= more;
        }
    }
    let most: u64 = images.iter().map(|(_, room)| *room).sum();
    if megabytes == 0 || rest >= page {
        return Err(PackageError::Megabytes { megabytes, most: u32::try_from(most / MIB).unwrap_or(u32::MAX) });
    }
    Ok(images.into_iter().map(|(image, _)| image).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::models::MODELS;

    #[test]
    fn sizes_add_up_and_fit() {
        for model in MODELS {
            for megabytes in [1, 4, 20, 64, 150] {
                let page = u64::from(model.geometry.page_bytes);
                let images = images(model, model.geometry.page_bytes, megabytes).expect("a layout");
                let sum: u64 = images.iter().map(|image| image.bytes).sum();
                let wanted = u64::from(megabytes) * MIB;
                assert!(sum <= wanted && wanted - sum < page, "{} {megabytes}: {sum}", model.name);
                for image in &images {
                    let homes = model.partitions.iter().filter(|partition| partition.kind == image.kind);
                    assert!(homes.clone().count() > 0);
                    assert!(homes.into_iter().all(|home| image.bytes + 2 * 64 * page <= home.pages * page));
                }
            }
            assert!(matches!(
                images(model, model.geometry.page_bytes, 4000),
                Err(PackageError::Megabytes { megabytes: 4000, .. })
            ));
            assert!(images(model, model.geometry.page_bytes, 0).is_err());
        }
    }
}
