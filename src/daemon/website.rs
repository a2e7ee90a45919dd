//! The web door's composition: the one place that knows what it leads to.
//!
//! ```text
//!  /api/v1/…            api
//!  /git/<app>.git/…     git over HTTP
//!  /…                   the dashboard
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::doors::Doors;
use crate::config::Config;
use crate::platform::Platform;
use crate::support::shutdown::Shutdown;
use crate::support::tasks;
use crate::{api, web};

/// The web door, bound and not yet open.
pub(super) struct Website(Vec<TcpListener>);

impl Website {
    /// Takes the addresses of `[web] listen`.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for address in &config.web.listen {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.with_context(|| {
                format!("listen on {address} for the web; `[web] listen` says where else")
            })?);
        }
        Ok(Self(listeners))
    }

    /// Where it is; for `serving.json`.
    pub(super) fn local_addresses(&self) -> Vec<std::net::SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Where the proxy reaches it: an unspecified address is reached on loopback.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let mut address = self.0.first()?.local_addr().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Some(address)
    }

    /// Serves until the shutdown, see [`web::serve`].
    pub(super) fn serve(
        self,
        config: &Config,
        platform: Platform,
        doors: Doors,
        dashboard: web::Router,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (api, sessions) =
            api::for_web(&config.api, platform.clone(), Arc::new(doors), shutdown.clone());
        let identities = identities(config, &platform);
        // Whatever else the web leads to is merged here.
        let inner =
            api.method_not_allowed_fallback(web::unknown_method).fallback_service(dashboard);
        let router = web::door(inner, &identities);
        let places = Arc::new(Semaphore::new(config.web.max_connections));
        let serving: Vec<_> = self
            .0
            .into_iter()
            .map(|listener| {
                let served =
                    web::serve(listener, Arc::clone(&places), router.clone(), shutdown.clone());
                tasks::spawn("web/listener", served)
            })
            .collect();
        async move {
            for listener in serving {
                // A panic is logged by its hook, and the others go on.
                let _ = listener.await;
            }
            sessions.await;
        }
    }
}

/// How people are known. Tokens and sessions are the platform's.
fn identities(config: &Config, platform: &Platform) -> web::Identities {
    let of_tokens = platform.clone();
    let tokens: web::Lookup = Arc::new(move |token, from| {
        let platform = of_tokens.clone();
        Box::pin(async move { platform.caller_of_token(&token, Some(&from)) })
    });
    let of_sessions = platform.clone();
    let sessions: web::Lookup = Arc::new(move |secret, from| {
        let platform = of_sessions.clone();
        Box::pin(async move { platform.caller_of_session(&secret, Some(&from)) })
    });
    let rates = Arc::new(web::Rates::new(config.web.requests_per_minute));
    web::Identities { token: Some(tokens), session: Some(sessions), rates }
}
