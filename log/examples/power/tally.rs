//! What was found wrong, and how it is judged: from what a process said before it ended, and what its log holds then.

use std::path::Path;

use revenant_log::{Log, Seq, Witnesses, verify};
use serde_json::{Value, json};

use crate::child::sent;
use crate::model::{Model, Verdict, decode, small};

/// What was found wrong.
#[derive(Default)]
pub(crate) struct Tally {
    acknowledged: u64,
    lost: u64,
    invented: u64,
    reordered: u64,
    wrong: u64,
    refused: u64,
    hung: u64,
}

impl Tally {
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.invented + self.reordered + self.wrong + self.refused + self.hung == 0
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "invented": self.invented,
            "reordered": self.reordered,
            "wrong": self.wrong,
            "refused": self.refused,
            "hung": self.hung,
        })
    }

    /// A process that did not end.
    pub(crate) fn hung(&mut self, what: &str) {
        eprintln!("hung: {what}");
        self.hung += 1;
    }

    /// Judges the log in `dir` by what its process `told`; `what` was done to it.
    pub(crate) fn judge(&mut self, what: &str, dir: &Path, told: &str) {
        let model = model(told);
        self.acknowledged += model.acked as u64;
        let Err(verdict) = judge(dir, &model) else { return };
        eprintln!("{what}: {verdict}");
        *match verdict {
            Verdict::Lost(_) => &mut self.lost,
            Verdict::Invented(_) => &mut self.invented,
            Verdict::Reordered(_) => &mut self.reordered,
            Verdict::Wrong(_) => &mut self.wrong,
            Verdict::Refused(_) => &mut self.refused,
        } += 1;
    }
}

/// What was sent and acknowledged. A line that was cut off says nothing.
fn model(told: &str) -> Model {
    let mut model = Model::default();
    for line in told.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        match line.trim_end().split_once(' ') {
            Some(("send", number)) => model.submit(&[sent(number.parse().unwrap())]),
            Some(("ack", _)) => model.ack(),
            Some(("full", _)) => model.records.truncate(model.acked),
            _ => {}
        }
    }
    model
}

fn judge(dir: &Path, model: &Model) -> Result<(), Verdict> {
    let open = || Log::open(small(dir), Witnesses::none()).map_err(Verdict::Refused);
    let check = |log: &Log, model: &Model| {
        let read = |from: Seq| log.read(from, 1 << 20).map(|batch| decode(&batch));
        model.judge(read, log.first_seq(), log.durable_seq())
    };
    let (log, _) = open()?;
    let held = check(&log, model)?;
    // It goes on.
    let mut model = Model { acked: held, ..model.clone() };
    model.records.truncate(held);
    let next = sent(1_000_003);
    model.submit(std::slice::from_ref(&next));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.append(vec![next], None)).map_err(Verdict::Refused)?;
    model.ack();
    runtime.block_on(log.close()).map_err(Verdict::Refused)?;
    drop(log);
    check(&open()?.0, &model)?;
    let findings = verify(dir).map_err(Verdict::Refused)?.findings;
    if !findings.is_empty() {
        return Err(Verdict::Wrong(format!("{findings:?}")));
    }
    Ok(())
}
