//! `gc`, `openapi` and `version`.

use clap::Args;
use hyper::Method;

use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, bytes};
use crate::wire::{GarbageReport, VersionReport};

/// `gc`.
#[derive(Debug, Args)]
pub(super) struct Gc {
    #[command(flatten)]
    format: FormatArg,
}

impl Gc {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let report: GarbageReport = context.client.send(Method::POST, "/gc", &()).await?;
        match self.format.format {
            Format::Json => context.out.json(&report),
            Format::Text => context.out.line(&format!("{} freed", bytes(report.freed_bytes))),
        }
    }
}

/// `openapi`.
#[derive(Debug, Args)]
pub(super) struct Openapi {}

impl Openapi {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let text = context.client.text("/openapi.json").await?;
        context.out.line(text.trim_end())
    }
}

/// `version`.
#[derive(Debug, Args)]
pub(super) struct Version {
    #[command(flatten)]
    format: FormatArg,
}

impl Version {
    /// The server's version is shown where it differs; a server that is away is no failure.
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let client = env!("CARGO_PKG_VERSION");
        let server: Option<VersionReport> = context.client.get("/version").await.ok();
        let server = server.map(|report| report.version);
        match (self.format.format, server) {
            (Format::Json, server) => {
                context.out.json(&serde_json::json!({ "client": client, "server": server }))
            }
            (Format::Text, Some(server)) if server != client => {
                context.out.line(&format!("staithe {client} (server: {server})"))
            }
            (Format::Text, _) => context.out.line(&format!("staithe {client}")),
        }
    }
}
