//! `Views`: the views this SSP owns, and how one is taken in, kept and given up.
//!
//! - A view is answered for only when its `_00_query` row and its edges are stored.
//! - Taking in and giving up the same view never overlap.
//! - Stored edges that should not be there go, missing ones come; the others are not touched.
//! - A view lists what its registrant may select, by the permissions that were last seen.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::sleep;

use crate::edge::{Edge, QueryRow, SinkError};
use crate::engine::Declined;
use crate::outbox::{Dropped, Outbox, Owned};
use crate::plan::{self, Plan};
use crate::query::expr::Beyond;
use crate::query::rules::Rules;
use crate::registration::Registration;
use crate::requery::{RequeryError, RequeryMember, RequeryText};
use crate::rerun::{Rerun, RerunOpening};
use crate::sequencer::{Members, Opened, Opening, Sequencer, Stopped};
use crate::service::Context;

/// Wait before the database is asked again on a view's behalf.
const RETRY: Duration = Duration::from_millis(500);

/// Locks that registrations of the same view share.
const DOORS: usize = 64;

/// Why a view was not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The query is wrong; the text is SurrealDB's.
    Invalid(String),
    /// Another SSP owns the view, or this request is older than the last.
    Fenced,
    /// It would take more memory than the budgets allow.
    TooLarge(String),
    /// The database does not answer.
    Unavailable(String),
    /// The database refuses.
    Refused(String),
    /// The session is over.
    Ended,
}

/// How a view is kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The engine maintains it.
    Incremental,
    /// It is run again on SurrealDB.
    Requery,
}

/// A view that is taken in.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What was asked.
    pub(crate) registration: Registration,
    /// The ownership's epoch.
    pub(crate) epoch: u64,
    /// Where its edges are.
    pub(crate) table: String,
    /// How it is kept up to date.
    pub(crate) mode: Mode,
    /// The permissions it was taken in under; none if its registrant may read all.
    pub(crate) rules: Option<Arc<Rules>>,
}

/// The views of one session.
pub(crate) struct Views {
    context: Arc<Context>,
    outbox: Outbox,
    sequencer: Sequencer,
    rerun: Rerun,
    entries: Mutex<HashMap<String, Entry>>,
    /// Assigned views that could not be taken in, with the reason.
    failed: Mutex<BTreeMap<String, String>>,
    /// The database's permissions, once they were asked for.
    rules: Mutex<Option<Arc<Rules>>>,
    doors: Vec<Arc<tokio::sync::Mutex<()>>>,
    hasher: RandomState,
}

impl Views {
    pub(crate) fn new(
        context: Arc<Context>,
        outbox: Outbox,
        sequencer: Sequencer,
        rerun: Rerun,
    ) -> Self {
        let doors = (0..DOORS).map(|_| Arc::default()).collect();
        Self {
            context,
            outbox,
            sequencer,
            rerun,
            entries: Mutex::default(),
            failed: Mutex::default(),
            rules: Mutex::default(),
            doors,
            hasher: RandomState::new(),
        }
    }

    /// Takes in a view, or refreshes the row of one that is here. On return row and edges are stored.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), Refusal> {
        let _door = self.door(&registration.id).await;
        let known = self.entry(&registration.id);
        let epoch = registration.epoch.or(known.as_ref().map(|known| known.epoch)).unwrap_or(0);
        if let Some(known) = known {
            if epoch < known.epoch {
                return Err(Refusal::Fenced);
            }
            if known.registration.same_query(&registration) && self.is_stored(&known).await? {
                return self.refresh(known, registration, epoch).await;
            }
            self.close(&registration.id, Dropped::Released).await?;
        }
        self.take_in(registration, epoch, None).await
    }

    /// Has a view re-run from now on, since the engine gave it up. One that is not here is no error.
    pub(crate) async fn demote(&self, id: &str, beyond: Beyond) -> Result<(), Refusal> {
        let _door = self.door(id).await;
        let Some(entry) = self.entry(id).filter(|entry| entry.mode == Mode::Incremental) else {
            return Ok(());
        };
        let taken = self.take_in(entry.registration.clone(), entry.epoch, Some(beyond)).await;
        self.settle_anew(&entry, taken).await
    }

    /// Looks at the database's permissions, if a view depends on them; says which views were taken in under others.
    pub(crate) async fn judged_by_others(&self) -> Result<Vec<String>, Refusal> {
        if lock(&self.rules).is_none() {
            return Ok(Vec::new());
        }
        let rules = self.look().await?;
        let others =
            |entry: &Entry| entry.rules.as_ref().is_some_and(|before| !Arc::ptr_eq(before, &rules));
        let entries = lock(&self.entries);
        let found = entries.iter().filter(|(_, entry)| others(entry));
        Ok(found.map(|(id, _)| id.clone()).collect())
    }

    /// Takes a view in anew, however long the database is away. One that is refused now is gone.
    pub(crate) async fn judge(&self, id: &str) -> Result<(), Refusal> {
        let _door = self.door(id).await;
        let Some(entry) = self.entry(id) else { return Ok(()) };
        self.close(id, Dropped::Released).await?;
        loop {
            match self.take_in(entry.registration.clone(), entry.epoch, None).await {
                Err(Refusal::Unavailable(reason)) => {
                    tracing::warn!(view = id, reason, "the view is judged later");
                    sleep(RETRY).await;
                }
                taken => return self.settle_anew(&entry, taken).await,
            }
        }
    }

    /// What comes of a view that was here and was to be taken in anew: what is refused now may not stay stored.
    async fn settle_anew(&self, entry: &Entry, taken: Result<(), Refusal>) -> Result<(), Refusal> {
        let id = &entry.registration.id;
        match taken {
            Err(Refusal::Fenced | Refusal::Ended) => Ok(()),
            Err(refusal @ (Refusal::Invalid(_) | Refusal::TooLarge(_))) => {
                self.close(id, Dropped::Released).await?;
                self.context.sink.release(&entry.table, id, entry.epoch).await?;
                Err(refusal)
            }
            taken => taken,
        }
    }

    /// Gives up a view that the engine gave up since it grew too large: row and edges go, as if it had been
    /// refused. Says whether it was here; one that was taken in anew meanwhile stays.
    pub(crate) async fn outgrown(&self, id: &str) -> Result<bool, Refusal> {
        let _door = self.door(id).await;
        let Some(entry) = self.entry(id) else { return Ok(false) };
        if self.members(id).await.map_err(|Stopped| Refusal::Ended)?.is_some() {
            return Ok(false);
        }
        // No write may follow the row's end, so none may be under way.
        let pause = self.outbox.pause().await;
        match self.context.sink.release(&entry.table, id, entry.epoch).await {
            // The row and its edges are the new owner's.
            Ok(()) | Err(SinkError::Fenced { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.outbox.forget(id, Dropped::Released);
        drop(pause);
        self.close(id, Dropped::Released).await?;
        Ok(true)
    }

    /// Gives up a view and deletes its row and edges. One that is not here is no error, and neither
    /// is a request that is older than the view's ownership.
    pub(crate) async fn unregister(&self, id: &str, epoch: Option<u64>) -> Result<(), Refusal> {
        let _door = self.door(id).await;
        let Some(entry) = self.entry(id) else {
            lock(&self.failed).remove(id);
            return Ok(());
        };
        if epoch.is_some_and(|epoch| epoch < entry.epoch) {
            return Ok(());
        }
        self.close(id, Dropped::Released).await?;
        match self.context.sink.release(&entry.table, id, entry.epoch).await {
            // The row and its edges are the new owner's.
            Err(SinkError::Fenced { .. }) => Ok(()),
            outcome => outcome.map_err(Refusal::from),
        }
    }

    /// Gives up a view if its row is expired still; says whether it was.
    pub(crate) async fn expire(&self, id: &str) -> Result<bool, Refusal> {
        let _door = self.door(id).await;
        let Some(entry) = self.entry(id) else { return Ok(false) };
        // No write may follow the row's end, so none may be under way.
        let pause = self.outbox.pause().await;
        let gone = match self.context.sink.release_expired(&entry.table, id, entry.epoch).await {
            Err(SinkError::Fenced { .. }) => true,
            outcome => outcome?,
        };
        if gone {
            self.outbox.forget(id, Dropped::Released);
            drop(pause);
            self.close(id, Dropped::Released).await?;
        }
        Ok(gone)
    }

    /// Drops a view here that another SSP owns.
    pub(crate) async fn fenced(&self, id: &str) {
        let _door = self.door(id).await;
        if self.close(id, Dropped::Fenced).await.is_err() {
            tracing::debug!(view = id, "the session ended before the view was dropped");
        }
    }

    /// Notes that an assigned view could not be taken in.
    pub(crate) fn note_failure(&self, id: &str, refusal: &Refusal) {
        tracing::error!(view = id, %refusal, "an assigned view is not maintained");
        lock(&self.failed).insert(id.to_owned(), refusal.to_string());
    }

    /// The views that could not be taken in, with the reasons.
    pub(crate) fn failures(&self) -> BTreeMap<String, String> {
        lock(&self.failed).clone()
    }

    /// How many views there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.entries).len()
    }

    /// The names of all views.
    pub(crate) fn ids(&self) -> Vec<String> {
        lock(&self.entries).keys().cloned().collect()
    }

    /// How each view is kept up to date.
    pub(crate) fn modes(&self) -> Vec<Mode> {
        lock(&self.entries).values().map(|entry| entry.mode).collect()
    }

    /// A view, if it is here.
    pub(crate) fn entry(&self, id: &str) -> Option<Entry> {
        lock(&self.entries).get(id).cloned()
    }

    /// A view's edges as they were computed.
    pub(crate) async fn members(&self, id: &str) -> Result<Option<Members>, Stopped> {
        match self.rerun.members(id) {
            Some(members) => Ok(Some(members)),
            None => self.sequencer.members(id).await,
        }
    }

    /// A client may have deleted the row; then the view begins anew.
    async fn is_stored(&self, known: &Entry) -> Result<bool, Refusal> {
        let ids = [known.registration.id.clone()];
        Ok(self.context.sink.missing(&ids).await?.is_empty())
    }

    async fn refresh(
        &self,
        known: Entry,
        registration: Registration,
        epoch: u64,
    ) -> Result<(), Refusal> {
        let id = registration.id.clone();
        let table = known.table.clone();
        if let Err(error) = self.context.sink.claim(&self.row(&registration, epoch)).await {
            if matches!(error, SinkError::Fenced { .. }) {
                self.close(&id, Dropped::Fenced).await?;
            }
            return Err(error.into());
        }
        self.outbox.raise_epoch(&id, epoch);
        let entry = Entry { registration, epoch, table, ..known };
        lock(&self.entries).insert(id.clone(), entry);
        match self.outbox.settled(&id) {
            Some(durable) => settle(durable).await,
            None => Ok(()),
        }
    }

    /// `beyond` is why the engine cannot have the view, if that is known.
    async fn take_in(
        &self,
        registration: Registration,
        epoch: u64,
        beyond: Option<Beyond>,
    ) -> Result<(), Refusal> {
        let sink = &self.context.sink;
        let (mut plan, rules) = self.plan(&registration).await?;
        if let Some(beyond) = beyond {
            plan.query = Err(beyond.to_string());
        }
        // SurrealDB's verdict comes before anything is stored.
        let members = match &plan.query {
            Err(reason) => Some(self.ask(reason, &plan.text).await?),
            Ok(_) => None,
        };
        let id = registration.id.clone();
        let (table, uid) = self.edge_table(&registration);
        sink.ensure_edge_table(&table, uid.as_deref()).await?;
        sink.claim(&self.row(&registration, epoch)).await?;
        let stored = sink.edges(&table, &id).await?;
        let owned = Owned { view: id.clone(), epoch, table: table.clone() };
        let opened = self.open(plan, members, owned, stored).await;
        if let Err(Refusal::Invalid(_) | Refusal::TooLarge(_)) = &opened {
            sink.release(&table, &id, epoch).await?;
        }
        let (mode, durable) = opened?;
        let entry = Entry { registration, epoch, table, mode, rules };
        lock(&self.entries).insert(id.clone(), entry);
        lock(&self.failed).remove(&id);
        settle(durable).await
    }

    /// How a query is kept up to date, and the permissions that say what of it.
    async fn plan(
        &self,
        registration: &Registration,
    ) -> Result<(Plan, Option<Arc<Rules>>), Refusal> {
        let Registration { surql, params, .. } = registration;
        if !registration.is_judged() {
            let plan = plan::plan(surql, params, None).map_err(Refusal::Invalid)?;
            return Ok((plan, None));
        }
        let known = lock(&self.rules).clone();
        if let Some(rules) = known
            && let Ok(plan) = plan::plan(surql, params, Some(&rules))
        {
            return Ok((plan, Some(rules)));
        }
        // What is refused may have been allowed since.
        let rules = self.look().await?;
        let plan = plan::plan(surql, params, Some(&rules)).map_err(Refusal::Invalid)?;
        Ok((plan, Some(rules)))
    }

    /// Asks the database for its permissions. The same are shared.
    async fn look(&self) -> Result<Arc<Rules>, Refusal> {
        let found = self.context.requery.rules().await?;
        let mut known = lock(&self.rules);
        match &*known {
            Some(known) if **known == found => Ok(known.clone()),
            _ => Ok(known.insert(Arc::new(found)).clone()),
        }
    }

    /// Hands the view to the engine, or to those that are re-run.
    async fn open(
        &self,
        plan: Plan,
        members: Option<Vec<RequeryMember>>,
        owned: Owned,
        stored: Vec<Edge>,
    ) -> Result<(Mode, Opened), Refusal> {
        let Plan { query, text, triggers } = plan;
        let reason = match query {
            Err(reason) => reason,
            Ok(query) => {
                let opening = Opening { owned: owned.clone(), query, stored: stored.clone() };
                match self.sequencer.open(opening).await.map_err(|Stopped| Refusal::Ended)? {
                    Ok(opened) => return Ok((Mode::Incremental, opened)),
                    Err(Declined::Beyond(beyond)) => beyond.to_string(),
                    Err(over) => return Err(Refusal::TooLarge(over.to_string())),
                }
            }
        };
        let members = match members {
            Some(members) => members,
            None => self.ask(&reason, &text).await?,
        };
        let text = text.map_err(Refusal::Invalid)?;
        let opening = RerunOpening { owned, text, triggers, reason, stored, members };
        Ok((Mode::Requery, self.rerun.open(&self.outbox, opening)))
    }

    /// The result of a query that the engine does not have, for the reason given.
    async fn ask(
        &self,
        reason: &str,
        text: &Result<RequeryText, String>,
    ) -> Result<Vec<RequeryMember>, Refusal> {
        match text {
            Ok(text) => Ok(self.context.requery.run(text).await?),
            Err(past) => Err(Refusal::Invalid(plan::refused(reason, past))),
        }
    }

    /// Forgets a view here; what is stored stays.
    async fn close(&self, id: &str, why: Dropped) -> Result<(), Refusal> {
        lock(&self.entries).remove(id);
        let pause = self.outbox.pause().await;
        self.outbox.forget(id, why);
        drop(pause);
        if self.rerun.close(id) {
            return Ok(());
        }
        self.sequencer.close(id, why).await.map_err(|Stopped| Refusal::Ended)
    }

    fn edge_table(&self, registration: &Registration) -> (String, Option<String>) {
        let config = &self.context.config;
        let anonymous = registration.auth_id == crate::edge::ANONYMOUS;
        let auth_id =
            if anonymous && !config.anonymous_tables { "" } else { &registration.auth_id };
        config.ref_mode.edge_table(auth_id)
    }

    fn row(&self, registration: &Registration, epoch: u64) -> QueryRow {
        QueryRow {
            id: registration.id.clone(),
            surql: registration.surql.clone(),
            params: registration.params.clone(),
            ttl: registration.ttl,
            client_id: registration.client_id.clone(),
            last_active_at: registration.last_active_at,
            auth_id: registration.auth_id.clone(),
            ssp_id: self.context.config.ssp_id.clone(),
            epoch,
        }
    }

    async fn door(&self, id: &str) -> OwnedMutexGuard<()> {
        let count = self.doors.len() as u64;
        let door = usize::try_from(self.hasher.hash_one(id) % count).unwrap_or(0);
        self.doors[door].clone().lock_owned().await
    }
}

impl From<SinkError> for Refusal {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Unavailable(reason) => Self::Unavailable(reason),
            SinkError::Fenced { .. } => Self::Fenced,
            SinkError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl From<RequeryError> for Refusal {
    fn from(error: RequeryError) -> Self {
        match error {
            RequeryError::Invalid(message) => Self::Invalid(message),
            RequeryError::Unavailable(reason) => Self::Unavailable(reason),
            RequeryError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(message) | Self::TooLarge(message) => f.write_str(message),
            Self::Fenced => f.write_str("another SSP owns the view"),
            Self::Unavailable(reason) | Self::Refused(reason) => {
                write!(f, "Database error: {reason}")
            }
            Self::Ended => f.write_str("the session ended"),
        }
    }
}

async fn settle(durable: Opened) -> Result<(), Refusal> {
    match durable.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Dropped::Fenced)) => Err(Refusal::Fenced),
        Ok(Err(Dropped::Released)) | Err(_) => Err(Refusal::Ended),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
