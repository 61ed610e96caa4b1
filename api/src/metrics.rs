//! Counters for operators, in the OpenMetrics text format.

use std::time::Duration;

use adit_shared::telemetry::lost_lines;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// HTTP method.
    pub method: String,
    /// The route's pattern, never the path itself (which would make a series for each id).
    pub route: String,
    /// HTTP status.
    pub status: u16,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histogram,
    /// Package requests sent to the broker.
    pub requests_sent: Counter,
    /// Status queues read.
    pub drains: Counter,
    /// Statuses taken in.
    pub statuses: Counter,
    /// Statuses that could not be read.
    pub unreadable: Counter,
    lost_lines: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("adit");
        let requests = Family::default();
        let durations = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let (sent, drains, statuses) = (Counter::default(), Counter::default(), Counter::default());
        let (unreadable, lost_lines) = (Counter::default(), Counter::default());
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "Time until the answer began", durations.clone());
        registry.register("package_requests_sent", "Package requests sent to the broker", sent.clone());
        registry.register("status_queue_drains", "Status queues read", drains.clone());
        registry.register("statuses", "Statuses taken in", statuses.clone());
        registry.register("statuses_unreadable", "Statuses that could not be read", unreadable.clone());
        registry.register("log_lines_lost", "Log lines that nobody read in time", lost_lines.clone());
        Self { registry, requests, durations, requests_sent: sent, drains, statuses, unreadable, lost_lines }
    }
}

impl Metrics {
    /// Counts one answered request.
    pub fn answered(&self, labels: &RequestLabels, duration: Duration) {
        self.requests.get_or_create(labels).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// Everything, as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        self.lost_lines.inc_by(lost_lines().saturating_sub(self.lost_lines.get()));
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
