//! What the proxy counts, for monitoring systems.

use super::Platform;
use crate::proxy;
use crate::support::report;

impl Platform {
    /// All counters as OpenMetrics text. A proxy that does not answer is a value in it, not an
    /// error: whoever watches wants to see it.
    pub async fn metrics(&self) -> String {
        let metrics = match self.proxy.metrics().await {
            Ok(metrics) => Some(metrics),
            Err(error) => {
                tracing::warn!(error = report(&error), "ask the proxy for its counters");
                None
            }
        };
        proxy::openmetrics::render(metrics.as_ref())
    }
}
