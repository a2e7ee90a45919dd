//! The dashboard: pages for people, over the same verbs as every other door.
//!
//! ```text
//!  frame (session, CSRF, headers) ─ Routes: guard(verb) ─ handler ─► Page ─► frame renders it
//! ```
//!
//! A page is one handler here and one template in `templates/dashboard`; a handler answers with a
//! [`Page`] or a [`Refusal`](crate::web::Refusal), and the frame makes HTML of both, since it alone
//! knows who looks. Forms are plain posts that answer with [`Done`], a redirect with a sentence, or
//! with their own page again and why not. Scripts only add to what works without them.
//!
//! **Invariant.** Decides nothing: a page shows what its verb answers, to whom the verb's guard lets
//! in. Nothing of anybody's reaches a page unescaped.

mod ansi;
mod app;
mod apps;
mod assets;
mod cookies;
mod fields;
mod form;
mod frame;
mod helpers;
mod layout;
mod origin;
mod page;
mod render;
mod services;
mod sessions;
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
