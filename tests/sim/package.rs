//! A whole generated package, flashed by hand in the safe order: the module boots with its revision and keeps what is
//! its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stationmaster::domain::PageRange;
use stationmaster::hardware::PipeExt;
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::sim::models::Model;
use stationmaster::sim::package::{PackageSpec, generate};

use crate::rig::{EG25, RM500Q, RM520N, Rig, banner, document, firehose, program, range_xml, sahara, send, spec};

fn read_file(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    disk.read(path, 64 << 20).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The operations of a raw-program document, in its order: tag, range, file.
fn operations(text: &str) -> Vec<(String, PageRange, Option<String>)> {
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("<erase ") || line.starts_with("<program "))
        .map(|line| {
            let number = |name| attribute(line, name).and_then(|value| value.parse().ok()).expect("a number");
            let tag = line[1..].split(' ').next().expect("a tag").to_owned();
            let range = PageRange { start: number("start_sector"), pages: number("num_partition_sectors") };
            (tag, range, attribute(line, " filename").filter(|file| !file.is_empty()))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_generated_package_is_flashed_and_boots() {
    for kind in [EG25, RM500Q, RM520N] {
        let model = Model::by_name(kind.0).expect("a model");
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let directory = PathBuf::from("/packages/new");
        let package = PackageSpec {
            model: kind.0.to_owned(),
            revision: model.current_revision().to_owned(),
            megabytes: 20,
            variant: "update".to_owned(),
        };
        generate(disk.as_ref(), &directory, &package).expect("a package");
        let firehose_directory = directory.join("update/firehose");
        let names: Vec<String> =
            disk.list(&firehose_directory).expect("a directory").into_iter().map(|entry| entry.name).collect();
        let file = |fits: &dyn Fn(&str) -> bool| {
            let name = names.iter().find(|name| fits(name)).expect("a file");
            read_file(disk.as_ref(), &firehose_directory.join(name))
        };
        let programmer = file(&|name| name.starts_with("prog_"));
        let text = String::from_utf8(file(&|name| name.starts_with("rawprogram_"))).expect("text");
        let rig = Rig::start_on(spec(&[kind], 1), disk.clone()).await;
        rig.normal().await;
        let before = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
        let mut pipe = rig.enter_edl().await;
        sahara(&mut pipe, &programmer).await.expect("a started programmer");
        banner(&mut pipe).await;
        let configure = "<configure MemoryName=\"nand\" MaxPayloadSizeToTargetInBytes=\"8192\" />";
        assert!(firehose(&mut pipe, configure).await.1.contains("ACK"));
        let page_bytes = model.geometry.page_bytes;
        let (erases, mut programs): (Vec<_>, Vec<_>) =
            operations(&text).into_iter().partition(|(tag, ..)| tag == "erase");
        for (_, range, _) in erases {
            let (_, response) = firehose(&mut pipe, &range_xml("erase", page_bytes, range)).await;
            assert!(response.contains("ACK"), "{range:?}: {response}");
        }
        // The boot loader last.
        programs.sort_by_key(|(_, range, _)| range.start == 0);
        for (_, range, name) in programs {
            let Some(name) = name else { continue };
            // Names are relative to the firehose directory.
            let path = match name.strip_prefix("..\\") {
                Some(image) => directory.join("update").join(image),
                None => firehose_directory.join(&name),
            };
            let mut content = read_file(disk.as_ref(), &path);
            content.resize(content.len().div_ceil(page_bytes as usize) * page_bytes as usize, 0);
            let response = program(&mut pipe, page_bytes, range.start, &content).await;
            assert!(response.contains("ACK"), "{name}: {response}");
        }
        send(&mut pipe, &document("<power value=\"reset\" />")).await;
        while pipe.in_done(&mut Vec::new()).await.is_ok() {
            let _ = pipe.submit_in(4096);
        }
        let mut at = rig.ready().await;
        assert!(at.ask("AT+QGMR").await.contains(model.current_revision()));
        let after = rig.factory.unit(1).expect("a unit").inspect().expect("readable");
        assert_eq!(after.efs_digest, before.efs_digest, "what is the unit's own stayed");
        assert_eq!(after.revision.as_deref(), Some(model.current_revision()));
    }
}
