//! What a plan moves, and which tasks are meant.

use tallyman_crds::{LastStatus, Task};
use tallyman_operator_core::{Action, Plan};

use super::Bench;

/// Names of the tasks that a plan creates, and of those that it stops.
pub fn moves(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let (mut starts, mut stops) = (Vec::new(), Vec::new());
    for action in &plan.actions {
        match action {
            Action::CreateTask(t) => starts.push(t.metadata.name.clone().unwrap()),
            Action::StopTask { task, .. } => stops.push(task.name.clone()),
            _ => {}
        }
    }
    stops.sort();
    (starts, stops)
}

/// How many a plan creates and stops.
pub fn counts(plan: &Plan) -> (usize, usize) {
    let (starts, stops) = moves(plan);
    (starts.len(), stops.len())
}

/// Not STOPPED.
pub fn holding(t: &Task) -> bool {
    t.status
        .as_ref()
        .is_none_or(|s| s.last_status != LastStatus::Stopped)
}

/// Of a revision with this image.
pub fn of_image<'a>(bench: &'a Bench, image: &'a str) -> impl Fn(&Task) -> bool + 'a {
    move |t| {
        let revision = &t.metadata.labels.as_ref().unwrap()[tallyman_crds::labels::REVISION];
        let found = bench
            .objects
            .revisions
            .iter()
            .find(|r| r.metadata.name.as_deref() == Some(revision))
            .unwrap();
        found.spec.definition.container_definitions[0].image == image
    }
}
