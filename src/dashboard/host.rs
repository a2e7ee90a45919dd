//! The machine: what it has, what is used, what the kernel can do, what Staithe itself takes.

use axum::extract::State;
use serde_json::{Value, json};

use super::{Dashboard, Page};
use crate::web::Refusal;
use crate::wire::CheckStatus;

pub(super) async fn show(State(dashboard): State<Dashboard>) -> Result<Page, Refusal> {
    let host = dashboard.host().await?;
    let used = host.memory.total_bytes.saturating_sub(host.memory.available_bytes);
    let disks = host.disks.iter().map(|disk| {
        let used = disk.total_bytes.saturating_sub(disk.free_bytes);
        json!({
            "disk": disk, "used_bytes": used, "percent": percent(used, disk.total_bytes),
        })
    });
    let disks: Value = disks.collect();
    let cpu = host.cpu_used.map(|used| format!("{used:.2}"));
    let cpu_percent =
        host.cpu_used.map(|used| (used / f64::from(host.cpus.max(1)) * 100.0).round());
    let own: u64 = host.footprint.roles.iter().map(|role| role.memory_bytes).sum();
    let attention = host.checks.iter().filter(|check| check.status != CheckStatus::Ok).count();
    let context = json!({
        "host": host,
        "load": host.load.map(|load| format!("{load:.2}")),
        "uptime_ms": host.uptime_s.saturating_mul(1000),
        "cpu": cpu, "cpu_percent": cpu_percent,
        "memory_used": used, "memory_percent": percent(used, host.memory.total_bytes),
        "disks": disks,
        "own_memory": own,
        "attention": attention,
    });
    Ok(Page::new("host", "Host", "host", context))
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}
