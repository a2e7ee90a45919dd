//! What is counted, for monitoring systems.

use super::Platform;
use crate::proxy;

impl Platform {
    /// All counters as OpenMetrics text. A proxy that does not answer is a value in it, not an
    /// error: whoever watches wants to see it.
    pub async fn metrics(&self) -> String {
        self.measure_proxy().await;
        let metrics = self.0.meters.lock().book.proxy();
        proxy::openmetrics::render(metrics.as_ref())
    }
}
