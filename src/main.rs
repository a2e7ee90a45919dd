//! argv → role. Container roles are handed over before any thread exists.

use std::process::ExitCode;

use staithe::proxy::{self, ProxyArgs};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next() {
        Some(role) if role == "proxy" => run_proxy(arguments),
        _ => Err(anyhow::anyhow!("unknown role")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_proxy(arguments: impl Iterator<Item = std::ffi::OsString>) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let args = ProxyArgs::from_arguments(arguments)?;
    Ok(proxy::main(&args)?)
}
