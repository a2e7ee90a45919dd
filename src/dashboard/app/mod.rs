//! The pages of one app, below `/apps/{app}`.

mod access;
mod config;
mod console;
mod cron;
mod deployments;
mod domains;
mod lines;
mod logs;
mod metrics;
mod overview;
mod releases;
mod scale;
mod services;
mod settings;
mod sse;
mod volumes;

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
        .and(forms())
}

/// Pages with forms. A form posts to a path of its own where it is a verb of its own.
fn forms() -> Routes<Dashboard> {
    Routes::new()
        .page(ACCESS_LIST, "/access", get(access::show))
        .page(ACCESS_ADD, "/access/add", post(access::add))
        .page(ACCESS_REMOVE, "/access/remove", post(access::remove))
        .page(CONFIG_SHOW, "/config", get(config::show))
        .page(CONFIG_SET, "/config", post(config::review))
        .page(CONFIG_SET, "/config/apply", post(config::apply))
        .page(PS_REPORT, "/scale", get(scale::show))
        .page(PS_REPORT, "/scale/usage.json", get(scale::usage))
        .page(PS_SCALE, "/scale", post(scale::scale))
        .page(RESOURCE_LIMIT, "/scale/limits", post(scale::limit))
        .page(DOMAINS_REPORT, "/domains", get(domains::show))
        .page(DOMAINS_ADD, "/domains/add", post(domains::add))
        .page(DOMAINS_REMOVE, "/domains/remove", post(domains::remove))
        .page(LETSENCRYPT_ENABLE, "/domains/https-on", post(domains::https_on))
        .page(LETSENCRYPT_DISABLE, "/domains/https-off", post(domains::https_off))
        .page(LETSENCRYPT_RENEW, "/domains/renew", post(domains::renew))
        .page(LETSENCRYPT_SET, "/domains/email", post(domains::email))
        .page(SERVICES_OF_APP, "/services", get(services::show))
        .page(CRON_REPORT, "/cron", get(cron::show))
        .page(CRON_RUN, "/cron/run", post(cron::run))
        .page(CRON_SWITCH, "/cron/switch", post(cron::switch))
        .page(CRON_SET, "/cron/maintenance", post(cron::maintenance))
        .page(STORAGE_REPORT, "/volumes", get(volumes::show))
        .page(STORAGE_MOUNT, "/volumes/mount", post(volumes::mount))
        .page(STORAGE_UNMOUNT, "/volumes/unmount", post(volumes::unmount))
        .page(STORAGE_CREATE, "/volumes/create", post(volumes::create))
        .page(APPS_INFO, "/settings", get(settings::show))
        .page(PS_RESTART, "/settings/restart", post(settings::restart))
        .page(PS_START, "/settings/start", post(settings::start))
        .page(PS_STOP, "/settings/stop", post(settings::stop))
        .page(MAINTENANCE_SET, "/settings/maintenance", post(settings::maintenance))
        .page(APPS_SET_DEPLOY_BRANCH, "/settings/branch", post(settings::branch))
        .page(APPS_RENAME, "/settings/rename", post(settings::rename))
        .page(APPS_DESTROY, "/settings/destroy", post(settings::destroy))
}
