//! The routes, as one table.

use std::sync::Arc;

use crate::web::routing::{delete, get, patch, post, put};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::{from_fn, from_fn_with_state};

use super::ssh::Shell;
use super::{
    access, apps, backups, builds, certificates, checks, config, cron, dashboard, domains, events,
    front, git, logs, metrics, openapi, peer, plugins, processes, pushes, releases, resources,
    services, session, ssh, stacks, storage, system,
};
use crate::domain::access::*;
use crate::platform::Platform;
use crate::web::{Routes, edge, unknown_method, unknown_path};
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

/// The whole API, for the control socket.
pub(super) fn router(parts: Parts) -> Router {
    let platform = parts.platform.clone();
    common(routes().into_local_router(), parts)
        .fallback(unknown_path)
        .layer(from_fn_with_state(platform, peer::identify))
        .layer(from_fn(edge))
}

/// What of it the web reaches; who asks is known by then.
pub(super) fn web_router(parts: Parts) -> Router {
    let git = git::routes(Arc::clone(&parts.shell));
    common(routes().into_router(), parts).merge(git)
}

fn common(routes: Router<Parts>, parts: Parts) -> Router {
    // Below the prefix the API's own fallbacks hold, whatever else the door leads to.
    let routes = routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(parts.platform.clone(), plugins::authorize));
    Router::new().nest(API_PREFIX, routes).with_state(parts)
}

pub(super) fn routes() -> Routes<Parts> {
    machine_routes().below("/apps/{app}", app_routes())
}

/// What concerns the machine as a whole.
fn machine_routes() -> Routes<Parts> {
    Routes::new()
        .at(SYSTEM_VERSION, "/version", get(system::version))
        .at(SYSTEM_OPENAPI, "/openapi.json", get(openapi::show))
        .at(GC_RUN, "/gc", post(system::collect_garbage))
        .at(EVENTS_LIST, "/events", get(events::list))
        .at(METRICS_SHOW, "/metrics", get(metrics::metrics))
        .at(DASHBOARD_LOGIN, "/dashboard/codes", post(dashboard::make_code))
        .at(HOST_REPORT, "/host", get(metrics::host_report))
        .at(HOST_METRICS, "/host/metrics", get(metrics::of_host))
        .at(APPS_LIST, "/apps", get(apps::list))
        .at(APPS_CREATE, "/apps", post(apps::create))
        .at(DOMAINS_REPORT_GLOBAL, "/domains", get(domains::global))
        .at(DOMAINS_SET_GLOBAL, "/domains", put(domains::set_global))
        .and(access::machine_routes())
        .and(certificates::machine_routes())
        .at(SSH_KEYS_LIST, "/ssh-keys", get(ssh::keys))
        .at(SSH_KEYS_ADD, "/ssh-keys", post(ssh::add_key))
        .at(SSH_KEYS_REMOVE, "/ssh-keys/{id}", delete(ssh::remove_key))
        .local(SSH_EXEC, "/ssh/exec", post(ssh::exec))
        .below("/services", services::routes())
        .below("/services/{type}/{name}", backups::service_routes())
        .and(backups::machine_routes())
        .below("/service-types", services::type_routes())
        .at(STACKS_LIST, "/stacks", get(stacks::list))
        .at(STACKS_BUILD, "/stacks", post(stacks::build))
        .at(STACKS_INFO, "/stacks/{id}", get(stacks::info))
        .at(STACKS_REMOVE, "/stacks/{id}", delete(stacks::remove))
        .and(storage::machine_routes())
        .at(CRON_REPORT_GLOBAL, "/cron", get(cron::global))
        .at(CRON_SET_GLOBAL, "/cron", patch(cron::set_global))
        .and(front::machine_routes())
        .and(plugins::routes())
}

/// What concerns one app, below `/apps/{app}`.
fn app_routes() -> Routes<Parts> {
    Routes::new()
        .and(access::app_routes())
        .and(certificates::app_routes())
        .at(APPS_INFO, "/", get(apps::info))
        .at(APPS_DESTROY, "/", delete(apps::destroy))
        .at(APPS_RENAME, "/rename", post(apps::rename))
        .at(APPS_CLONE, "/clone", post(apps::clone))
        .at(APPS_SET_DEPLOY_BRANCH, "/deploy-branch", put(apps::set_deploy_branch))
        .at(CONFIG_SHOW, "/config", get(config::show))
        .at(CONFIG_SET, "/config", patch(config::change))
        .at(PS_REPORT, "/processes", get(processes::report))
        .at(PS_SCALE, "/processes", patch(processes::scale))
        .at(PS_START, "/start", post(processes::start))
        .at(PS_STOP, "/stop", post(processes::stop))
        .at(PS_RESTART, "/restart", post(processes::restart))
        .at(PS_REBUILD, "/rebuild", post(processes::rebuild))
        .at(RUN_START, "/run", post(session::run))
        .at(ENTER_START, "/enter", post(session::enter))
        .at(METRICS_REPORT, "/metrics", get(metrics::of_app))
        .at(LOGS_SHOW, "/logs", get(logs::logs))
        .at(LOGS_ACCESS, "/access-log", get(logs::access_log))
        .at(RELEASES_LIST, "/releases", get(releases::list))
        .at(RELEASES_INFO, "/releases/{id}", get(releases::info))
        .at(RELEASES_DIFF, "/releases/{id}/diff", get(releases::diff))
        .at(RELEASES_ROLLBACK, "/rollback", post(releases::rollback))
        .at(BUILDS_LIST, "/builds", get(builds::list))
        .at(BUILDS_CANCEL, "/builds/cancel", post(builds::cancel))
        .at(BUILDS_INFO, "/builds/{id}", get(builds::info))
        .at(BUILDS_OUTPUT, "/builds/{id}/output", get(builds::output))
        .and(domains::app_routes())
        .at(SERVICES_OF_APP, "/services", get(services::of_app))
        .at(RESOURCE_REPORT, "/resources", get(resources::report))
        .at(RESOURCE_LIMIT, "/resources/limits", patch(resources::limit))
        .at(RESOURCE_RESERVE, "/resources/reservations", patch(resources::reserve))
        .at(CHECKS_REPORT, "/checks", get(checks::report))
        .at(CHECKS_SET, "/checks", patch(checks::set))
        .at(CHECKS_RUN, "/checks/run", post(checks::run))
        .and(storage::app_routes())
        .and(cron::app_routes())
        .local(GIT_PUSH, "/pushes", post(pushes::push))
        .local(GIT_PUSH_OUTCOME, "/pushes/{id}", get(pushes::outcome))
        .and(front::app_routes())
}
