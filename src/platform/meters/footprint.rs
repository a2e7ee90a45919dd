//! What Staithe itself takes.

use crate::host::proportional_memory;
use crate::platform::{Platform, Result, pipeline};
use crate::support::report;
use crate::wire::RoleFootprint;

/// Samples for which a measure of the monitors is kept: the kernel walks through all their pages
/// for it, and they do not grow.
const KEPT: u32 = 4;

/// Memory of Staithe's processes, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) control: u64,
    pub(super) proxy: u64,
    /// How many processes the proxy has: one, and those that it succeeded.
    pub(super) proxies: u32,
    pub(super) monitors: u64,
    /// How many monitors there are.
    pub(super) containers: u32,
}

/// The last measure of the monitors, with its age in samples.
#[derive(Debug, Default)]
pub(super) struct Kept {
    monitors: Option<(u32, u64)>,
    age: u32,
}

impl Platform {
    /// What Staithe's processes have now; of the monitors, a short while ago at most.
    pub(super) async fn footprint(&self) -> Result<Memory> {
        let (proxies, kept) = {
            let mut state = self.0.meters.lock();
            state.footprint.age += 1;
            let stale = state.footprint.age >= KEPT;
            (state.book.proxy_pids(), state.footprint.monitors.filter(|_| !stale))
        };
        let platform = self.clone();
        let memory = pipeline::blocking(move || {
            let (containers, monitors) = kept.unwrap_or_else(|| platform.monitors());
            Memory {
                control: proportional_memory(std::process::id()).unwrap_or(0),
                proxy: proxies.iter().filter_map(|pid| proportional_memory(*pid)).sum(),
                proxies: u32::try_from(proxies.len()).unwrap_or(u32::MAX),
                monitors,
                containers,
            }
        })
        .await?;
        if kept.is_none() {
            let monitors = Some((memory.containers, memory.monitors));
            self.0.meters.lock().footprint = Kept { monitors, age: 0 };
        }
        Ok(memory)
    }

    fn monitors(&self) -> (u32, u64) {
        let pids = self.runtime.monitors().unwrap_or_else(|error| {
            tracing::warn!(error = report(&error), "list the monitors");
            Vec::new()
        });
        // One that has ended meanwhile has no memory.
        let measured: Vec<u64> = pids.into_iter().filter_map(proportional_memory).collect();
        (u32::try_from(measured.len()).unwrap_or(u32::MAX), measured.iter().sum())
    }
}

impl Memory {
    /// For people and programs.
    pub(super) fn roles(&self) -> Vec<RoleFootprint> {
        let role = |role: &str, processes, memory_bytes| RoleFootprint {
            role: role.to_owned(),
            processes,
            memory_bytes,
        };
        vec![
            role("control plane", 1, self.control),
            role("proxy", self.proxies, self.proxy),
            role("monitors", self.containers, self.monitors),
        ]
    }
}
