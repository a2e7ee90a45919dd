//! The proxy's processes: what runs, and its replacement.

use super::{Platform, ProxyProcess, ProxyUpgradeReport, Result};
use crate::domain::Actor;

impl Platform {
    /// Replaces the proxy's process by a new one. No connection is refused or cut: the new process
    /// takes the listening sockets over, the old one serves what is open until it has ended.
    ///
    /// # Errors
    /// `Internal`, with what kept the new process from starting; the old one goes on.
    pub async fn upgrade_proxy(&self, actor: &Actor) -> Result<ProxyUpgradeReport> {
        // What the old process has counted by now is not lost when it ends.
        self.measure_proxy().await;
        let upgraded = self.proxy.upgrade().await?;
        let (pid, before) = (upgraded.pid, upgraded.before);
        let message = format!("proxy upgraded: process {pid} took over from {before}");
        self.note_named(None, "proxy.upgraded", &message, actor);
        Ok(ProxyUpgradeReport { pid, before, processes: self.proxy_processes().await? })
    }

    /// The processes that serve clients, the one that takes new ones first.
    pub(super) async fn proxy_processes(&self) -> Result<Vec<ProxyProcess>> {
        let generations = self.proxy.status().await?.generations;
        let process = |generation: crate::proxy::Generation| ProxyProcess {
            pid: generation.pid,
            version: generation.software,
            retiring: generation.retiring,
            connections: generation.connections,
        };
        Ok(generations.into_iter().map(process).collect())
    }
}
