//! `/metrics`: upstream's figures as JSON, ours as Prometheus text.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use revenant_log::LogStats;
use revenant_log::latency::{BOUNDS_US, LatencyStats};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use crate::member::Stage;
use crate::scheduler::{Context, Phase};

/// JSON, or Prometheus text for who accepts text.
pub(super) async fn metrics(state: Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let text = |accept: &str| accept.contains("text/plain") || accept.contains("openmetrics");
    if accept.is_some_and(text) {
        return prometheus(state).await;
    }
    Json(figures(&state.0)).into_response()
}

fn figures(context: &Context) -> Value {
    let now = Instant::now();
    let counts = context.registry.view_counts();
    let members = context.registry.members();
    let ready = members.values().filter(|member| member.stage == Stage::Ready).count();
    let (applied, latest) = (context.rows.applied_seq().0, context.log.durable_seq().0);
    let ssps: Vec<Value> = members
        .iter()
        .map(|(id, member)| {
            json!({
                "id": id,
                "query_count": counts.get(id).copied().unwrap_or(0),
                "views": member.views,
                "cpu_usage": member.cpu,
                "memory_usage": member.memory,
                "last_heartbeat_seconds_ago": now.duration_since(member.heard).as_secs(),
            })
        })
        .collect();
    json!({
        "scheduler": {
            "total_ssps": members.len(),
            "ready_ssps": ready,
            "total_queries": counts.values().sum::<usize>(),
            "running_jobs": 0,
            "uptime_seconds": now.duration_since(context.begun).as_secs(),
            "pending_events": latest.saturating_sub(applied),
            "snapshot_seq": applied,
            "latest_seq": latest,
            "lag": latest.saturating_sub(applied),
        },
        "ssps": ssps,
    })
}

/// Prometheus text.
pub(super) async fn prometheus(State(context): Shared) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, exposition(&context)).into_response()
}

fn exposition(context: &Context) -> String {
    let stats = context.log.stats();
    let position = context.journal.position();
    let health = context.capture.borrow().clone();
    let drift = *context.drift.borrow();
    let ready = u64::from(*context.phase.borrow() == Phase::Ready);
    let mut text = Exposition(String::new());
    text.gauge("ready", "Whether rows and views are offered", ready);
    text.gauge("log_first_seq", "Lowest seq that can be read", stats.first_seq);
    text.gauge("log_durable_seq", "Highest durable seq", stats.durable_seq);
    text.gauge("log_bytes", "Bytes of the log", stats.bytes);
    text.gauge("log_segments", "Segments of the log", stats.segments as u64);
    text.counter("log_appends_total", "Appends acknowledged", stats.appends);
    text.counter("log_groups_total", "Groups, each one sync", stats.groups);
    log_operations(&mut text, &stats);
    text.gauge("replica_applied_seq", "Last seq in the replica", context.rows.applied_seq().0);
    let checkpoint = context.rows.checkpoint_seq().0;
    text.gauge("replica_checkpoint_seq", "Last verified checkpoint", checkpoint);
    let connected = u64::from(health.trouble.is_none());
    text.gauge("capture_connected", "Whether the feed can be read", connected);
    let figures = position.figures;
    text.counter("capture_transactions_total", "Transactions captured", figures.transactions);
    text.counter("capture_repeated_total", "Transactions read again", figures.repeated);
    text.counter("capture_late_total", "Transactions that came late", figures.late);
    text.counter("capture_stale_total", "Events overtaken by newer ones", figures.stale);
    text.counter("capture_passes_total", "Passes over the feed's end", health.passes);
    text.counter("capture_gaps_total", "Times the feed did not reach back", health.gaps);
    text.counter("rows_loaded_total", "Rows loaded by clones", *context.loaded.borrow());
    text.counter("rows_compared_total", "Rows compared", drift.rows);
    text.counter("rows_drifted_total", "Rows put right after a comparison", drift.repaired);
    let counts = context.registry.view_counts();
    let members = context.registry.members();
    text.head("ssp_acked_seq", "gauge", "Last seq acked, by SSP");
    for id in members.keys() {
        let acked = context.registry.cursors.get(id).map_or(0, |cursor| cursor.acked_seq.0);
        text.labelled("ssp_acked_seq", id, acked);
    }
    text.head("ssp_ready", "gauge", "Whether the SSP takes views");
    for (id, member) in &members {
        text.labelled("ssp_ready", id, u64::from(member.stage == Stage::Ready));
    }
    text.head("ssp_views", "gauge", "Views owned, by SSP");
    for id in members.keys() {
        text.labelled("ssp_views", id, counts.get(id).copied().unwrap_or(0) as u64);
    }
    text.0
}

/// How the log and its disk are.
fn log_operations(text: &mut Exposition, stats: &LogStats) {
    text.head("log_state", "gauge", "1 for the state that the log is in");
    for state in ["ok", "damaged", "full", "poisoned"] {
        let is = u64::from(stats.state == state);
        text.line(format_args!("revenant_log_state{{state=\"{state}\"}} {is}"));
    }
    let spare = u64::from(stats.spare_ready);
    text.gauge("log_spare_ready", "Whether the next segment is prepared", spare);
    text.gauge("log_ballast_bytes", "Bytes held back for a full disk", stats.ballast_bytes);
    text.latency("log_sync_seconds", "How long groups took to sync", &stats.syncs);
    let scrub = &stats.scrub;
    text.counter("log_scrub_bytes_total", "Bytes of sealed segments verified again", scrub.bytes);
    text.counter("log_scrub_passes_total", "Times that all of them were", scrub.passes);
    text.gauge("log_scrub_segment", "Segment that is verified now", scrub.segment);
    text.gauge("log_scrub_findings", "Segments found damaged", scrub.findings.len() as u64);
    text.gauge("log_archived_segment", "Last segment archived since the start", stats.archived);
    let refused = u64::from(stats.archive_error.is_some());
    text.gauge("log_archive_refused", "Whether the archive refused the next segment", refused);
    let compress = &stats.compress;
    text.gauge("log_compressed_segments", "Segments compressed", compress.segments as u64);
    text.gauge("log_compressed_bytes", "Their bytes on the disk", compress.bytes);
    text.gauge("log_compressed_image_bytes", "Their bytes before", compress.image_bytes);
    let refused = u64::from(compress.error.is_some());
    text.gauge("log_compress_waits", "Whether the next one could not be", refused);
    let recovery = &stats.recovery;
    text.gauge(
        "log_recovery_clean",
        "Whether nothing was torn at the start",
        recovery.clean.into(),
    );
    text.gauge("log_recovery_torn_bytes", "Bytes cut at the start", recovery.torn_bytes);
    text.gauge("log_recovery_scanned_bytes", "Bytes read to start", recovery.scanned_bytes);
    text.gauge("log_recovery_micros", "How long opening the log took", recovery.micros);
}

struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP revenant_{name} {help}"));
        self.line(format_args!("# TYPE revenant_{name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.line(format_args!("revenant_{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(format_args!("revenant_{name} {value}"));
    }

    /// A histogram, in seconds.
    fn latency(&mut self, name: &str, help: &str, stats: &LatencyStats) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for (bucket, observed) in stats.counts.iter().enumerate() {
            count += observed;
            match BOUNDS_US.get(bucket) {
                Some(&bound) => {
                    let (whole, part) = (bound / 1_000_000, bound % 1_000_000);
                    self.line(format_args!(
                        "revenant_{name}_bucket{{le=\"{whole}.{part:06}\"}} {count}"
                    ));
                }
                None => self.line(format_args!("revenant_{name}_bucket{{le=\"+Inf\"}} {count}")),
            }
        }
        let (whole, part) = (stats.sum_us / 1_000_000, stats.sum_us % 1_000_000);
        self.line(format_args!("revenant_{name}_sum {whole}.{part:06}"));
        self.line(format_args!("revenant_{name}_count {count}"));
    }

    /// Ids of SSPs need no escaping: registration admits plain ones only.
    fn labelled(&mut self, name: &str, ssp_id: &str, value: u64) {
        self.line(format_args!("revenant_{name}{{ssp_id=\"{ssp_id}\"}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.0.write_fmt(line).expect("text grows");
        self.0.push('\n');
    }
}
