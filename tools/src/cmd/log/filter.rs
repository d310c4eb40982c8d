//! Which of the records in a range are printed.

use anyhow::{Result, anyhow};
use revenant_log::{Op, ReadOnlyLog, Record, RecordId};

use super::range::{Range, Span};

/// Filters that every reading subcommand shares.
#[derive(clap::Args, Clone)]
pub(super) struct Filter {
    /// start, end, N, N:M, :N, N:, +N, -N, @T or @T1:T2 (Unix s or ms, 2026-01-31, RFC 3339, -1h).
    #[arg(allow_hyphen_values = true)]
    range: Option<Range>,
    /// From this seq on.
    #[arg(long, conflicts_with = "range")]
    from_seq: Option<u64>,
    /// Up to and with this seq.
    #[arg(long, conflicts_with = "range")]
    to_seq: Option<u64>,
    #[command(flatten)]
    only: Only,
}

/// Filters by what a record says.
#[derive(clap::Args, Clone)]
pub(super) struct Only {
    /// These tables.
    #[arg(long, value_delimiter = ',')]
    table: Vec<String>,
    /// This row, as SurrealQL writes it: person:ada, file:`a/b.rs`.
    #[arg(long, value_parser = id)]
    id: Option<RecordId>,
    /// These operations: create, update, delete, load, reconcile.
    #[arg(long, value_delimiter = ',', value_parser = op)]
    op: Vec<Op>,
}

impl Filter {
    /// The seqs that are asked for.
    pub(super) fn span(&self, log: &ReadOnlyLog) -> Span {
        let range = match &self.range {
            Some(range) => range.clone(),
            None => Range::Seqs(self.from_seq, self.to_seq),
        };
        range.within(log)
    }

    /// Whether `record` of `span` is asked for.
    pub(super) fn takes(&self, span: &Span, record: &Record) -> bool {
        span.takes(record) && self.only.takes(record)
    }
}

impl Only {
    /// Whether `record` is asked for.
    pub(super) fn takes(&self, record: &Record) -> bool {
        let event = &record.event;
        let table = || self.table.iter().any(|table| **table == *event.table);
        (self.table.is_empty() || table())
            && (self.op.is_empty() || self.op.contains(&event.op))
            && self.id.as_ref().is_none_or(|id| *id == event.record_id())
    }
}

fn id(text: &str) -> Result<RecordId> {
    RecordId::parse(text).map_err(|error| anyhow!("{text:?} is no record id: {error}"))
}

fn op(text: &str) -> Result<Op> {
    serde_json::from_value(text.into())
        .map_err(|_| anyhow!("create, update, delete, load or reconcile is due"))
}
