//! Whether requests can be answered now. Each front end reports it in its own way.

use ragweave_engine::EngineHealth;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    NotReady,
}

impl From<EngineHealth> for Readiness {
    fn from(engine: EngineHealth) -> Self {
        match engine {
            EngineHealth::Serving => Self::Ready,
            EngineHealth::Reloading | EngineHealth::Dead => Self::NotReady,
        }
    }
}
