//! What decides: ratios within one run, memory, and correctness.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::memory;
use crate::peer;
use crate::rig::{Rig, view_name};
use crate::run::{Times, opened};
use crate::workload::{Kind, Workload};

/// Cost of a change with [`MANY`] views that it does not concern, against [`FEW`].
const FLAT_MOST: f64 = 1.5;
const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;
/// Changes in one round, and rounds, of which the median ratio counts.
const ROUND: usize = 1_000;
const ROUNDS: usize = 9;
/// How much faster than the peer on W1, and at which size.
const PEER_LEAST: f64 = 5.0;
const PEER_VIEWS: u64 = 10_000;
const PEER_ROWS: u64 = 100_000;
const PEER_CHANGES: u64 = 20_000;
/// Microseconds per change that upstream needs at 10,000 views with an equality filter, the lower end of
/// what was measured (143 to 237 ms).
const UPSTREAM_MICROS: f64 = 143_000.0;
const UPSTREAM_LEAST: f64 = 100.0;
/// Bytes of a view, beyond shared indexes.
const EQUAL_BYTES_MOST: f64 = 300.0;
const WINDOW_BYTES_MOST: f64 = 500.0;
/// Views whose memory is measured.
const MEMORY_VIEWS: u64 = 50_000;
/// Views that come and go, beside [`FEW`] that stay.
const PASSING: u64 = 100_000;
/// Bytes that may stay of each: rounding of tables that have shrunk.
const RESIDUE_MOST: f64 = 1.0;
/// Identical queries that are to cost one.
const COPIES: u64 = 10;

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
pub(crate) fn all(wants: impl Fn(&str) -> bool) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if wants("flat") {
        let kinds = [Kind::Equal, Kind::Window, Kind::Above, Kind::Contains, Kind::Nested];
        verdicts.extend(kinds.into_iter().map(flat));
    }
    if wants("memory") {
        verdicts.push(bytes_per_view(Kind::Equal, EQUAL_BYTES_MOST));
        verdicts.push(bytes_per_view(Kind::Window, WINDOW_BYTES_MOST));
        verdicts.extend([Kind::Equal, Kind::Window, Kind::Nested, Kind::Above].map(residue));
    }
    if wants("same") {
        verdicts.push(copies());
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
fn flat(kind: Kind) -> Verdict {
    let what = format!("flat: {}, {MANY} idle views to {FEW}", kind.name());
    let rigged = |idle: u64| {
        let mut workload = Workload::new(kind, FEW);
        let (mut rig, _) = opened(&mut workload, 64);
        for view in 0..idle {
            let query = workload.template.query(workload.bind(MANY + view));
            rig.open(&view_name(MANY + view), &query, view % (idle / 4) == 0);
        }
        (workload, rig)
    };
    let ((mut few, mut few_rig), (mut many, mut many_rig)) = (rigged(FEW), rigged(MANY));
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
fn bytes_per_view(kind: Kind, most: f64) -> Verdict {
    let what = format!("memory: bytes per view, {}", kind.name());
    let mut workload = Workload::new(kind, MEMORY_VIEWS);
    let mut rig = Rig::default();
    for (table, rows) in workload.rows() {
        rig.load(table, rows.into_iter());
    }
    let query = |workload: &Workload, view| workload.template.query(workload.bind(view));
    rig.open(&view_name(0), &query(&workload, 0), true);
    let before = memory::bytes();
    for view in 1..MEMORY_VIEWS {
        rig.open(&view_name(view), &query(&workload, view), false);
    }
    let bytes = (memory::bytes() - before) as f64 / (MEMORY_VIEWS - 1) as f64;
    if let Err(failed) = checked(&what, &[&rig]) {
        return failed;
    }
    let rows = rig.engine.row_count(&view_name(1));
    Verdict::most(what, bytes, most, format!("{rows} rows in each, a name of 32 bytes included"))
}

/// Bytes that are left of each view that came and went.
fn residue(kind: Kind) -> Verdict {
    let what = format!("memory: bytes left per dropped view, {}", kind.name());
    let mut workload = Workload::new(kind, FEW);
    let (mut rig, _) = opened(&mut workload, 16);
    let before = memory::bytes();
    for view in 0..PASSING {
        let query = workload.template.query(workload.bind(view));
        rig.open(&view_name(MANY + view), &query, false);
    }
    let held = memory::bytes() - before;
    for view in 0..PASSING {
        rig.close(&view_name(MANY + view));
    }
    let left = (memory::bytes() - before) as f64 / PASSING as f64;
    if let Err(failed) = checked(&what, &[&rig]) {
        return failed;
    }
    let note = format!("{PASSING} views held {:.1} MB", held as f64 / 1e6);
    Verdict::most(what, left, RESIDUE_MOST, note)
}

/// What the engine does to decide, with ten of each query against one of each.
fn copies() -> Verdict {
    let what = format!("{COPIES} identical queries cost one");
    let rigged = |copies: u64| {
        let mut workload = Workload::new(Kind::Window, FEW);
        let (mut rig, _) = opened(&mut workload, 16);
        for view in (0..FEW).flat_map(|view| (1..copies).map(move |copy| view + copy * FEW)) {
            let query = workload.template.query(workload.bind(view % FEW));
            rig.open(&view_name(view), &query, false);
        }
        (workload, rig)
    };
    let ((mut one, mut one_rig), (mut ten, mut ten_rig)) = (rigged(1), rigged(COPIES));
    let mut times = <[Times; 2]>::default();
    for _ in 0..ROUND * ROUNDS {
        times[0].push(one_rig.apply(vec![one.change()]));
        times[1].push(ten_rig.apply(vec![ten.change()]));
    }
    if let Err(failed) = checked(&what, &[&one_rig, &ten_rig]) {
        return failed;
    }
    let note = format!(
        "{:.2} us to {:.2} us per change, with {:.1} to {:.1} edges written",
        times[1].mean(),
        times[0].mean(),
        ten_rig.writes as f64 / (ROUND * ROUNDS) as f64,
        one_rig.writes as f64 / (ROUND * ROUNDS) as f64,
    );
    let groups = ten_rig.engine.size().groups as f64 / one_rig.engine.size().groups as f64;
    Verdict::most(what, groups, 1.0, note)
}

/// W1 next to the peer in the same minute, and to what upstream published.
fn against_others() -> Vec<Verdict> {
    let what = format!("W1 at {PEER_VIEWS} views");
    let mut workload = Workload::new(Kind::Equal, PEER_VIEWS);
    let (mut rig, _) = opened(&mut workload, 64);
    let mut times = Times::default();
    for _ in 0..PEER_CHANGES {
        times.push(rig.apply(vec![workload.change()]));
    }
    if let Err(failed) = checked(&what, &[&rig]) {
        return vec![failed];
    }
    let upstream = Verdict::least(
        format!("{what}: upstream's published cost to ours"),
        UPSTREAM_MICROS / times.mean(),
        UPSTREAM_LEAST,
        format!("{:.2} us per change", times.mean()),
    );
    let pairs: u64 = (0..PEER_VIEWS).map(|view| rig.engine.row_count(&view_name(view))).sum();
    let peer = match peer::run(PEER_VIEWS, PEER_ROWS, PEER_CHANGES) {
        Ok(peer) if peer.pairs != pairs => Verdict::failed(
            &what,
            format!("the peer has {} rows in views, the engine {pairs}", peer.pairs),
        ),
        Ok(peer) => Verdict::least(
            format!("{what}: differential-dataflow's cost to ours"),
            peer.micros / times.mean(),
            PEER_LEAST,
            format!("{:.2} us to {:.2} us per change", peer.micros, times.mean()),
        ),
        Err(reason) => Verdict::failed(&what, reason),
    };
    vec![upstream, peer]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
