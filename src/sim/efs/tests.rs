use super::*;
use crate::sim::nand::{BlockFault, PagePool, PageState};
use crate::sim::unit::identity;

fn module(name: &str) -> (Nand, FlashMap, &'static Model) {
    let model = Model::by_name(name).expect("a model");
    let mut nand = Nand::in_memory(model.geometry, model.total_pages, &PagePool::new());
    let map = FlashMap::of_model(model);
    format(&mut nand, &map, &Items::of_unit(&identity(model, 3, 1))).expect("a format");
    (nand, map, model)
}

fn items(nand: &Nand, map: &FlashMap) -> Items {
    mount(nand, map).expect("a mount").items
}

#[test]
fn items_survive_many_boots_and_compactions() {
    let (mut nand, map, model) = module("EG25-G");
    let range = map.range("efs2").expect("a partition");
    nand.mark_bad(range.start / 64 + 6).expect("a block");
    nand.fail_next(range.start / 64 + 8, BlockFault::Program);
    let before = items(&nand, &map).digest();
    let mut used_max = 0;
    for boot in 1..=900 {
        let mounted = start(&mut nand, &map, model).expect("a boot");
        assert_eq!((mounted.state, mounted.items.boots()), (EfsState::Present, boot));
        used_max = used_max.max((range.start..range.end()).filter(|p| nand.state(*p) != PageState::Erased).count());
    }
    assert_eq!(items(&nand, &map).digest(), before);
    assert!(used_max < 64 * 14, "{used_max} pages: it was never compacted");
    assert!(nand.is_bad(range.start / 64 + 8));
}

#[test]
fn a_plausible_number_of_pages_is_used() {
    for name in ["EG25-G", "EC25", "RM500Q-GL", "RM520N-GL"] {
        let (nand, map, _) = module(name);
        let range = map.range("efs2").expect("a partition");
        let used = (range.start..range.end()).filter(|page| nand.state(*page) == PageState::Programmed).count();
        assert!((200..1000).contains(&used), "{name}: {used}");
    }
}

#[test]
fn a_wiped_file_system_is_lost_then_a_skeleton_and_takes_the_golden_copy_with_it() {
    let (mut nand, map, model) = module("RM500Q-GL");
    assert!(is_golden(&nand, &map).expect("a mount"));
    map.erase(&mut nand, map.range("efs2").expect("a partition")).expect("an erase");
    assert_eq!(mount(&nand, &map).expect("a mount").state, EfsState::Lost);
    assert!(matches!(write(&mut nand, &map, "/a", Some(&[1])), Err(EfsError::Lost)));
    assert_eq!(start(&mut nand, &map, model).expect("a boot").state, EfsState::Lost);
    let second = start(&mut nand, &map, model).expect("a boot");
    assert_eq!((second.state, second.items.imei()), (EfsState::Skeleton, None));
    assert!(!restore_golden(&mut nand, &map).expect("a mount"));
}

#[test]
fn the_golden_copy_restores_what_it_holds() {
    let (mut nand, map, _) = module("EC25");
    let before = items(&nand, &map);
    map.erase(&mut nand, map.range("efs2").expect("a partition")).expect("an erase");
    assert!(restore_golden(&mut nand, &map).expect("a restore"));
    assert_eq!(items(&nand, &map), before);
}

/// Reads a partition as a programmer does, and the pages that are blank.
fn backup(nand: &Nand, map: &FlashMap, range: PageRange) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    for page in range.start..range.end() {
        let mut content = vec![0; nand.page_bytes()];
        if map.read(nand, page, &mut content).is_ok() {
            pages.push(content);
        }
    }
    pages
}

#[test]
fn a_raw_backup_restored_page_by_page_brings_everything_back() {
    let (mut nand, map, model) = module("RM520N-GL");
    let range = map.range("efs2").expect("a partition");
    nand.mark_bad(range.start / 64 + 1).expect("a block");
    format(&mut nand, &map, &Items::of_unit(&identity(model, 4, 1))).expect("a format");
    for _ in 0..5 {
        start(&mut nand, &map, model).expect("a boot");
    }
    let before = items(&nand, &map);
    let pages = backup(&nand, &map, range);
    map.erase(&mut nand, range).expect("an erase");
    for (block, pages) in (0..).zip(pages.chunks(64)) {
        let used = pages.iter().rposition(|page| page.iter().any(|byte| *byte != 0xff)).map_or(0, |last| last + 1);
        map.program(&mut nand, range.start + block * 64, &pages[..used].concat()).expect("a program");
    }
    assert_eq!(items(&nand, &map), before);
    assert_eq!(start(&mut nand, &map, model).expect("a boot").items.boots(), 6);
}

#[test]
fn a_restore_that_programs_blank_pages_leaves_no_good_block() {
    let (mut nand, map, model) = module("EG25-G");
    let range = map.range("efs2").expect("a partition");
    let pages = backup(&nand, &map, range);
    map.erase(&mut nand, range).expect("an erase");
    map.program(&mut nand, range.start, &pages.concat()).expect("a program");
    assert!(matches!(start(&mut nand, &map, model), Err(EfsError::NoGoodBlocks)));
}

#[test]
fn the_image_of_a_factory_package_is_a_skeleton() {
    let (mut nand, map, model) = module("RM500Q-GL");
    let range = map.range("efs2").expect("a partition");
    let image = image(&Items::defaults(model), model.geometry, 88);
    map.erase(&mut nand, range).expect("an erase");
    map.program(&mut nand, range.start, &image).expect("a program");
    let mounted = start(&mut nand, &map, model).expect("a boot");
    assert_eq!(mounted.state, EfsState::Skeleton);
    assert!(mounted.items.len() > 100 && !mounted.items.is_calibrated());
    assert!(!is_golden(&nand, &map).expect("a mount"));
}

#[test]
fn a_cut_compaction_leaves_the_items_of_before() {
    let (nand, map, model) = module("EG25-G");
    let range = map.range("efs2").expect("a partition");
    let before = items(&nand, &map).digest();
    // A generation that was begun and not finished, at each length.
    for pages in [1, 64, 100] {
        let (mut nand, _, _) = module("EG25-G");
        let unfinished = image(&Items::defaults(model), model.geometry, 136);
        let mut unfinished: Vec<Vec<u8>> = unfinished.chunks(2048).map(<[u8]>::to_vec).collect();
        for (index, page) in (0..).zip(unfinished.iter_mut().step_by(64)) {
            *page = Superblock { generation: 9, index }.encode(model.geometry, 136);
        }
        map.program(&mut nand, range.start + 64 * 20, &unfinished[..pages].concat()).expect("a program");
        for _ in 0..300 {
            start(&mut nand, &map, model).expect("a boot");
        }
        assert_eq!(items(&nand, &map).digest(), before, "{pages}");
    }
}

#[test]
fn long_files_directories_and_all_subscriptions_survive_compactions() {
    for name in ["EG25-G", "RM520N-GL"] {
        let (mut nand, map, model) = module(name);
        let path = "/quectel/long";
        let mut long = Node { kind: NodeKind::File, data: vec![0x5a; 5 * nand.page_bytes() + 7] };
        for round in 0..120 {
            long.data.push(round);
            let change = Change { path: path.to_owned(), node: Some(long.clone()) };
            apply(&mut nand, &map, &[change]).expect("a write");
        }
        let found = items(&nand, &map);
        assert_eq!((found.kind(path), found.get(path)), (Some(NodeKind::File), Some(long.data.as_slice())));
        assert_eq!(found.kind("/data"), Some(NodeKind::Directory));
        assert_eq!(
            (found.kind("/quectel/empty"), found.get("/quectel/empty")),
            (Some(NodeKind::File), Some([].as_slice()))
        );
        for index in 1..subscriptions(model) {
            assert!(found.below(&subscription_directory(index)).count() >= 20, "{name}");
        }
        let mut before = Items::of_unit(&identity(model, 3, 1));
        before.put(path, long);
        assert_eq!(found.digest(), before.digest());
    }
}

#[test]
fn files_of_many_records_never_fill_the_partition() {
    let (mut nand, map, _) = module("EG25-G");
    let range = map.range("efs2").expect("a partition");
    // Where the first one begins decides whether one ever ends together with a block.
    for records in [21, 42, 63, 64, 126] {
        let mut file = Node { kind: NodeKind::File, data: vec![0x5a; records * (nand.page_bytes() - 40)] };
        assert_eq!(records_of("/long", &file, nand.geometry()).len(), records);
        let mut log = Log::mount(&nand, range).expect("a mount").expect("a file system");
        let mut written = 0;
        for round in 0_u32.. {
            file.data[..4].copy_from_slice(&round.to_le_bytes());
            let stored = log.store(&mut nand, "/long", Some(&file));
            stored.unwrap_or_else(|error| panic!("{records} records at a time, {written} in all: {error}"));
            written += records as u64;
            if written > range.pages {
                break;
            }
        }
        assert_eq!(items(&nand, &map).get("/long"), Some(file.data.as_slice()));
    }
}

#[test]
fn a_file_that_was_torn_is_the_one_of_before() {
    let (mut nand, map, _) = module("EG25-G");
    let range = map.range("efs2").expect("a partition");
    let old = Node { kind: NodeKind::File, data: vec![1; 5000] };
    let change = |node: &Node| [Change { path: "/f".to_owned(), node: Some(node.clone()) }];
    apply(&mut nand, &map, &change(&old)).expect("a write");
    let last = (range.start..range.end()).rev().find(|page| nand.state(*page) == PageState::Programmed);
    let last = last.expect("a used page");
    // The first two of three pieces of a new content, then the power went.
    let new = Node { kind: NodeKind::File, data: vec![2; 7000] };
    let records = records_of("/f", &new, nand.geometry());
    assert_eq!(records.len(), 4);
    for (page, record) in (last + 1..).zip(&records[..2]) {
        nand.program(page, &record.encode(nand.geometry()).expect("it fits")).expect("a program");
    }
    assert_eq!(items(&nand, &map).get("/f"), Some(old.data.as_slice()));
    let third = Node { kind: NodeKind::File, data: vec![3; 4500] };
    apply(&mut nand, &map, &change(&third)).expect("a write");
    assert_eq!(items(&nand, &map).get("/f"), Some(third.data.as_slice()));
}
