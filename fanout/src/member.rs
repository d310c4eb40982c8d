//! `Member`: one SSP and the stages of its life. Every transition is here.

use std::collections::BTreeMap;
use std::time::Duration;

use revenant_log::Seq;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What is kept of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Where the SSP is reached.
    pub url: String,
    /// What it says its version is.
    pub version: String,
    /// Fences every earlier registration of the same id.
    pub epoch: u64,
    /// Its environment as it chose to tell it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// It was so far behind that its cursor protects the log no longer.
    #[serde(default)]
    pub lapsed: bool,
}

/// Where an SSP is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It loads a snapshot.
    Bootstrapping,
    /// It has its rows and catches up with the log.
    Replaying,
    /// It takes views.
    Ready,
    /// It was silent for too long: its views go to others.
    Stale,
    /// It must bootstrap again.
    Lapsed,
}

impl Stage {
    /// The word upstream has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrapping => "bootstrapping",
            Self::Replaying => "replaying",
            Self::Ready => "ready",
            Self::Stale => "stale",
            Self::Lapsed => "lapsed",
        }
    }
}

/// What an SSP tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It does something, whatever.
    Alive,
    /// It reads the feed.
    Replaying,
    /// It takes views.
    Ready,
}

/// An SSP that is registered.
#[derive(Clone, Debug)]
pub struct Member {
    /// What is kept of it.
    pub registration: Registration,
    /// Where it is in its life.
    pub stage: Stage,
    /// When it was last heard.
    pub heard: Instant,
    /// When it registered, or this process began.
    pub since: Instant,
    /// The last seq it says it applied.
    pub applied_seq: Seq,
    /// The views it says it has.
    pub views: u64,
    /// Its processor use, if it tells.
    pub cpu: Option<f64>,
    /// Its memory use, if it tells.
    pub memory: Option<f64>,
    /// Whether it has to bootstrap again because someone asked for it.
    pub resync: bool,
}

impl Member {
    /// An SSP right after it registered.
    #[must_use]
    pub fn new(registration: Registration, now: Instant) -> Self {
        let stage = if registration.lapsed { Stage::Lapsed } else { Stage::Bootstrapping };
        Self {
            registration,
            stage,
            heard: now,
            since: now,
            applied_seq: Seq::ZERO,
            views: 0,
            cpu: None,
            memory: None,
            resync: false,
        }
    }

    /// Notes a sign of life.
    pub fn heard(&mut self, sign: Sign, now: Instant) {
        self.heard = now;
        self.stage = match (self.stage, sign) {
            (Stage::Lapsed, _) => Stage::Lapsed,
            (_, Sign::Ready) => Stage::Ready,
            (Stage::Ready, _) => Stage::Ready,
            (_, Sign::Replaying) => Stage::Replaying,
            // What it was before is unknown; it says soon.
            (Stage::Stale, Sign::Alive) => Stage::Replaying,
            (stage, Sign::Alive) => stage,
        };
    }

    /// Notes the passing of time; whether it just became stale.
    pub fn tick(&mut self, now: Instant, timeout: Duration) -> bool {
        let alive = !matches!(self.stage, Stage::Stale | Stage::Lapsed);
        if alive && now.duration_since(self.heard) > timeout {
            self.stage = Stage::Stale;
            return true;
        }
        false
    }

    /// It fell behind too far.
    pub fn lapse(&mut self) {
        self.registration.lapsed = true;
        self.stage = Stage::Lapsed;
    }

    /// Whether its cursor protects the log.
    #[must_use]
    pub fn protects(&self) -> bool {
        !self.registration.lapsed
    }

    /// Processor and memory use together.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.cpu.unwrap_or(0.0) + self.memory.unwrap_or(0.0)
    }
}
