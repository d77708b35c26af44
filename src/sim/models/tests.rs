use super::*;
use crate::domain::Family;

#[test]
fn maps_are_without_gaps_and_aligned_to_blocks() {
    for model in MODELS {
        let mut next = 0;
        for partition in model.partitions {
            assert_eq!(partition.start, next, "{} {}", model.name, partition.name);
            assert_eq!(partition.pages % u64::from(model.geometry.pages_per_block), 0, "{}", partition.name);
            next += partition.pages;
        }
        assert_eq!(next, model.total_pages, "{}", model.name);
    }
}

#[test]
fn models_agree_with_the_controllers_families() {
    for model in MODELS {
        let family = Family::by_name(model.family).expect("a family for each model");
        assert!(family.models.contains(&model.name));
        assert!(family.usb_ids.contains(&(model.normal.vendor_id, model.normal.product_id)));
        assert_eq!(family.geometry, model.geometry);
        assert_eq!(family.superspeed, model.normal.speed == Speed::Super);
        assert_eq!(family.lost_efs_cme, model.lost_efs_cme);
        assert_eq!(family.calibration_items, model.rf_items);
        assert_eq!((family.diag_interface, family.at_interface), (model.diag_interface, model.at_interface));
        for name in family.guarded.iter().chain(family.boot_chain) {
            assert!(model.partition(name).is_some(), "{} lacks {name}", model.name);
        }
        for name in family.guarded {
            assert_eq!(model.partition(name).map(|p| p.role), Some(Role::Unit));
        }
    }
}

#[test]
fn chips_of_one_kind_share_their_key_and_others_do_not() {
    let key = |name| Model::by_name(name).expect("a model").key_hash();
    assert_eq!(key("EG25-G"), key("EC25"));
    assert_ne!(key("EG25-G"), key("RM500Q-GL"));
    assert_ne!(key("RM520N-GL"), key("RM500Q-GL"));
    assert!(!key("EG25-G").is_unfused());
}
