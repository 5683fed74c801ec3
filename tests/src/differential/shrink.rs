//! Makes a script that shows a difference as small as it gets (Zeller's delta debugging): first
//! whole groups are left out, then single steps. The first group stays: without it a script would
//! find what the one before has left behind.

use super::script::{Group, Script, Step};

/// The smallest script that can be had from `script` by leaving things out, and that `differs`.
pub fn shrink(script: &Script, mut differs: impl FnMut(&Script) -> bool) -> Script {
    let Some((first, rest)) = script.groups.split_first() else { return script.clone() };
    let whole =
        |groups: &[Group]| Script { groups: [std::slice::from_ref(first), groups].concat() };
    let groups = minimize(rest, |groups| differs(&whole(groups)));
    let steps: Vec<_> = groups
        .iter()
        .flat_map(|group| group.steps.iter().map(|step| (group.label.clone(), step.clone())))
        .collect();
    let steps = minimize(&steps, |steps| differs(&whole(&regroup(steps))));
    whole(&regroup(&steps))
}

fn regroup(steps: &[(String, Step)]) -> Vec<Group> {
    let groups = steps.chunk_by(|a, b| a.0 == b.0).map(|chunk| Group {
        label: chunk[0].0.clone(),
        steps: chunk.iter().map(|(_, step)| step.clone()).collect(),
    });
    groups.collect()
}

/// The shortest sublist found for which `fails` holds; it must for `items`.
pub fn minimize<T: Clone>(items: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut items = items.to_vec();
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < items.len() {
            let end = (at + size).min(items.len());
            let without = [&items[..at], &items[end..]].concat();
            if fails(&without) {
                items = without;
            } else {
                at = end;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    items
}
