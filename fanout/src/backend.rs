//! The backends whose health is watched. They are asked and shown; nothing else depends on them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::{Client, redirect};
use tokio::time::{Instant, sleep};

use crate::config::Backend;

/// How long a backend may take to say how it is.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How a backend is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It says so.
    Healthy,
    /// It says otherwise.
    Unhealthy,
    /// It says nothing.
    Unreachable,
}

impl Condition {
    /// The word upstream has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A backend and what was last heard of it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The backend.
    pub backend: Backend,
    /// How it is.
    pub condition: Condition,
    /// When it was last asked.
    pub checked: Option<SystemTime>,
    /// When it was last healthy.
    pub healthy: Option<SystemTime>,
    /// How long it took to answer.
    pub took: Option<Duration>,
}

/// All of them.
#[derive(Debug)]
pub struct Backends(Mutex<Vec<Watched>>);

impl Backends {
    /// Backends that were not asked yet.
    #[must_use]
    pub fn new(backends: Vec<Backend>) -> Self {
        let all = Self(Mutex::default());
        all.replace(backends);
        all
    }

    /// Watches `backends` instead; those that stay keep what is known of them.
    pub fn replace(&self, backends: Vec<Backend>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut *all);
        *all = backends
            .into_iter()
            .map(|backend| {
                let same = |one: &&Watched| {
                    one.backend.name == backend.name && one.backend.url == backend.url
                };
                match known.iter().find(same) {
                    Some(one) => Watched { backend, ..one.clone() },
                    None => Watched {
                        backend,
                        condition: Condition::Unknown,
                        checked: None,
                        healthy: None,
                        took: None,
                    },
                }
            })
            .collect();
    }

    /// All of them as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks them again and again.
    pub async fn watch(&self, every: Duration) {
        let client = Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).build();
        let Ok(client) = client else { return };
        loop {
            for one in self.all() {
                let begun = Instant::now();
                let condition = match client.get(address(&one.backend)).send().await {
                    Ok(answer) if answer.status().is_success() => Condition::Healthy,
                    Ok(_) => Condition::Unhealthy,
                    Err(_) => Condition::Unreachable,
                };
                self.note(&one.backend, condition, begun.elapsed());
            }
            sleep(every).await;
        }
    }

    fn note(&self, backend: &Backend, condition: Condition, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = all.iter_mut().find(|one| one.backend == *backend) {
            let now = Some(SystemTime::now());
            (one.condition, one.checked, one.took) = (condition, now, Some(took));
            if condition == Condition::Healthy {
                one.healthy = now;
            }
        }
    }
}

fn address(backend: &Backend) -> String {
    let path = backend.healthcheck.as_deref().unwrap_or("/health");
    if path.contains("://") {
        return path.to_owned();
    }
    let port = backend.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}/{}", backend.url.trim_end_matches('/'), path.trim_start_matches('/'))
}
