use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::host::{FailKind, MemoryDisk};

const GEOMETRY: Geometry = Geometry { page_bytes: 64, pages_per_block: 8 };
const PAGES: u64 = 8 * 32;

fn content(value: u8) -> [u8; 64] {
    [value; 64]
}

fn read(nand: &Nand, page: u64) -> Result<u8, NandError> {
    let mut buffer = [0; 64];
    nand.read(page, &mut buffer)?;
    assert!(buffer.iter().all(|byte| *byte == buffer[0]));
    Ok(buffer[0])
}

#[test]
fn a_page_programmed_twice_is_spoiled_until_its_block_is_erased() {
    let mut nand = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
    assert_eq!(read(&nand, 9).unwrap(), 0xff);
    nand.program(9, &content(1)).unwrap();
    assert_eq!(read(&nand, 9).unwrap(), 1);
    nand.program(9, &content(1)).unwrap();
    assert_eq!(nand.state(9), PageState::Spoiled);
    assert!(matches!(read(&nand, 9), Err(NandError::Uncorrectable { page: 9 })));
    nand.erase(1).unwrap();
    assert_eq!((nand.state(9), nand.used_pages()), (PageState::Erased, 0));
}

#[test]
fn what_is_in_work_when_the_supply_fails_cannot_be_read_until_its_block_is_erased() {
    let disk = MemoryDisk::new();
    let in_file = || Nand::in_file(GEOMETRY, PAGES, &disk, Path::new("module")).unwrap();
    let mut nand = in_file();
    nand.program(8, &[content(1), content(2)].concat()).unwrap();
    assert_eq!(nand.last_in_work(), Some(InWork::Page(9)));
    nand.tear(InWork::Page(9)).unwrap();
    nand.program(16, &content(3)).unwrap();
    nand.erase(2).unwrap();
    assert_eq!(nand.last_in_work(), Some(InWork::Block(2)));
    nand.tear(InWork::Block(2)).unwrap();
    // It is so after a restart of the simulator, too.
    let mut nand = in_file();
    assert_eq!(read(&nand, 8).unwrap(), 1);
    for page in [9, 16, 17, 23] {
        assert!(matches!(read(&nand, page), Err(NandError::Uncorrectable { .. })), "{page}");
    }
    nand.program(17, &content(4)).unwrap();
    assert_eq!(nand.state(17), PageState::Spoiled, "only an erase helps");
    nand.erase(1).unwrap();
    nand.erase(2).unwrap();
    assert_eq!(nand.used_pages(), 0);
}

#[test]
fn programming_ones_makes_a_page_used() {
    let mut nand = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
    nand.program(3, &content(0xff)).unwrap();
    assert_eq!((nand.state(3), read(&nand, 3).unwrap()), (PageState::Programmed, 0xff));
}

#[test]
fn planted_failures_make_blocks_bad() {
    let mut nand = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
    nand.fail_next(2, BlockFault::Program);
    nand.fail_next(3, BlockFault::Erase);
    nand.erase(2).unwrap();
    assert!(matches!(nand.program(16, &content(1)), Err(NandError::ProgramFailed { block: 2 })));
    assert!(matches!(nand.erase(3), Err(NandError::EraseFailed { block: 3 })));
    assert!(matches!(nand.erase(2), Err(NandError::BadBlock { block: 2 })));
    assert_eq!(nand.bad_blocks(), 2);
}

#[test]
fn nothing_reaches_beyond_a_block_or_the_end() {
    let mut nand = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
    let two = [0; 128];
    assert!(matches!(nand.program(7, &two), Err(NandError::OutOfRange { .. })));
    assert!(matches!(nand.program(PAGES, &content(0)), Err(NandError::OutOfRange { .. })));
    assert!(matches!(nand.program(0, &two[..65]), Err(NandError::OutOfRange { .. })));
    assert!(matches!(nand.erase(32), Err(NandError::OutOfRange { .. })));
    assert!(matches!(nand.mark_bad(32), Err(NandError::OutOfRange { .. })));
    assert!(nand.read(PAGES, &mut [0; 64]).is_err());
}

#[test]
fn sixty_four_modules_hold_one_package_once() {
    let pool = PagePool::new();
    let modules: Vec<Nand> = (0..64)
        .map(|_| {
            let mut nand = Nand::in_memory(GEOMETRY, PAGES, &pool);
            for page in 0..100 {
                nand.program(page, &content(u8::try_from(page).unwrap())).unwrap();
            }
            nand
        })
        .collect();
    assert_eq!(pool.bytes(), 100 * 64);
    drop(modules);
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn factory_bad_blocks_repeat_from_their_seed_and_spare_the_beginning() {
    let bad = |seed| {
        let mut nand = Nand::in_memory(Geometry { page_bytes: 64, pages_per_block: 64 }, 131_072, &PagePool::new());
        nand.scatter_bad_blocks(seed, 12).unwrap();
        nand.bad_in(0..nand.total_blocks()).collect::<Vec<_>>()
    };
    assert_eq!(bad(7), bad(7));
    assert_ne!(bad(7), bad(8));
    assert!(bad(7).len() > 4 && bad(7).iter().all(|block| *block >= FACTORY_GOOD_BLOCKS));
}

#[test]
fn files_of_another_storage_are_refused() {
    let disk = MemoryDisk::new();
    let path = Path::new("/nand");
    drop(Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap());
    let other = Geometry { page_bytes: 128, ..GEOMETRY };
    assert!(matches!(Nand::in_file(other, PAGES, &disk, path), Err(NandError::Store(_))));
}

/// What can be seen of a storage.
fn view(nand: &Nand) -> Vec<(Option<u64>, PageState, Option<u8>)> {
    (0..PAGES).map(|page| (nand.tag(page), nand.state(page), read(nand, page).ok())).collect()
}

#[test]
fn a_process_killed_between_any_two_calls_leaves_the_last_operation_done_or_not_done() {
    type Operation = fn(&mut Nand) -> Result<(), NandError>;
    let operations: [Operation; 6] = [
        |nand| nand.program(0, &[5; 64 * 8]),
        |nand| nand.program(9, &[6; 64]),
        |nand| nand.program(9, &[7; 64]),
        |nand| nand.erase(0),
        |nand| nand.program(2, &[8; 64 * 3]),
        |nand| nand.mark_bad(5),
    ];
    let path = Path::new("/nand");
    for call in 1.. {
        let disk = MemoryDisk::new();
        let mut file = Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap();
        disk.fail_call(call, FailKind::Error);
        let mut before = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
        let mut after = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
        let mut was_killed = false;
        for operation in operations {
            operation(&mut after).unwrap();
            if operation(&mut file).is_err() {
                was_killed = true;
                break;
            }
            operation(&mut before).unwrap();
        }
        if !was_killed {
            assert!(call > 10, "only {call} calls");
            break;
        }
        drop(file);
        let file = Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap();
        assert!(view(&file) == view(&before) || view(&file) == view(&after), "killed before call {call}");
        assert!(file.bad == before.bad || file.bad == after.bad);
    }
}

#[derive(Debug, Clone)]
enum Act {
    Program(u64, u8),
    Erase(u64),
    Bad(u64),
    Reopen,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (0..PAGES, any::<u8>()).prop_map(|(page, value)| Act::Program(page, value)),
        3 => (0..32_u64).prop_map(Act::Erase),
        1 => (0..32_u64).prop_map(Act::Bad),
        1 => Just(Act::Reopen),
    ];
    proptest::collection::vec(act, 1..120)
}

proptest! {
    /// Both stores behave alike, and a file that is opened again is what it was.
    #[test]
    fn stores_agree_and_files_survive_reopening(acts in acts()) {
        let disk = MemoryDisk::new();
        let path = Path::new("/nand");
        let mut memory = Nand::in_memory(GEOMETRY, PAGES, &PagePool::new());
        let mut file = Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap();
        for act in acts {
            let same = match act {
                Act::Program(page, value) =>
                    memory.program(page, &content(value)).is_ok() == file.program(page, &content(value)).is_ok(),
                Act::Erase(block) => memory.erase(block).is_ok() == file.erase(block).is_ok(),
                Act::Bad(block) => memory.mark_bad(block).is_ok() == file.mark_bad(block).is_ok(),
                Act::Reopen => {
                    drop(file);
                    file = Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap();
                    true
                }
            };
            prop_assert!(same);
        }
        file = { drop(file); Nand::in_file(GEOMETRY, PAGES, &disk, path).unwrap() };
        prop_assert_eq!(&memory.bad, &file.bad);
        for page in 0..PAGES {
            prop_assert_eq!(memory.state(page), file.state(page));
            prop_assert_eq!(memory.tag(page), file.tag(page));
            if memory.state(page) != PageState::Spoiled {
                prop_assert_eq!(read(&memory, page).unwrap(), read(&file, page).unwrap());
            }
        }
    }
}
