//! What decides: ratios within one run, memory, and correctness.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::memory;
use crate::peer::Peer;
use crate::rig::{Rig, view_name};
use crate::run::{Times, opened};
use crate::workload::{Kind, Workload};

/// Cost of a change with [`Scale::many`] views that it does not concern, against [`FEW`].
const FLAT_MOST: f64 = 1.5;
const FEW: u64 = 1_000;
/// Numbers of views that are beside the workload's own begin here.
const BESIDE: u64 = 1_000_000;
/// Changes in one round, and rounds, of which the median ratio counts.
const ROUND: usize = 1_000;
const ROUNDS: usize = 9;
/// How much faster than the peer on W1, and at which size.
const PEER_LEAST: f64 = 5.0;
const PEER_VIEWS: u64 = 10_000;
const PEER_ROWS: u64 = 100_000;
/// Changes in one round, and rounds, of which the median ratio counts.
const PEER_CHANGES: u64 = 10_000;
const PEER_ROUNDS: usize = 15;
/// Microseconds per change that upstream needs at 10,000 views with an equality filter, the lower end of
/// what was measured (143 to 237 ms).
const UPSTREAM_MICROS: f64 = 143_000.0;
const UPSTREAM_LEAST: f64 = 100.0;
/// Bytes of a view, beyond shared indexes.
const EQUAL_BYTES_MOST: f64 = 300.0;
const WINDOW_BYTES_MOST: f64 = 500.0;
/// Bytes that may stay of each: rounding of tables that have shrunk.
const RESIDUE_MOST: f64 = 1.0;
/// Identical queries that are to cost one: as much work, and as much time where nothing is written.
const COPIES: u64 = 10;

/// How much of everything.
pub(crate) struct Scale {
    many: u64,
    /// Views whose memory is measured.
    memory_views: u64,
    /// Views that come and go, beside [`FEW`] that stay.
    passing: u64,
}

impl Scale {
    pub(crate) const FULL: Self = Self { many: 1_000_000, memory_views: 50_000, passing: 100_000 };
    pub(crate) const QUICK: Self = Self { many: 100_000, memory_views: 20_000, passing: 20_000 };
}

/// A figure with its bound.
pub(crate) struct Verdict {
    what: String,
    figure: f64,
    bound: f64,
    pub(crate) pass: bool,
    note: String,
}

impl Verdict {
    fn most(what: impl Into<String>, figure: f64, bound: f64, note: String) -> Self {
        Self { what: what.into(), figure, bound, pass: figure <= bound, note }.print("<=")
    }

    fn least(what: impl Into<String>, figure: f64, bound: f64, note: String) -> Self {
        Self { what: what.into(), figure, bound, pass: figure >= bound, note }.print(">=")
    }

    fn failed(what: impl Into<String>, reason: String) -> Self {
        let (figure, bound) = (f64::NAN, f64::NAN);
        Self { what: what.into(), figure, bound, pass: false, note: reason }.print("no number:")
    }

    fn print(self, sign: &str) -> Self {
        let word = if self.pass { "pass" } else { "FAIL" };
        let Self { what, figure, bound, note, .. } = &self;
        println!("{word} {what:<44} {figure:>10.2} {sign} {bound:<6} {note}");
        self
    }

    pub(crate) fn json(&self) -> Json {
        json!({
            "what": self.what, "pass": self.pass, "figure": self.figure, "bound": self.bound,
            "note": self.note,
        })
    }
}

/// Everything that is wanted.
pub(crate) fn all(scale: &Scale, wants: impl Fn(&str) -> bool) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if wants("flat") {
        let kinds = [Kind::Equal, Kind::Window, Kind::Above, Kind::Contains, Kind::Nested];
        verdicts.extend(kinds.into_iter().map(|kind| flat(kind, scale.many)));
    }
    if wants("memory") {
        verdicts.push(bytes_per_view(Kind::Equal, scale.memory_views, EQUAL_BYTES_MOST));
        verdicts.push(bytes_per_view(Kind::Window, scale.memory_views, WINDOW_BYTES_MOST));
        let kinds = [Kind::Equal, Kind::Window, Kind::Nested, Kind::Above];
        verdicts.extend(kinds.map(|kind| residue(kind, scale.passing)));
    }
    if wants("same") {
        verdicts.extend(copies());
    }
    if wants("peer") {
        verdicts.extend(against_others());
    }
    verdicts
}

fn checked(what: &str, rigs: &[&Rig]) -> Result<(), Verdict> {
    rigs.iter()
        .try_for_each(|rig| rig.check().map(drop))
        .map_err(|error| Verdict::failed(what, error))
}

/// Cost of the same changes over the same rows, with few and with many views that none of them concerns.
fn flat(kind: Kind, many_idle: u64) -> Verdict {
    let what = format!("flat: {}, {many_idle} idle views to {FEW}", kind.name());
    let rigged = |idle: u64| {
        let mut workload = Workload::new(kind, FEW);
        let (mut rig, _) = opened(&mut workload, 64);
        for view in 0..idle {
            let query = workload.template.query(workload.bind(BESIDE + view));
            rig.open(&view_name(BESIDE + view), &query, view.is_multiple_of(idle / 4));
        }
        (workload, rig)
    };
    let ((mut few, mut few_rig), (mut many, mut many_rig)) = (rigged(FEW), rigged(many_idle));
    let round = |workload: &mut Workload, rig: &mut Rig| -> Duration {
        (0..ROUND).map(|_| rig.apply(vec![workload.change()])).sum()
    };
    let mut ratios = Vec::new();
    let mut nanos = (0, 0);
    for number in 0..=ROUNDS {
        let one = round(&mut few, &mut few_rig).as_nanos();
        let other = round(&mut many, &mut many_rig).as_nanos();
        // The first round warms up.
        if number > 0 {
            ratios.push(other as f64 / one as f64);
            nanos = (nanos.0 + one, nanos.1 + other);
        }
    }
    if let Err(failed) = checked(&what, &[&few_rig, &many_rig]) {
        return failed;
    }
    let micros = |nanos: u128| nanos as f64 / 1e3 / (ROUND * ROUNDS) as f64;
    let note = format!("{:.2} us to {:.2} us per change", micros(nanos.1), micros(nanos.0));
    Verdict::most(what, median(ratios), FLAT_MOST, note)
}

/// Bytes that a further view takes, where one of its kind is there, and with it the shared index.
fn bytes_per_view(kind: Kind, views: u64, most: f64) -> Verdict {
    let what = format!("memory: bytes per view, {}", kind.name());
    let mut workload = Workload::new(kind, views);
    let mut rig = Rig::default();
    for (table, rows) in workload.rows() {
        rig.load(table, rows.into_iter());
    }
    let query = |workload: &Workload, view| workload.template.query(workload.bind(view));
    rig.open(&view_name(0), &query(&workload, 0), true);
    let before = memory::bytes();
    for view in 1..views {
        rig.open(&view_name(view), &query(&workload, view), false);
    }
    let bytes = (memory::bytes() - before) as f64 / (views - 1) as f64;
    if let Err(failed) = checked(&what, &[&rig]) {
        return failed;
    }
    let rows = rig.engine.row_count(&view_name(1));
    Verdict::most(what, bytes, most, format!("{rows} rows in each, a name of 32 bytes included"))
}

/// Bytes that are left of each view that came and went.
fn residue(kind: Kind, passing: u64) -> Verdict {
    let what = format!("memory: bytes left per dropped view, {}", kind.name());
    let mut workload = Workload::new(kind, FEW);
    let (mut rig, _) = opened(&mut workload, 16);
    let before = memory::bytes();
    for view in 0..passing {
        let query = workload.template.query(workload.bind(view));
        rig.open(&view_name(BESIDE + view), &query, false);
    }
    let held = memory::bytes() - before;
    for view in 0..passing {
        rig.close(&view_name(BESIDE + view));
    }
    let left = (memory::bytes() - before) as f64 / passing as f64;
    if let Err(failed) = checked(&what, &[&rig]) {
        return failed;
    }
    let note = format!("{passing} views held {:.1} MB", held as f64 / 1e6);
    Verdict::most(what, left, RESIDUE_MOST, note)
}

/// What the engine does, with ten of each query against one of each: work by count, and time over the changes
/// that no view shows. Where views show a change, each of the ten has its edges written.
fn copies() -> Vec<Verdict> {
    let what = |of: &str| format!("{COPIES} identical queries to one: {of}");
    let rigged = |copies: u64| {
        let mut workload = Workload::new(Kind::Window, FEW);
        let (mut rig, _) = opened(&mut workload, 16);
        let before = memory::bytes();
        for view in (0..FEW).flat_map(|view| (1..copies).map(move |copy| view + copy * FEW)) {
            let query = workload.template.query(workload.bind(view % FEW));
            rig.open(&view_name(view), &query, false);
        }
        (workload, rig, memory::bytes() - before)
    };
    let ((mut one, mut one_rig, _), (mut ten, mut ten_rig, bytes)) = (rigged(1), rigged(COPIES));
    let (mut silent, mut shown) = (<[Times; 2]>::default(), <[Times; 2]>::default());
    for _ in 0..ROUND * ROUNDS {
        let written = ten_rig.writes;
        let took = [one_rig.apply(vec![one.change()]), ten_rig.apply(vec![ten.change()])];
        let times = if ten_rig.writes == written { &mut silent } else { &mut shown };
        times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
    }
    if let Err(failed) = checked(&what("work"), &[&one_rig, &ten_rig]) {
        return vec![failed];
    }
    let work = |rig: &Rig| {
        let (size, cost) = (rig.engine.size(), rig.engine.cost(&view_name(0)));
        let counts =
            [size.groups, size.blocks, size.sources, size.entries].map(|count| count as f64);
        let costs = [cost.changes, cost.candidates, cost.concerned, cost.windows_read];
        [counts, costs.map(|count| count as f64)].concat()
    };
    let ratios = work(&ten_rig).into_iter().zip(work(&one_rig)).map(|(ten, one)| ten / one);
    let note = format!(
        "groups, index entries, candidates, windows read; {:.0} bytes for each further copy",
        bytes as f64 / ((COPIES - 1) * FEW) as f64,
    );
    let counted = Verdict::most(what("work"), ratios.fold(0.0, f64::max), 1.0, note);
    let note = format!(
        "{:.2} us to {:.2} us; of a change that views show {:.2} us to {:.2} us, for {:.1} and {:.1} edges",
        silent[1].permille(500),
        silent[0].permille(500),
        shown[1].mean(),
        shown[0].mean(),
        ten_rig.writes as f64 / shown[1].count() as f64,
        one_rig.writes as f64 / shown[0].count() as f64,
    );
    let ratio = silent[1].permille(500) / silent[0].permille(500);
    vec![
        counted,
        Verdict::most(what("time of a change that shows nowhere"), ratio, FLAT_MOST, note),
    ]
}

/// W1 next to the peer, and to what upstream published. Engine and peer take the same changes in turns, so
/// that a noisy moment of the machine makes one round of one side slow, not the figure.
fn against_others() -> Vec<Verdict> {
    let what = format!("W1 at {PEER_VIEWS} views");
    match rounds_with_peer() {
        Err(reason) => vec![Verdict::failed(what, reason)],
        Ok(rounds) => {
            let (ours, theirs) = rounds.into_iter().unzip::<f64, f64, Vec<_>, Vec<_>>();
            let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| theirs / ours).collect();
            let upstream = Verdict::least(
                format!("{what}: upstream's published cost to ours"),
                UPSTREAM_MICROS / median(ours.clone()),
                UPSTREAM_LEAST,
                format!("{} us per change", spread(ours.clone())),
            );
            let note = format!(
                "{} us to {} us per change, {PEER_ROUNDS} rounds in turns, ratios {}",
                spread(theirs),
                spread(ours),
                spread(Vec::clone(&ratios)),
            );
            let what = format!("{what}: differential-dataflow's cost to ours");
            vec![upstream, Verdict::least(what, median(ratios), PEER_LEAST, note)]
        }
    }
}

/// Microseconds per change of the engine and of the peer, round by round.
fn rounds_with_peer() -> Result<Vec<(f64, f64)>, String> {
    let mut workload = Workload::new(Kind::Equal, PEER_VIEWS);
    let (mut rig, _) = opened(&mut workload, 64);
    let mut peer = Peer::start(PEER_VIEWS, PEER_ROWS)?;
    let mut rounds = Vec::new();
    for _ in 0..PEER_ROUNDS {
        let mut times = Times::default();
        for _ in 0..PEER_CHANGES {
            times.push(rig.apply(vec![workload.change()]));
        }
        let round = peer.round(PEER_CHANGES)?;
        let pairs: u64 = (0..PEER_VIEWS).map(|view| rig.engine.row_count(&view_name(view))).sum();
        if round.pairs != pairs {
            return Err(format!("the peer has {} rows in views, the engine {pairs}", round.pairs));
        }
        rounds.push((times.mean(), round.micros));
    }
    rig.check()?;
    Ok(rounds)
}

/// The median, and between what the figures lie.
fn spread(figures: Vec<f64>) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(figures))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
