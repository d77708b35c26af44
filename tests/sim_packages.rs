//! Simulated packages and modules meet the real readers: what the virtual factory writes by itself, the package
//! reader, the table reader and the plan must understand, and the faulty variants they must refuse.

use std::path::Path;
use std::sync::Arc;

use stationmaster::domain::{FailureCode, Family};
use stationmaster::firmware::Package;
use stationmaster::host::{Disk, MemoryDisk};
use stationmaster::protocol::plan::{self, EfsPolicy, Plan, PlanError, PlanInput};
use stationmaster::protocol::table::PartitionTable;
use stationmaster::sim::flash_map::FlashMap;
use stationmaster::sim::models::{MODELS, Model};
use stationmaster::sim::nand::{Nand, PagePool};
use stationmaster::sim::package::{PackageSpec, generate};
use stationmaster::sim::unit::{factory_fresh, identity};

fn made(model: &Model, variant: &str) -> Result<Package, stationmaster::firmware::PackageError> {
    let disk = MemoryDisk::new();
    let spec = PackageSpec {
        model: model.name.to_owned(),
        revision: model.current_revision().to_owned(),
        megabytes: 2,
        variant: variant.to_owned(),
    };
    generate(&disk, Path::new("/p"), &spec).expect("a package");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    Package::open(&disk, Path::new("/p"))
}

/// The table of a factory-fresh module, read as a programmer reads it.
fn table_of(model: &'static Model) -> PartitionTable {
    let mut nand = Nand::in_memory(model.geometry, model.total_pages, &PagePool::new());
    factory_fresh(&mut nand, &identity(model, 1, 1), model.revisions[0]).expect("a unit");
    let map = FlashMap::of_model(model);
    let range = map.range("mibib").expect("a partition");
    let mut bytes = vec![0; usize::try_from(range.pages).expect("few pages") * nand.page_bytes()];
    for (page, buffer) in (range.start..).zip(bytes.chunks_exact_mut(nand.page_bytes())) {
        map.read(&nand, page, buffer).expect("a page");
    }
    PartitionTable::parse_mibib(&bytes, model.geometry).expect("a table")
}

fn planned(model: &'static Model, variant: &str, efs: EfsPolicy) -> Result<Plan, PlanError> {
    let package = made(model, variant).expect("a package");
    let family = Family::by_name(model.family).expect("a family");
    plan::build(&PlanInput {
        operations: package.operations(),
        resolve: &|name| package.resolve(name),
        geometry: model.geometry,
        total_pages: model.total_pages,
        module_table: &table_of(model),
        package_table: package.table(),
        guarded: family.guarded,
        efs,
    })
}

#[test]
fn the_table_of_each_module_is_the_models_map() {
    for model in MODELS {
        let table = table_of(model);
        assert_eq!(table.partitions().len(), model.partitions.len());
        for partition in model.partitions {
            let found = table.find(partition.name).expect("a partition");
            assert_eq!(table.range(found, model.geometry, model.total_pages), partition.range());
        }
    }
}

#[test]
fn update_packages_make_safe_plans() {
    for model in MODELS {
        for variant in ["update", "update+factory", "old", "foreign-programmer", "blind-programmer"] {
            let plan = planned(model, variant, EfsPolicy::Keep).unwrap_or_else(|error| panic!("{variant}: {error}"));
            assert_eq!(plan.boot_loader.range.start, 0);
            assert!(plan.programs.len() >= 12, "{}: {}", model.name, plan.programs.len());
            let total = plan.bytes();
            assert!((1_900_000..3_000_000).contains(&total), "{}: {total} bytes", model.name);
        }
    }
}

#[test]
fn faulty_packages_are_refused_with_their_codes() {
    let expected = [
        ("factory", FailureCode::PackageTouchesGuarded),
        ("moves-efs", FailureCode::TableMovesGuarded),
        ("wrong-geometry", FailureCode::GeometryMismatch),
        ("no-boot-loader", FailureCode::PlanInvalid),
        ("overlap", FailureCode::PlanInvalid),
    ];
    for model in MODELS {
        for (variant, code) in expected {
            let error = planned(model, variant, EfsPolicy::Keep).expect_err(variant);
            assert_eq!(error.code(), code, "{} {variant}: {error}", model.name);
        }
        assert!(made(model, "bad-checksum").is_err());
        let carved = planned(model, "factory", EfsPolicy::Carve).expect("a plan");
        let efs = model.range("efs2").expect("a partition");
        assert!(!carved.carved.is_empty());
        assert!(carved.programs.iter().all(|program| !program.range.overlaps(efs)));
        assert!(carved.erases.iter().all(|erase| !erase.range.overlaps(efs)));
    }
}
