//! Whether what was learned can be written while other slots stay as they are.

use super::person::say;
use super::plan::Plan;
use crate::cli::complain;
use crate::config::SlotConfig;
use crate::controller::mapping::Target;
use crate::domain::{PortChain, SlotName};
use crate::host::OsDisk;

/// Whether the file would be good with these slots. Where it would not, there is nothing to ask the person, and why is
/// said.
pub(super) fn is_possible(plan: &Plan, learned: &[SlotConfig]) -> bool {
    let Err(why) = plan.edited(&OsDisk::new(), learned) else { return true };
    complain(format!("{why}\n"));
    say("error: with what was learned, and the others as they are, the station file would not be good", 0);
    false
}

/// Which slots must be taught too, because what was learned has taken their ports; `None` where that is not why it
/// cannot be written.
pub(super) fn help(plan: &Plan, learned: &[SlotConfig]) -> Option<String> {
    let others = plan.others.iter().map(|slot| (&slot.name, chains(Some(&slot.usb2), slot.usb3.as_ref())));
    let targets = plan.targets.iter().map(target_chains);
    let is_learned = |name: &SlotName| learned.iter().any(|slot| slot.name == *name);
    let taken: Vec<&SlotName> = targets
        .chain(others)
        .filter(|(name, there)| {
            !is_learned(name) && there.iter().any(|chain| learned.iter().any(|slot| is_in_the_way(slot, chain)))
        })
        .map(|(name, _)| name)
        .collect();
    if taken.is_empty() {
        return None;
    }
    let words =
        |names: &[&SlotName], between: &str| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(between);
    let all: Vec<&SlotName> = learned.iter().map(|slot| &slot.name).chain(taken.iter().copied()).collect();
    let (are, them) = if taken.len() == 1 { ("is", "it") } else { ("are", "them") };
    Some(format!(
        "help: slot {} {are} still at ports that were learned for others; teach {them} too: --slots {}",
        words(&taken, " and "),
        words(&all, ",")
    ))
}

fn target_chains(target: &Target) -> (&SlotName, Vec<&PortChain>) {
    (&target.name, chains(target.usb2.as_ref(), target.usb3.as_ref()))
}

fn chains<'a>(usb2: Option<&'a PortChain>, usb3: Option<&'a PortChain>) -> Vec<&'a PortChain> {
    usb2.into_iter().chain(usb3).collect()
}

fn is_in_the_way(slot: &SlotConfig, there: &PortChain) -> bool {
    let mut own = std::iter::once(&slot.usb2).chain(&slot.usb3);
    own.any(|chain| chain.is_at_or_behind(there) || there.is_at_or_behind(chain))
}
