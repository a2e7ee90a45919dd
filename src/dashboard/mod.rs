//! The dashboard: pages for people, over the same verbs as every other door.
//!
//! ```text
//!  frame (session, CSRF, headers) ─ Routes: guard(verb) ─ handler ─► Page ─► frame renders it
//! ```
//!
//! A page is one handler here and one template in `templates/dashboard`; a handler answers with a
//! [`Page`] or a [`Refusal`], and the frame makes HTML of both, since it alone
//! knows who looks. Forms are plain posts that answer with [`Done`], a redirect with a sentence, or
//! with their own page again and why not. Scripts only add to what works without them.
//!
//! **Invariant.** Decides nothing: a page shows what its verb answers, to whom the verb's guard lets
//! in. Nothing of anybody's reaches a page unescaped.

mod access;
mod ansi;
mod app;
mod apps;
mod assets;
mod cookies;
mod events;
mod fields;
mod form;
mod frame;
mod helpers;
mod host;
mod layout;
mod new_app;
mod origin;
mod page;
mod palette;
mod render;
mod services;
mod sessions;
mod settings;
mod sign_in;
mod templates;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

pub use form::Form;
pub use page::{Done, Page};
pub use render::Broken;
pub use visit::Visit;

use crate::domain::access::*;
use crate::platform::{Error, Kind, Platform};
use crate::web::{Refusal, Routes};

/// What pages work with.
#[derive(Debug, Clone)]
pub struct Dashboard(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    platform: Platform,
    renderer: render::Renderer,
    assets: assets::Assets,
    /// Places for terminals; each is a process and two buffers.
    consoles: Arc<Semaphore>,
}

/// The most terminals that are open in browsers at once.
const MAX_CONSOLES: usize = 32;

impl std::ops::Deref for Dashboard {
    type Target = Platform;

    fn deref(&self) -> &Platform {
        &self.0.platform
    }
}

impl FromRef<Dashboard> for Platform {
    fn from_ref(dashboard: &Dashboard) -> Self {
        dashboard.0.platform.clone()
    }
}

impl Dashboard {
    /// The dashboard of `platform`.
    ///
    /// # Errors
    /// A template that is not one, which is a fault of this program.
    pub fn open(platform: Platform) -> Result<Self, Broken> {
        let assets = assets::Assets::load();
        let renderer = render::Renderer::load(assets.base())?;
        Ok(Self(Arc::new(Parts {
            platform,
            renderer,
            assets,
            consoles: Arc::new(Semaphore::new(MAX_CONSOLES)),
        })))
    }

    /// Places for terminals.
    fn consoles(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.consoles)
    }

    /// All its routes. What calls it gives each request a [`crate::web::RequestId`].
    pub fn router(self) -> Router {
        let signed_in = pages().into_router().layer(from_fn(visit::require));
        let open = Router::new()
            .route("/sign-in", get(sign_in::show).post(sign_in::submit))
            .route("/assets/{hash}/{*name}", get(assets::serve))
            .route("/favicon.ico", get(assets::favicon));
        Router::new()
            .merge(signed_in)
            .merge(open)
            .fallback(unknown_path)
            .method_not_allowed_fallback(unknown_method)
            .layer(from_fn_with_state(self.clone(), frame::frame))
            .with_state(self)
    }
}

/// Every page, one line each: the verb that lets somebody see it, its path, its handlers.
fn pages() -> Routes<Dashboard> {
    Routes::new()
        .page(APPS_LIST, "/", get(apps::list))
        .page(APPS_LIST, "/palette.json", get(palette::show))
        .page(EVENTS_LIST, "/live", get(events::live))
        .page(EVENTS_LIST, "/events", get(events::list))
        .page(APPS_CREATE, "/new", get(new_app::show).post(new_app::create))
        .page(HOST_REPORT, "/host", get(host::show))
        .page(TOKENS_LIST, "/access", get(access::show))
        .page(USERS_ADD, "/access/users/add", post(access::add_user))
        .page(USERS_SET_ROLE, "/access/users/role", post(access::set_role))
        .page(USERS_REMOVE, "/access/users/remove", post(access::remove_user))
        .page(USERS_DISABLE, "/access/users/disable", post(access::disable))
        .page(USERS_ENABLE, "/access/users/enable", post(access::enable))
        .page(SSH_KEYS_ADD, "/access/keys/add", post(access::add_key))
        .page(SSH_KEYS_REMOVE, "/access/keys/remove", post(access::remove_key))
        .page(TOKENS_CREATE, "/access/tokens/create", post(access::create_token))
        .page(TOKENS_REVOKE, "/access/tokens/revoke", post(access::revoke_token))
        .page(USERS_ME, "/settings", get(settings::show))
        .page(USERS_SET_OWN_PASSWORD, "/settings/password", post(settings::set_password))
        .page(DOMAINS_SET_GLOBAL, "/settings/domains", post(settings::set_domains))
        .page(GC_RUN, "/settings/gc", post(settings::collect_garbage))
        .page(DASHBOARD_SESSIONS, "/sessions", get(sessions::list))
        .page(DASHBOARD_SESSIONS, "/sessions/end", post(sessions::end))
        .page(DASHBOARD_SESSIONS, "/sessions/end-all", post(sessions::end_all))
        .page(DASHBOARD_SESSIONS, "/sign-out", post(sessions::sign_out))
        .below("/services", services::pages())
        .below("/apps/{app}", app::pages())
}

async fn unknown_path() -> Refusal {
    Error::new(Kind::NotFound, "there is no such page").hint("start from the list of apps").into()
}

async fn unknown_method() -> Refusal {
    Error::new(Kind::Invalid, "the page does not take this method").into()
}
