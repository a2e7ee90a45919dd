//! The pages of one app, below `/apps/{app}`.

mod console;
mod deployments;
mod lines;
mod logs;
mod metrics;
mod overview;
mod releases;
mod sse;

use axum::routing::{get, post};

use super::Dashboard;
use crate::domain::access::*;
use crate::web::Routes;

/// Every page of an app, one line each; the tabs above them are in `layout::TABS`.
pub(super) fn pages() -> Routes<Dashboard> {
    Routes::new()
        .page(APPS_INFO, "/", get(overview::show))
        .page(PS_RESTART, "/restart", post(overview::restart))
        .page(PS_STOP, "/stop", post(overview::stop))
        .page(PS_START, "/start", post(overview::start))
        .page(BUILDS_LIST, "/deployments", get(deployments::list))
        .page(PS_REBUILD, "/deployments", post(deployments::rebuild))
        .page(BUILDS_INFO, "/deployments/{id}", get(deployments::show))
        .page(BUILDS_OUTPUT, "/deployments/{id}/stream", get(deployments::stream))
        .page(BUILDS_CANCEL, "/deployments/{id}/cancel", post(deployments::cancel))
        .page(RELEASES_LIST, "/releases", get(releases::list))
        .page(RELEASES_ROLLBACK, "/releases", post(releases::rollback))
        .page(RELEASES_INFO, "/releases/{id}", get(releases::show))
        .page(LOGS_SHOW, "/logs", get(logs::show))
        .page(LOGS_SHOW, "/logs/older", get(logs::older))
        .page(LOGS_SHOW, "/logs/stream", get(logs::stream))
        .page(METRICS_REPORT, "/metrics", get(metrics::show))
        .page(METRICS_REPORT, "/metrics/data", get(metrics::data))
        .page(ENTER_START, "/console", get(console::show))
        .page(ENTER_START, "/console/enter", get(console::enter))
        .page(RUN_START, "/console/run", get(console::run))
}
