//! The routes, as one table.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::{delete, get, patch, post, put};

use super::error::Refusal;
use super::ssh::Shell;
use super::{
    apps, backups, builds, certificates, checks, config, cron, domains, edge, events, front, logs,
    metrics, plugins, processes, pushes, releases, resources, services, session, ssh, stacks,
    storage, system,
};
use crate::platform::{Error, Kind, Platform};
use crate::wire::API_PREFIX;

/// The largest request body: all config vars (512 KiB) with every byte escaped in JSON.
const MAX_BODY_BYTES: usize = 4 << 20;

/// What handlers work with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) platform: Platform,
    pub(super) shell: Arc<dyn Shell>,
    pub(super) sessions: session::Sessions,
}

impl FromRef<Parts> for Platform {
    fn from_ref(parts: &Parts) -> Self {
        parts.platform.clone()
    }
}

impl FromRef<Parts> for session::Sessions {
    fn from_ref(parts: &Parts) -> Self {
        parts.sessions.clone()
    }
}

impl FromRef<Parts> for Arc<dyn Shell> {
    fn from_ref(parts: &Parts) -> Self {
        Arc::clone(&parts.shell)
    }
}

/// The whole API.
pub(super) fn router(parts: Parts) -> Router {
    let authorize =
        axum::middleware::from_fn_with_state(parts.platform.clone(), plugins::authorize);
    Router::new()
        .nest(API_PREFIX, machine_routes().nest("/apps/{app}", app_routes()))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(authorize)
        .layer(axum::middleware::from_fn(edge::edge))
        .with_state(parts)
}

/// What concerns the machine as a whole.
fn machine_routes() -> Router<Parts> {
    Router::new()
        .route("/version", get(system::version))
        .route("/gc", post(system::collect_garbage))
        .route("/events", get(events::list))
        .route("/metrics", get(metrics::metrics))
        .route("/apps", get(apps::list).post(apps::create))
        .route("/domains", get(domains::global).put(domains::set_global))
        .route("/letsencrypt", certificates::acme_routes())
        .route("/letsencrypt/certificates", get(certificates::acme_list))
        .route("/letsencrypt/renew", post(certificates::renew_all))
        .route("/ssh-keys", get(ssh::keys).post(ssh::add_key))
        .route("/ssh-keys/{id}", delete(ssh::remove_key))
        .route("/ssh/exec", post(ssh::exec))
        .nest("/services", services::routes())
        .nest("/services/{type}/{name}", backups::service_routes())
        .route("/backup-settings", backups::settings_routes())
        .nest("/service-types", services::type_routes())
        .route("/stacks", get(stacks::list).post(stacks::build))
        .route("/stacks/{id}", get(stacks::info).delete(stacks::remove))
        .merge(storage::machine_routes())
        .route("/cron", get(cron::global).patch(cron::set_global))
        .merge(front::machine_routes())
        .merge(plugins::routes())
}

/// What concerns one app, below `/apps/{app}`.
fn app_routes() -> Router<Parts> {
    Router::new()
        .merge(certificates::app_routes())
        .route("/", get(apps::info).delete(apps::destroy))
        .route("/rename", post(apps::rename))
        .route("/clone", post(apps::clone))
        .route("/deploy-branch", put(apps::set_deploy_branch))
        .route("/config", get(config::show).patch(config::change))
        .route("/processes", get(processes::report).patch(processes::scale))
        .route("/start", post(processes::start))
        .route("/stop", post(processes::stop))
        .route("/restart", post(processes::restart))
        .route("/rebuild", post(processes::rebuild))
        .route("/run", post(session::run))
        .route("/enter", post(session::enter))
        .route("/logs", get(logs::logs))
        .route("/access-log", get(logs::access_log))
        .route("/releases", get(releases::list))
        .route("/releases/{id}", get(releases::info))
        .route("/rollback", post(releases::rollback))
        .route("/builds", get(builds::list))
        .route("/builds/cancel", post(builds::cancel))
        .route("/builds/{id}", get(builds::info))
        .route("/builds/{id}/output", get(builds::output))
        .route("/domains", domains::routes())
        .route("/services", get(services::of_app))
        .route("/resources", get(resources::report))
        .route("/resources/limits", patch(resources::limit))
        .route("/resources/reservations", patch(resources::reserve))
        .route("/checks", get(checks::report).patch(checks::set))
        .route("/checks/run", post(checks::run))
        .route("/mounts", storage::app_routes())
        .merge(cron::app_routes())
        .route("/pushes", post(pushes::push))
        .route("/pushes/{id}", get(pushes::outcome))
        .merge(front::app_routes())
}

async fn unknown_path() -> Refusal {
    Error::new(Kind::NotFound, "the API has no such path").into()
}

async fn unknown_method() -> Refusal {
    Error::new(Kind::Invalid, "the path does not take this method").into()
}
