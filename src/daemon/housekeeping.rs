//! What must be done now and then.

use std::time::Duration;

use crate::domain::Actor;
use crate::platform::Platform;
use crate::support::report;
use crate::support::shutdown::{Phase, Shutdown};

/// Between two looks at the firewall: an operator who reloads other rules flushes ours.
const REPAIR: Duration = Duration::from_secs(30);
/// Between two looks at how much is kept of logs: what rotation bounds cannot grow far meanwhile.
const PRUNE: Duration = Duration::from_secs(600);
/// Between two collections of unneeded images.
const COLLECT: Duration = Duration::from_secs(6 * 3600);

/// Runs until the shutdown begins.
pub(super) async fn run(platform: Platform, mut shutdown: Shutdown) {
    let mut repair = tokio::time::interval(REPAIR);
    let mut collect = tokio::time::interval_at(tokio::time::Instant::now() + COLLECT, COLLECT);
    let mut prune = tokio::time::interval(PRUNE);
    loop {
        tokio::select! {
            // Cancel-safe: observes.
            () = shutdown.reached(Phase::Draining) => return,
            // Cancel-safe: a tick is lost at most.
            _ = prune.tick() => platform.prune_all_logs().await,
            _ = repair.tick() => repair_network(&platform).await,
            _ = collect.tick() => {
                if let Err(error) = platform.collect_garbage(&Actor::platform()).await {
                    tracing::error!(error = report(&error), "cannot collect unneeded images");
                }
                platform.maintain_repositories().await;
                platform.collect_pages().await;
            }
        }
    }
}

async fn repair_network(platform: &Platform) {
    match platform.network.repair().await {
        Ok(false) => {}
        Ok(true) => tracing::warn!("the firewall table was gone and has been loaded again"),
        Err(error) => {
            tracing::error!(error = report(&error), "cannot look after the firewall table")
        }
    }
}
