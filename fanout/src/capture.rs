//! The capture loop: reads the feed again and again with overlap, and hands what it reads to the
//! [`Journal`], which appends what is new.
//!
//! A change may become visible after a later one was read. So nothing is read only once: after a doorbell
//! the last moments are read again, and sweeps go over the last seconds and over the whole window.
//!
//! A sweep of the whole window begins one window before where the source stood when the sweep before it
//! began: what became visible after that one had gone by is read by this one, however long either takes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use revenant_log::ErrorKind;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::journal::Journal;
use crate::source::{Source, SourceError};
use crate::tables::Tables;

/// When the feed is read after a doorbell, milliseconds. It rings before the commit is visible.
const BURST_MS: [u64; 7] = [0, 1, 2, 5, 10, 20, 40];

/// What a read after a doorbell goes over again: changes were seen up to 42 ms late.
const BURST_SPAN: Duration = Duration::from_millis(60);

/// Between two sweeps of the last [`SHORT_SPAN`].
const SHORT_EVERY: Duration = Duration::from_millis(250);

/// What a short sweep goes over.
const SHORT_SPAN: Duration = Duration::from_secs(2);

/// Between two sweeps of the whole window; half a window if that is less.
const LONG_EVERY: Duration = Duration::from_secs(5);

/// Windows that are read again after a start or a failure: what the journal surely knows. So a change is
/// not lost if the last sweep of the whole window began within two windows.
const START_WINDOWS: i64 = 3;

/// A sweep is followed by a rest of at least this many times as long, so that it cannot take over the
/// database.
const SWEEP_REST: u32 = 3;

/// Wait before the source is asked again after it failed; doubled up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_millis(100);

/// Longest wait.
const RETRY_MOST: Duration = Duration::from_secs(2);

/// How the capture is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the feed cannot be read now; `None` when it can.
    pub trouble: Option<String>,
    /// Whether the feed was read up to its end since the start.
    pub caught_up: bool,
    /// Passes that reached the feed's end.
    pub passes: u64,
    /// Of these, sweeps of the whole window.
    pub sweeps: u64,
    /// How often the feed no longer reached back, so that rows had to be compared.
    pub gaps: u64,
}

/// Rings when something changed at the source, or is about to.
#[derive(Clone, Debug, Default)]
pub struct Doorbell(Arc<Notify>);

impl Doorbell {
    /// Rings.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    fn rang(&self) -> bool {
        self.0.notified().now_or_never().is_some()
    }
}

/// Waits for the capture from outside.
#[derive(Clone)]
pub struct Passes {
    doorbell: Doorbell,
    health: watch::Receiver<Health>,
}

impl Passes {
    /// Returns when everything that is visible in the feed now is in the log, late changes excepted.
    pub async fn whole(&self) {
        let mut health = self.health.clone();
        let begun = health.borrow_and_update().passes;
        self.doorbell.ring();
        // The pass that is under way may have begun before now; the one after it has not.
        if health.wait_for(|health| health.passes >= begun + 2).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What is read, and where it goes.
pub struct Capture {
    source: Arc<dyn Source>,
    journal: Arc<Journal>,
    tables: Arc<Tables>,
    window: Duration,
    doorbell: Doorbell,
    health: watch::Sender<Health>,
}

/// One going over a part of the feed, from somewhere to its end.
struct Pass {
    from: Place,
    kind: Kind,
    begun: Instant,
    /// The newest commit known when it began.
    newest_us: i64,
    /// The source's clock showed at least this when it began.
    reached_us: i64,
}

#[derive(Clone, Copy)]
enum Place {
    Time(i64),
    Versionstamp(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Burst,
    Short,
    Long,
}

/// When what is due.
struct Schedule {
    rung: Instant,
    bursts: usize,
    short: Instant,
    long: Instant,
    long_every: Duration,
}

impl Schedule {
    fn new(now: Instant, window: Duration) -> Self {
        let long_every = LONG_EVERY.min(window / 2);
        let (short, long) = (now + SHORT_EVERY, now + long_every);
        Self { rung: now, bursts: BURST_MS.len(), short, long, long_every }
    }

    fn ring(&mut self) {
        (self.rung, self.bursts) = (Instant::now(), 0);
    }

    fn burst(&self) -> Option<Instant> {
        BURST_MS.get(self.bursts).map(|after| self.rung + Duration::from_millis(*after))
    }

    fn take_burst(&mut self) -> bool {
        let due = self.burst().is_some_and(|at| at <= Instant::now());
        self.bursts += usize::from(due);
        due
    }

    fn sweep(&self) -> Option<Kind> {
        let now = Instant::now();
        if self.long <= now { Some(Kind::Long) } else { (self.short <= now).then_some(Kind::Short) }
    }

    fn next(&self) -> Instant {
        let sweep = self.short.min(self.long);
        self.burst().map_or(sweep, |burst| burst.min(sweep))
    }

    fn swept(&mut self, kind: Kind, took: Duration) {
        let now = Instant::now();
        let rest = took * SWEEP_REST;
        self.short = now + SHORT_EVERY.max(rest);
        if kind == Kind::Long {
            self.long = now + self.long_every.max(rest);
        }
    }
}

impl Capture {
    /// What captures from `source` into `journal`. `window` is at least as long as a commit may take to
    /// become visible.
    #[must_use]
    pub fn new(
        source: Arc<dyn Source>,
        journal: Arc<Journal>,
        tables: Arc<Tables>,
        window: Duration,
    ) -> Self {
        let health = watch::Sender::new(Health::default());
        Self { source, journal, tables, window, doorbell: Doorbell::default(), health }
    }

    /// Its doorbell.
    #[must_use]
    pub fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Waits for it.
    #[must_use]
    pub fn passes(&self) -> Passes {
        Passes { doorbell: self.doorbell(), health: self.health() }
    }

    /// Captures until `stop`. A log without changes begins one window before `begun_us`.
    ///
    /// # Errors
    /// The log or the state store refuses for good.
    pub async fn run(&self, begun_us: i64, stop: &CancellationToken) -> Result<(), Error> {
        let mut retry = RETRY_LEAST;
        let mut leapt_us = None;
        loop {
            let passes = self.health.borrow().passes;
            let error = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                error = self.follow(begun_us, leapt_us) => error,
            };
            if self.health.borrow().passes > passes {
                retry = RETRY_LEAST;
            }
            self.trouble(&error);
            leapt_us = None;
            match error {
                Error::Source(SourceError::Lost(_)) => leapt_us = self.leap().await?,
                Error::Source(_) => {}
                Error::Log(error) if error.kind() == ErrorKind::Retry => {}
                error => return Err(error),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(retry) => retry = (retry * 2).min(RETRY_MOST),
            }
        }
    }

    /// Rings the doorbell whenever the source says that something changed.
    pub async fn listen(&self, stop: &CancellationToken) {
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = self.source.wait_doorbell() => heard,
            };
            match heard {
                Ok(()) => self.doorbell.ring(),
                Err(error) => {
                    tracing::debug!(%error, "the source's doorbell is silent; sweeps go on");
                    sleep(RETRY_MOST).await;
                }
            }
        }
    }

    /// Reads until something fails. `leapt_us`: what is older was given up.
    async fn follow(&self, begun_us: i64, leapt_us: Option<i64>) -> Error {
        let mut due = Schedule::new(Instant::now(), self.window);
        // What was missed while nobody read comes first, up to the feed's end, and alone.
        let mut sweep = Some(self.first_pass(begun_us, leapt_us));
        let mut swept_us = None;
        let mut moved = Instant::now();
        // Under a steady load a burst is always due: a sweep has its turn after each, of as many pages.
        let mut turn = 0;
        loop {
            if self.doorbell.rang() {
                due.ring();
            }
            let high = self.journal.position().high;
            turn = if sweep.is_some() || due.sweep().is_some() { turn } else { 0 };
            let done = if let Some(swept_us) = swept_us.filter(|_| turn == 0 && due.take_burst()) {
                let mut burst = self.pass(Kind::Burst, begun_us, moved.elapsed(), swept_us);
                self.to_the_end(&mut burst).await.map(|pages| turn = pages)
            } else if let Some(pass) = &mut sweep {
                turn = turn.saturating_sub(1);
                match self.step(pass).await {
                    Ok(true) => {
                        self.swept(pass, &mut due).await;
                        if pass.kind == Kind::Long {
                            swept_us = Some(pass.reached_us);
                        }
                        sweep = None;
                        Ok(())
                    }
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                }
            } else if let Some((kind, swept_us)) = due.sweep().zip(swept_us) {
                sweep = Some(self.pass(kind, begun_us, moved.elapsed(), swept_us));
                Ok(())
            } else {
                tokio::select! {
                    () = self.doorbell.0.notified() => due.ring(),
                    () = sleep_until(due.next()) => {}
                }
                Ok(())
            };
            if let Err(error) = done {
                return error;
            }
            if self.journal.position().high > high {
                moved = Instant::now();
            }
        }
    }

    /// The pass after a start or a failure.
    fn first_pass(&self, begun_us: i64, leapt_us: Option<i64>) -> Pass {
        let window_us = micros(self.window);
        let known_us = self.journal.position().newest_us;
        let newest_us = known_us.unwrap_or(begun_us);
        let windows = if known_us.is_none() || leapt_us.is_some() { 1 } else { START_WINDOWS };
        let from = Place::Time(newest_us.saturating_sub(windows * window_us));
        Pass { from, kind: Kind::Long, begun: Instant::now(), newest_us, reached_us: newest_us }
    }

    /// A pass over the last part of the feed: `idle` is how long nothing came, `swept_us` where the source
    /// stood when the last sweep of the whole window began. The newest commit known is always read again.
    fn pass(&self, kind: Kind, begun_us: i64, idle: Duration, swept_us: i64) -> Pass {
        let newest_us = self.journal.position().newest_us.unwrap_or(begun_us);
        let reached_us = newest_us.saturating_add(micros(idle));
        let from_us = match kind {
            Kind::Burst => reached_us.saturating_sub(micros(BURST_SPAN)),
            Kind::Short => reached_us.saturating_sub(micros(SHORT_SPAN.min(self.window))),
            Kind::Long => swept_us.saturating_sub(micros(self.window)),
        };
        let from = Place::Time(from_us.min(newest_us));
        Pass { from, kind, begun: Instant::now(), newest_us, reached_us }
    }

    /// Returns how many pages there were.
    async fn to_the_end(&self, pass: &mut Pass) -> Result<usize, Error> {
        let mut pages = 1;
        while !self.step(pass).await? {
            pages += 1;
        }
        Ok(pages)
    }

    /// Reads one page; whether it was the last.
    async fn step(&self, pass: &mut Pass) -> Result<bool, Error> {
        let page = match pass.from {
            Place::Time(time_us) => self.source.changes_since_time(time_us).await?,
            Place::Versionstamp(versionstamp) => self.source.changes_from(versionstamp).await?,
        };
        let news = self.journal.admit(page.transactions).await?;
        if page.schema_changed && news {
            self.tables.look();
        }
        if self.health.borrow().trouble.is_some() {
            tracing::info!("the feed is read again");
        }
        let done = page.next.is_none();
        self.health.send_modify(|health| {
            health.trouble = None;
            health.passes += u64::from(done);
        });
        if let Some(next) = page.next {
            pass.from = Place::Versionstamp(next);
        }
        Ok(done)
    }

    /// Notes a finished sweep.
    async fn swept(&self, pass: &Pass, due: &mut Schedule) {
        due.swept(pass.kind, pass.begun.elapsed());
        if pass.kind == Kind::Long {
            // The next sweep begins at most one window before what was newest when this one began; the pass
            // after a failure, the farthest there is, `START_WINDOWS` before what is newest then.
            let known_us = START_WINDOWS * micros(self.window);
            self.journal.forget(pass.newest_us.saturating_sub(known_us)).await;
            self.health.send_modify(|health| {
                health.sweeps += 1;
                health.caught_up = true;
            });
        }
    }

    /// Goes on at the feed's present end, after noting durably that rows have to be compared. Returns where
    /// that is, unless the source does not say.
    async fn leap(&self) -> Result<Option<i64>, Error> {
        match self.source.now().await {
            Ok(now) => {
                tracing::error!("changes are missing from the feed: all rows will be compared");
                self.tables.compare_all().await?;
                self.journal.leap(now.time_us).await;
                self.health.send_modify(|health| health.gaps += 1);
                Ok(Some(now.time_us))
            }
            Err(error) => {
                tracing::warn!(%error, "the source's clock cannot be read");
                Ok(None)
            }
        }
    }

    fn trouble(&self, error: &Error) {
        let text = error.to_string();
        if self.health.borrow().trouble.as_ref() != Some(&text) {
            tracing::warn!(%error, "the feed cannot be read now");
        }
        self.health.send_modify(|health| health.trouble = Some(text));
    }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
