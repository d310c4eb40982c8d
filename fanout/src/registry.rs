//! `Registry`: who is registered and who owns which view. It decides and remembers; calling SSPs is
//! [`crate::deliver`]'s part.
//!
//! - What it hands out was durable before: an epoch that was seen outside is never given again.
//! - A view has one owner; every change of owner raises its epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use revenant_log::Seq;
use serde_json::{Map, Value as Json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::assign::{Balance, Candidate, View, choose, same_query};
use crate::cursor::{Cursor, Cursors};
use crate::error::Error;
use crate::member::{Member, Registration, Sign, Stage};
use crate::store::{Change, Meta, Saved, Store};

/// Why a call of an SSP is turned down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It is not registered.
    Unknown,
    /// A later registration has its id.
    Fenced,
    /// It fell behind further than the log reaches.
    Lapsed,
    /// Someone asked for a bootstrap.
    Resync,
}

/// Who is registered and who owns which view.
pub struct Registry {
    store: Arc<Store>,
    /// How far each SSP is.
    pub cursors: Cursors,
    balance: Balance,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    work: Notify,
}

struct Inner {
    meta: Meta,
    members: BTreeMap<String, Member>,
    views: BTreeMap<String, View>,
    /// Views whose owner does not know it yet.
    undelivered: BTreeSet<String>,
    last_chosen: Option<String>,
}

/// Where a view was placed.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The view as it is assigned now.
    pub view: View,
    /// Where its owner is reached.
    pub url: String,
    /// What it was before, if it was known.
    pub before: Option<View>,
    /// Whether its owner takes views now.
    pub ready: bool,
}

/// What an SSP says in a heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Its views.
    pub views: u64,
    /// Its processor use.
    pub cpu: Option<f64>,
    /// Its memory use.
    pub memory: Option<f64>,
    /// The last seq it applied.
    pub applied_seq: Option<Seq>,
}

impl Registry {
    /// The registry as it was kept. Every SSP of it gets the time of a heartbeat timeout to be heard.
    #[must_use]
    pub fn new(store: Arc<Store>, saved: &Saved, balance: Balance, now: Instant) -> Self {
        let members = saved.members.iter();
        let inner = Inner {
            meta: saved.meta.clone(),
            members: members
                .map(|(id, kept)| (id.clone(), Member::new(kept.clone(), now)))
                .collect(),
            views: saved.views.clone(),
            // Whether these calls were answered before the last stop is unknown; calling again does no harm.
            undelivered: saved
                .views
                .iter()
                .filter(|(_, v)| !v.taken)
                .map(|(id, _)| id.clone())
                .collect(),
            last_chosen: None,
        };
        let cursors = Cursors::new(Arc::clone(&store), saved.cursors.clone());
        let (changed, work) = (watch::Sender::new(0), Notify::new());
        Self { store, cursors, balance, inner: Mutex::new(inner), changed, work }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a registration is fenced, lapses or ends.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until a view may have to be delivered or an SSP got ready.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// Registers `ssp_id`, which fences every earlier registration of that id. Its cursor begins at
    /// `cursor`, and its views are `Placed` with it. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn register(
        &self,
        ssp_id: &str,
        registration: Registration,
        cursor: Seq,
    ) -> Result<(Registration, Vec<(String, View)>), Error> {
        let (registration, views, changes) = {
            let mut inner = self.inner();
            let epoch = inner.next_epoch();
            let registration = Registration { epoch, lapsed: false, ..registration };
            let member = Member::new(registration.clone(), Instant::now());
            inner.members.insert(ssp_id.to_owned(), member);
            // It gets them with the answer.
            let views = inner.views_of(ssp_id);
            for (id, _) in &views {
                inner.undelivered.remove(id);
            }
            let cursor = self.cursors.begin(ssp_id, Cursor { epoch, acked_seq: cursor });
            let member = Change::Member(ssp_id.to_owned(), Some(registration.clone()));
            (registration, views, vec![Change::Meta(inner.meta.clone()), member, cursor])
        };
        self.store.keep(changes).await?;
        self.changed.send_modify(|count| *count += 1);
        tracing::info!(ssp_id, epoch = registration.epoch, url = registration.url, "registered");
        Ok((registration, views))
    }

    /// Notes a sign of life of registration `epoch`; `None` is a caller that does not know its epoch.
    ///
    /// # Errors
    /// Why it is turned down.
    pub fn heard(&self, ssp_id: &str, epoch: Option<u64>, sign: Sign) -> Result<(), Turned> {
        let mut inner = self.inner();
        let member = inner.admitted(ssp_id, epoch)?;
        let before = member.stage;
        member.heard(sign, Instant::now());
        if member.stage != before {
            tracing::info!(ssp_id, stage = member.stage.word(), "SSP");
            if member.stage == Stage::Ready {
                self.work.notify_one();
            }
        }
        Ok(())
    }

    /// Notes what a heartbeat said.
    pub fn vitals(&self, ssp_id: &str, vitals: Vitals) {
        let mut inner = self.inner();
        let Some(member) = inner.members.get_mut(ssp_id) else { return };
        (member.views, member.cpu, member.memory) = (vitals.views, vitals.cpu, vitals.memory);
        if let Some(seq) = vitals.applied_seq {
            member.applied_seq = member.applied_seq.max(seq);
        }
    }

    /// Whether registration `epoch` is in force.
    ///
    /// # Errors
    /// Why it is turned down.
    pub fn check(&self, ssp_id: &str, epoch: u64) -> Result<(), Turned> {
        self.inner().admitted(ssp_id, Some(epoch)).map(drop)
    }

    /// Lets time pass: SSPs that were silent for `timeout` become stale. Returns those that just did.
    pub fn tick(&self, timeout: Duration) -> Vec<String> {
        let now = Instant::now();
        let mut inner = self.inner();
        let stale = inner
            .members
            .iter_mut()
            .filter_map(|(id, member)| member.tick(now, timeout).then(|| id.clone()));
        let stale: Vec<String> = stale.collect();
        if !stale.is_empty() {
            self.work.notify_one();
        }
        stale
    }

    /// Marks SSPs as lapsed: their cursors protect the log no longer. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn lapse(&self, ssp_ids: &[String]) -> Result<(), Error> {
        let mut changes = Vec::new();
        {
            let mut inner = self.inner();
            for id in ssp_ids {
                if let Some(member) = inner.members.get_mut(id) {
                    member.lapse();
                    changes.push(Change::Member(id.clone(), Some(member.registration.clone())));
                }
            }
        }
        self.changed.send_modify(|count| *count += 1);
        self.work.notify_one();
        self.store.keep(changes).await
    }

    /// Forgets SSPs that were silent for `after` and own nothing. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn forget_silent(&self, after: Duration) -> Result<(), Error> {
        let now = Instant::now();
        let mut changes = Vec::new();
        {
            let mut inner = self.inner();
            let owners: BTreeSet<String> =
                inner.views.values().map(|view| view.ssp_id.clone()).collect();
            inner.members.retain(|id, member| {
                let gone = matches!(member.stage, Stage::Stale | Stage::Lapsed)
                    && now.duration_since(member.heard) > after
                    && !owners.contains(id);
                if gone {
                    tracing::info!(ssp_id = id, "forgotten: it was silent for too long");
                    changes.push(Change::Member(id.clone(), None));
                    changes.push(self.cursors.forget(id));
                }
                !gone
            });
        }
        if changes.is_empty() { Ok(()) } else { self.store.keep(changes).await }
    }

    /// Has every SSP bootstrap again; returns how many.
    pub fn resync_all(&self) -> usize {
        let mut inner = self.inner();
        for member in inner.members.values_mut() {
            member.resync = true;
        }
        self.changed.send_modify(|count| *count += 1);
        inner.members.len()
    }

    /// Places a view: with the SSP that owns it, while that one is alive, else with another. Durable on
    /// return. `None`: no SSP takes views.
    ///
    /// # Errors
    /// The store fails.
    pub async fn place(&self, id: &str, body: Map<String, Json>) -> Result<Option<Placed>, Error> {
        let (placed, changes) = {
            let mut inner = self.inner();
            let before = inner.views.get(id).cloned();
            let sticky = before.as_ref().filter(|view| inner.is_alive(&view.ssp_id));
            let (ssp_id, epoch) = match sticky {
                Some(view) => (view.ssp_id.clone(), view.epoch),
                None => match inner.choose(self.balance) {
                    Some(ssp_id) => (ssp_id, inner.next_epoch()),
                    None => return Ok(None),
                },
            };
            // The caller delivers; if it is kept from it, the work is not forgotten.
            let taken = before.as_ref().is_some_and(|before| {
                before.taken && before.epoch == epoch && same_query(&before.body, &body)
            });
            let view = View { ssp_id, epoch, body, assigned_at: unix_seconds(), taken };
            inner.views.insert(id.to_owned(), view.clone());
            let member = inner.members.get(&view.ssp_id).expect("it was chosen among them");
            let ready = member.stage == Stage::Ready;
            let url = member.registration.url.clone();
            if !taken {
                inner.undelivered.insert(id.to_owned());
            }
            let changes = vec![
                Change::Meta(inner.meta.clone()),
                Change::View(id.to_owned(), Some(view.clone())),
            ];
            (Placed { view, url, before, ready }, changes)
        };
        self.store.keep(changes).await?;
        Ok(Some(placed))
    }

    /// Notes that the owner took `epoch` of a view.
    ///
    /// # Errors
    /// The store fails; then the owner is called again after a restart, which does no harm.
    pub async fn delivered(&self, id: &str, epoch: u64) -> Result<(), Error> {
        let change = {
            let mut inner = self.inner();
            let Some(view) = inner.views.get_mut(id).filter(|view| view.epoch == epoch) else {
                return Ok(());
            };
            let known = std::mem::replace(&mut view.taken, true);
            let change = Change::View(id.to_owned(), Some(view.clone()));
            inner.undelivered.remove(id);
            if known {
                return Ok(());
            }
            change
        };
        self.store.keep_soon(vec![change]).await
    }

    /// Takes back a placement that its owner refused: what was before holds again. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn take_back(&self, id: &str, placed: &Placed) -> Result<(), Error> {
        let change = {
            let mut inner = self.inner();
            if inner.views.get(id).is_none_or(|view| view.epoch != placed.view.epoch) {
                return Ok(());
            }
            inner.undelivered.remove(id);
            match placed.before.clone().filter(|before| before.epoch == placed.view.epoch) {
                Some(before) => {
                    inner.views.insert(id.to_owned(), before.clone());
                    Change::View(id.to_owned(), Some(before))
                }
                None => {
                    inner.views.remove(id);
                    Change::View(id.to_owned(), None)
                }
            }
        };
        self.store.keep(vec![change]).await
    }

    /// Removes a view; returns what it was and where its owner is reached. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove(&self, id: &str) -> Result<Option<(View, Option<String>)>, Error> {
        let removed = {
            let mut inner = self.inner();
            inner.undelivered.remove(id);
            inner.views.remove(id).map(|view| {
                let url = inner.members.get(&view.ssp_id);
                (view.clone(), url.map(|member| member.registration.url.clone()))
            })
        };
        if removed.is_some() {
            self.store.keep(vec![Change::View(id.to_owned(), None)]).await?;
        }
        Ok(removed)
    }

    /// Gives views of SSPs that are not alive to others, with higher epochs. Durable on return. Returns
    /// how many.
    ///
    /// # Errors
    /// The store fails.
    pub async fn reassign(&self) -> Result<usize, Error> {
        let mut changes = Vec::new();
        {
            let mut inner = self.inner();
            let orphans: Vec<String> = inner
                .views
                .iter()
                .filter(|(_, view)| !inner.is_alive(&view.ssp_id))
                .map(|(id, _)| id.clone())
                .collect();
            for id in orphans {
                let Some(ssp_id) = inner.choose(self.balance) else { break };
                let epoch = inner.next_epoch();
                let Some(view) = inner.views.get_mut(&id) else { continue };
                tracing::info!(view = id, from = view.ssp_id, to = ssp_id, epoch, "view moves");
                (view.ssp_id, view.epoch, view.taken) = (ssp_id, epoch, false);
                view.assigned_at = unix_seconds();
                changes.push(Change::View(id.clone(), Some(view.clone())));
                inner.undelivered.insert(id);
            }
            if !changes.is_empty() {
                changes.push(Change::Meta(inner.meta.clone()));
            }
        }
        if changes.is_empty() {
            return Ok(0);
        }
        let count = changes.len() - 1;
        self.store.keep(changes).await?;
        Ok(count)
    }

    /// Views that a ready owner does not know of yet, with where it is reached.
    #[must_use]
    pub fn undelivered(&self) -> Vec<(String, View, String)> {
        let inner = self.inner();
        let known = inner.undelivered.iter().filter_map(|id| {
            let view = inner.views.get(id)?;
            let owner = inner.members.get(&view.ssp_id)?;
            (owner.stage == Stage::Ready)
                .then(|| (id.clone(), view.clone(), owner.registration.url.clone()))
        });
        known.collect()
    }

    /// All SSPs by id.
    #[must_use]
    pub fn members(&self) -> BTreeMap<String, Member> {
        self.inner().members.clone()
    }

    /// All views by id.
    #[must_use]
    pub fn views(&self) -> BTreeMap<String, View> {
        self.inner().views.clone()
    }

    /// The number of views by SSP.
    #[must_use]
    pub fn view_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for view in self.inner().views.values() {
            *counts.entry(view.ssp_id.clone()).or_default() += 1;
        }
        counts
    }

    /// Changes the facts of which there is one. Durable on return.
    ///
    /// # Errors
    /// The store fails.
    pub async fn note(&self, change: impl FnOnce(&mut Meta)) -> Result<(), Error> {
        let meta = {
            let mut inner = self.inner();
            change(&mut inner.meta);
            inner.meta.clone()
        };
        self.store.keep(vec![Change::Meta(meta)]).await
    }
}

impl Inner {
    /// Higher than every epoch before, also if the state was lost: then the clock speaks for it.
    fn next_epoch(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = u64::try_from(now.as_millis()).unwrap_or(0);
        self.meta.last_epoch = (self.meta.last_epoch + 1).max(clock);
        self.meta.last_epoch
    }

    fn admitted(&mut self, ssp_id: &str, epoch: Option<u64>) -> Result<&mut Member, Turned> {
        let member = self.members.get_mut(ssp_id).ok_or(Turned::Unknown)?;
        if epoch.is_some_and(|epoch| epoch != member.registration.epoch) {
            return Err(Turned::Fenced);
        }
        if member.resync {
            return Err(Turned::Resync);
        }
        if member.registration.lapsed {
            return Err(Turned::Lapsed);
        }
        Ok(member)
    }

    fn is_alive(&self, ssp_id: &str) -> bool {
        let stage = self.members.get(ssp_id).map(|member| member.stage);
        !matches!(stage, None | Some(Stage::Stale | Stage::Lapsed))
    }

    fn views_of(&self, ssp_id: &str) -> Vec<(String, View)> {
        let owned = self.views.iter().filter(|(_, view)| view.ssp_id == ssp_id);
        owned.map(|(id, view)| (id.clone(), view.clone())).collect()
    }

    fn choose(&mut self, balance: Balance) -> Option<String> {
        let ready = self.members.iter().filter(|(_, member)| member.stage == Stage::Ready);
        let candidates: Vec<Candidate> = ready
            .map(|(id, member)| Candidate {
                ssp_id: id.clone(),
                views: self.views.values().filter(|view| view.ssp_id == *id).count(),
                load: member.load(),
            })
            .collect();
        let chosen = choose(balance, &candidates, self.last_chosen.as_deref())?.ssp_id.clone();
        self.last_chosen = Some(chosen.clone());
        Some(chosen)
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
