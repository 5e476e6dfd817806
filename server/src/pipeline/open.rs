//! The last step of planning: looks up the stored KV of each passage, and has the controller choose the plan if it is
//! asked to. No KV is read yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ragweave_engine::{ChunkState, FuseRequest, FusionPlan, LayerSource, Mode, Tier};

use super::error::AnswerError;
use super::layout::Layout;
use super::passage::Passage;
use super::planner::Planner;
use super::query::Query;
use crate::components::Components;
use crate::controller::{Choice, UnreadSource};
use crate::mode_choice::ModeChoice;
use crate::sources::BlobSource;

/// The request for the engine, and how it was planned.
pub(super) struct Opened {
    /// Its sources, one for every hit, have read no KV yet.
    pub(super) request: FuseRequest,
    /// Where each chunk's KV is stored.
    pub(super) tiers: Vec<Option<Tier>>,
    /// A source that the chosen plan leaves unread.
    pub(super) unread: Option<UnreadSource>,
    /// Why this plan was chosen, if the controller chose it.
    pub(super) choice: Option<Choice>,
    /// Passages, by index, that were looked up and have no usable KV.
    pub(super) misses: Vec<usize>,
    /// Time it took to look up and open what is stored.
    looking_up: Duration,
}

impl Planner {
    /// Looks up the KV of each passage, and lets the controller choose the plan if the mode is `auto`.
    pub(super) fn open(&self, query: &Query, layout: &Layout) -> Result<Opened, AnswerError> {
        let (ModeChoice::Auto(auto), Some(controller)) = (&query.mode, &self.controller) else {
            return self.open_in(query.mode.widest(), query, layout);
        };
        // 1. A prompt whose prefill is faster than opening and placing stored KV needs no lookup in the store.
        let hits = self.plan(query.mode.widest(), layout, self.all_hits(layout))?;
        let tiers: Vec<_> = layout.passages.iter().map(|p| self.tier_of(p)).collect();
        if let Some(choice) = controller.full_if_clear(&hits, &tiers, auto)? {
            let mut opened = self.open_in(Mode::Full, query, layout)?;
            opened.choice = Some(choice);
            opened.unread = Some(self.not_looked_up(layout));
            return Ok(opened);
        }
        // 2. What is stored, and the best plan for it.
        let mut opened = self.open_in(query.mode.widest(), query, layout)?;
        controller.opened(layout.passages.len(), opened.looking_up);
        let choice = controller.choose(&opened.request.plan, &opened.tiers, auto)?;
        opened.request.plan = choice.plan.clone();
        opened.unread = UnreadSource::take(&choice.plan, &mut opened.request.sources);
        opened.choice = Some(choice);
        Ok(opened)
    }

    /// Looks up the KV of each passage. KV that cannot be opened is a miss, never an error.
    fn open_in(&self, mode: Mode, query: &Query, layout: &Layout) -> Result<Opened, AnswerError> {
        let looks_up = mode.reads_kv();
        let (mut states, mut sources, mut misses) = (Vec::new(), Vec::new(), Vec::new());
        let mut looking_up = Duration::ZERO;
        for (index, passage) in layout.passages.iter().enumerate() {
            let start = Instant::now();
            let source = looks_up
                .then(|| open_source(&self.components, passage))
                .flatten();
            looking_up += start.elapsed();
            states.push(match source {
                Some(_) => self.hit(layout, index, passage),
                None => ChunkState::Miss,
            });
            if looks_up && source.is_none() {
                misses.push(index);
            }
            sources.push(source);
        }
        let tier =
            |source: &Option<Box<dyn LayerSource>>| source.as_ref().map(|s| s.expected_tier());
        let tiers = sources.iter().map(tier).collect();
        let (sampling, deadline) = (query.sampling.clone(), query.deadline);
        let request = FuseRequest {
            plan: self.plan(mode, layout, states)?,
            sources,
            sampling,
            deadline,
        };
        Ok(Opened {
            request,
            tiers,
            unread: None,
            choice: None,
            misses,
            looking_up,
        })
    }

    fn plan(
        &self,
        mode: Mode,
        layout: &Layout,
        states: Vec<ChunkState>,
    ) -> Result<FusionPlan, AnswerError> {
        let model = self.components.engine.model();
        let plan = FusionPlan::new(layout.segments.clone(), states, mode, model)?;
        Ok(plan.with_anchors(&layout.anchors()))
    }

    /// The state of each chunk if all KV is stored.
    fn all_hits(&self, layout: &Layout) -> Vec<ChunkState> {
        let passages = layout.passages.iter().enumerate();
        passages
            .map(|(index, passage)| self.hit(layout, index, passage))
            .collect()
    }

    fn hit(&self, layout: &Layout, index: usize, passage: &Passage) -> ChunkState {
        ChunkState::Hit {
            exact: index == 0 && self.is_exact(layout, passage),
        }
    }

    /// Where the passage's KV would come from if it is stored. Does not access the store.
    fn tier_of(&self, passage: &Passage) -> Option<Tier> {
        let n_layers = self.components.engine.model().config.num_hidden_layers;
        let memory = &self.components.memory;
        Some(memory.expected_tier(&passage.key, n_layers))
    }

    /// The KV of the first passage that has stored KV, to be opened after the answer.
    fn not_looked_up(&self, layout: &Layout) -> UnreadSource {
        let (components, passages) = (self.components.clone(), layout.passages.clone());
        UnreadSource::not_looked_up(move || {
            passages.iter().enumerate().find_map(|(n_before, passage)| {
                let source = open_source(&components, passage)?;
                Some((n_before + 1, passage.token_ids.len(), source))
            })
        })
    }

    /// Whether a chunk that follows this prompt's prefix directly has exactly the KV that was stored for it: it was
    /// computed after the same ids, with no neighbours among them, and stored without loss.
    fn is_exact(&self, layout: &Layout, passage: &Passage) -> bool {
        let identity = &self.components.engine.model().identity;
        identity.is_exact_dtype()
            && passage.conditioning_ids.is_empty()
            && layout.segments.prefix[..] == self.components.prompt.conditioning_prefix()[..]
    }
}

/// The passage's stored KV, read through the memory tier; `None` if nothing is stored or the lookup fails, which is
/// logged.
fn open_source(components: &Components, passage: &Passage) -> Option<Box<dyn LayerSource>> {
    let (store, memory) = (&components.store, &components.memory);
    if components.unanswered.contains(&passage.key) {
        return None;
    }
    match store.open_blob(&passage.key, &passage.token_ids) {
        Ok(reader) => {
            let source = BlobSource::new(Arc::clone(store), reader?);
            let source = source.noted_in(Arc::clone(&components.unanswered));
            Some(Box::new(source.through(Arc::clone(memory))))
        }
        Err(error) => {
            tracing::warn!(chunk = passage.chunk_id, %error, "lookup of stored KV failed");
            None
        }
    }
}
