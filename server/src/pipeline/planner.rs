//! Plans a prompt in three steps: [`find`](super::find) its passages, [lay them out](super::layout), and
//! [open](super::open) their stored KV. All three block; the pipeline runs them on the blocking pool.

use std::sync::Arc;

use crate::components::Components;
use crate::controller::Controller;

/// Everything that planning a prompt reads.
pub(super) struct Planner {
    pub(super) components: Components,
    /// Chooses plans; `None` if every query runs in the mode it asks for.
    pub(super) controller: Option<Arc<Controller>>,
}

impl Planner {
    pub(super) fn new(components: &Components, controller: Option<Arc<Controller>>) -> Self {
        Self {
            components: components.clone(),
            controller,
        }
    }
}
