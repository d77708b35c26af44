//! Whether what was learned can be written while other slots stay as they are.

use super::person::say;
use super::plan::Plan;
use crate::cli::complain;
use crate::config::SlotConfig;
use crate::domain::{PortChain, SlotName};
use crate::host::Disk;

/// Whether the file would be good with these slots. Where it would not, there is nothing to ask the person, and why is
/// said.
pub(super) fn is_possible(disk: &dyn Disk, plan: &Plan, learned: &[SlotConfig]) -> bool {
    let Err(why) = plan.edited(disk, learned) else { return true };
    complain(format!("{why}\n"));
    say("error: with what was learned, and the others as they are, the station file would not be good", 0);
    false
}

/// Which slots must be taught too, because what was learned has taken their ports; `None` where that is not why it
/// cannot be written.
pub(super) fn help(plan: &Plan, learned: &[SlotConfig]) -> Option<String> {
    let others = plan.others.iter().map(|slot| (&slot.name, slot.chains().collect::<Vec<&PortChain>>()));
    let targets = plan.targets.iter().map(|target| (&target.name, target.chains().collect()));
    let is_learned = |name: &SlotName| learned.iter().any(|slot| slot.name == *name);
    let taken: Vec<&SlotName> = targets
        .chain(others)
        .filter(|(name, there)| {
            !is_learned(name) && there.iter().any(|chain| learned.iter().any(|slot| slot.is_along(chain)))
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
