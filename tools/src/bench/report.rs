//! What was reached, next to what is due.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::edge::Lane;
use super::throughput::Throughput;
use crate::out::Out;

/// Durable appends per second of 64 callers, in those of one caller's raw write and sync: the least.
const APPENDS_LEAST: f64 = 20.0;

/// The median from write to edge without a throttle, in medians of SurrealDB's commit: the most.
const TO_COMMIT_MOST: f64 = 10.0;

/// What the log's bench printed.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Appends {
    /// Raw writes and syncs per second, before, between and after.
    floor_per_s: Vec<f64>,
    /// Whether the floor held still; otherwise the run says nothing.
    steady: bool,
    callers_1: Callers,
    callers_64: Callers,
}

#[derive(Debug, Deserialize, Serialize)]
struct Callers {
    appends_per_s: f64,
    to_floor: f64,
}

/// Everything that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    show: &'static str,
    pub(super) pass: bool,
    /// The disk's own speed changed under the run: it says nothing, and is no pass.
    void: bool,
    /// What was missed, in words.
    missed: Vec<String>,
    appends: Appends,
    write_to_edge: Vec<Lane>,
    demo: Throughput,
}

impl Report {
    pub(super) fn new(appends: Appends, write_to_edge: Vec<Lane>, demo: Throughput) -> Self {
        let mut missed = Vec::new();
        if !appends.steady {
            missed.push(format!("the floor moved: {:?} per second", appends.floor_per_s));
        }
        if appends.callers_64.to_floor < APPENDS_LEAST {
            missed.push(format!("64 callers reach less than {APPENDS_LEAST} floors"));
        }
        for lane in &write_to_edge {
            if (lane.seen, lane.stored) != (lane.writes, lane.writes) {
                missed.push(format!(
                    "of {} writes with throttle {} ms the edges of {} were seen and {} are stored",
                    lane.writes, lane.throttle_ms, lane.seen, lane.stored
                ));
            }
            if lane.throttle_ms == 0 && lane.to_commit > TO_COMMIT_MOST {
                missed.push(format!("write to edge takes more than {TO_COMMIT_MOST} commits"));
            }
        }
        if !demo.pass {
            missed.push("the demo found something wrong".into());
        }
        let void = !appends.steady;
        let pass = missed.is_empty();
        Self { show: "bench", pass, void, missed, appends, write_to_edge, demo }
    }

    /// A short table, then one line of JSON.
    pub(super) fn print(&self) -> Result<()> {
        let mut out = Out::new();
        let Appends { floor_per_s, callers_1, callers_64, .. } = &self.appends;
        let floor = floor_per_s.iter().sum::<f64>() / floor_per_s.len().max(1) as f64;
        out.line(format_args!(
            "appends/s      raw floor {floor:.0}; 1 caller {:.0} ({:.2} floors); 64 callers {:.0} ({:.1} \
             floors, due {APPENDS_LEAST:.0})",
            callers_1.appends_per_s,
            callers_1.to_floor,
            callers_64.appends_per_s,
            callers_64.to_floor
        ))?;
        for lane in &self.write_to_edge {
            out.line(format_args!(
                "write to edge  throttle {:>3} ms: p50 {:.2} ms, p99 {:.2} ms ({:.1} commits{}); {} of {} \
                 edges seen",
                lane.throttle_ms,
                lane.edge.p50,
                lane.edge.p99,
                lane.to_commit,
                if lane.throttle_ms == 0 { ", at most 10 due" } else { "" },
                lane.seen,
                lane.writes
            ))?;
            out.line(format_args!(
                "commit         SurrealDB alone: p50 {:.2} ms, p99 {:.2} ms; beside the pipeline: p50 {:.2} ms, \
                 p99 {:.2} ms",
                lane.commit.p50, lane.commit.p99, lane.commit_beside.p50, lane.commit_beside.p99
            ))?;
        }
        out.line(format_args!(
            "demo           {:.0} transactions/s, {} transactions with {} writers",
            self.demo.transactions_per_second, self.demo.transactions, self.demo.writers
        ))?;
        for missed in &self.missed {
            out.line(format_args!("  ! {missed}"))?;
        }
        out.json(self)?;
        out.flush()?;
        Ok(())
    }
}
