//! `/metrics`: figures in Prometheus' text format.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Shared;
use crate::load::resident_bytes;
use crate::service::Context;
use crate::status::State as Stage;
use crate::views::Mode;

/// Every figure, each with its help.
pub(super) async fn metrics(State(context): Shared) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text(&context)).into_response()
}

fn text(context: &Context) -> String {
    let status = &context.status;
    let mut text = Text(String::new());
    let ready = u64::from(status.state() == Stage::Ready);
    text.gauge("revenant_ssp_ready", "Whether registrations are accepted", ready);
    text.gauge("revenant_ssp_applied_seq", "Last applied seq", status.applied_seq().0);
    text.gauge("revenant_ssp_connected", "Whether the feed is open", status.connected().into());
    text.gauge("revenant_ssp_resident_bytes", "Resident memory", resident_bytes().unwrap_or(0));
    text.counter("revenant_ssp_feed_reconnects_total", "Broken feeds", status.reconnects());
    text.counter("revenant_ssp_registrations_total", "Registrations begun", status.sessions());
    let Some(session) = context.session() else { return text.0 };
    let committed = session.outbox.committed().borrow().0;
    text.gauge("revenant_ssp_committed_seq", "Seq up to which edges are stored", committed);
    let modes = session.views.modes();
    text.head("revenant_ssp_views", "gauge", "Maintained views by mode");
    for (mode, word) in [(Mode::Incremental, "incremental"), (Mode::Requery, "requery")] {
        let count = modes.iter().filter(|own| **own == mode).count();
        text.line(&format!("revenant_ssp_views{{mode=\"{word}\"}}"), count as u64);
    }
    let (outbox, waiting) = session.outbox.counters();
    text.gauge("revenant_ssp_outbox_edges", "Edge changes not yet stored", waiting as u64);
    text.counter("revenant_ssp_edge_batches_total", "Edge transactions stored", outbox.batches);
    text.counter("revenant_ssp_edges_written_total", "Edge changes stored", outbox.edges);
    text.counter("revenant_ssp_edge_failures_total", "Edge writes failed", outbox.failures);
    let (runs, failures) = session.rerun.counters();
    text.counter("revenant_ssp_requery_runs_total", "Queries run again", runs);
    text.counter("revenant_ssp_requery_failures_total", "Queries run in vain", failures);
    text.0
}

struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.line(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.line(name, value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
    }

    fn line(&mut self, name: &str, value: u64) {
        writeln!(self.0, "{name} {value}").expect("a string takes all");
    }
}
