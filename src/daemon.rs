//! The control plane's process: builds everything in order, runs it, stops it in reverse.
//!
//! ```text
//!  store ─ images ─ runtime ─ network ─ repositories ─ lifecycle ─ proxy ─ platform ─ recover
//!        ─ control socket ─ ssh ─ housekeeping      (Running → Draining → Stopping)
//! ```
//!
//! Containers and the proxy outlive this process, unless it is ephemeral.

mod doors;
mod housekeeping;
mod website;

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Config, LogFormat};
use crate::platform::{Parts, Platform};
use crate::support::shutdown::{self, Phase};
use crate::support::{report, tasks};
use crate::{
    api, build, certificate, container, dashboard, git, image, network, plugin, proxy, series, ssh,
    store,
};

/// `staithe serve`: runs the control plane in the foreground.
#[derive(Debug, Parser)]
#[command(name = "staithe serve")]
pub struct Args {
    /// The operator's file; one that is named must exist.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Outranks `server.data_dir` of the file.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Outranks `server.run_dir` of the file.
    #[arg(long)]
    run_dir: Option<PathBuf>,
    /// Outranks a setting of the file, as `section.key=value`; may be given again.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// Takes everything down at the end: apps, proxy, links, firewall. Data stays.
    #[arg(long)]
    ephemeral: bool,
}

impl Args {
    fn load(&self) -> Result<Config, config::Error> {
        let path = self.config.clone().unwrap_or_else(|| config::DEFAULT_PATH.into());
        let mut settings = self.settings.clone();
        let directories = [("data_dir", &self.data_dir), ("run_dir", &self.run_dir)];
        let given = directories.iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        settings.extend(given.map(|(key, path)| format!("server.{key}={}", path.display())));
        Config::load(&path, self.config.is_some(), &settings)
    }
}

/// The role's entry. Logs go to standard error.
pub fn main(args: Args) -> ExitCode {
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    start_logging(&config.log);
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&error),
        };
    match runtime.block_on(run(config, args.ephemeral)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "there is no log before the configuration is read")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!(" !     {}", report(error));
    ExitCode::FAILURE
}

/// Sets the process's log up: also for the proxy, which has the same format.
pub fn start_logging(log: &config::Log) {
    let filter = tracing_subscriber::EnvFilter::new(&log.filter);
    // A line that cannot be written (a full disk) is lost. To say so on standard error, which is what
    // it cannot be written to, would be a panic in whoever logs.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match log.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn run(mut config: Config, ephemeral: bool) -> anyhow::Result<()> {
    prepare_directories(&config).context("prepare the directories")?;
    // Early, since routes lead to it from recovery on; connections wait until it serves.
    let website = website::Website::bind(&config).await?;
    config.platform.web_address = website.address();
    let platform = open(&config).await?;
    let recovery =
        platform.recover().await.context("recover what an earlier control plane left")?;
    tracing::info!(?recovery, "recovered");
    platform.start_drains().await;
    let (controller, shutdown) = shutdown::channel();
    let doors = doors::Doors::new(&config, platform.clone());
    let socket = bind_control_socket(&config)?;
    let ssh = ssh::Server::bind(
        config.ssh.clone(),
        &config.server.data_dir.join("keys"),
        doors.clone(),
        doors.clone(),
    )
    .context("start the SSH server")?;
    let addresses = ssh.local_addresses();
    addresses.iter().for_each(|address| platform.add_listener("ssh", *address));
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let web = website.local_addresses();
    let dashboard = dashboard::Dashboard::open(platform.clone()).context("read the templates")?;
    let dashboard = dashboard.router();
    let website = tasks::spawn(
        "web",
        website.serve(&config, platform.clone(), doors.clone(), dashboard, shutdown.clone()),
    );
    web.iter().for_each(|address| platform.add_listener("web", *address));
    let web: Vec<_> = web.iter().map(ToString::to_string).collect();
    let api = {
        let (platform, config, shutdown) = (platform.clone(), config.clone(), shutdown.clone());
        let trusted = doors.trusted_users();
        tasks::spawn("api", async move {
            api::serve(socket, &config.api, platform, Arc::new(doors), &trusted, shutdown).await;
        })
    };
    serve_metrics(&config, &platform, &shutdown).await?;
    let ssh = tasks::spawn("ssh", ssh.run(shutdown.clone()));
    let keepers = start_keepers(&platform, &shutdown);
    announce(&config, &platform, &addresses, &web)?;
    wait_for_signal().await?;
    tracing::info!("draining");
    controller.advance(Phase::Draining);
    let drained = async { tokio::join!(ssh, api, website) };
    tokio::pin!(drained);
    let deadline = Duration::from_secs(config.server.shutdown_timeout_s);
    let finished = tokio::select! {
        // Cancel-safe: pinned, and awaited again below.
        _ = &mut drained => true,
        // Cancel-safe: only observe.
        () = tokio::time::sleep(deadline) => false,
        _ = wait_for_signal() => false,
    };
    controller.advance(Phase::Stopping);
    if !finished && tokio::time::timeout(deadline, drained).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
    if ephemeral {
        platform.take_down().await;
        remove_run_dir(&config.server.run_dir);
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens the addresses that are for monitoring systems alone.
async fn serve_metrics(
    config: &Config,
    platform: &Platform,
    shutdown: &shutdown::Shutdown,
) -> anyhow::Result<()> {
    for address in &config.api.metrics_listen {
        let listener = api::bind_metrics(*address).await;
        let listener = listener.with_context(|| format!("listen on {address} for metrics"))?;
        platform.add_listener("metrics", listener.local_addr().unwrap_or(*address));
        let serve = api::serve_metrics(listener, platform.clone(), shutdown.clone());
        drop(tasks::spawn("metrics", serve));
    }
    Ok(())
}

/// Starts what looks after things on its own.
fn start_keepers(
    platform: &Platform,
    shutdown: &shutdown::Shutdown,
) -> [tokio::task::JoinHandle<()>; 4] {
    let both = || (platform.clone(), shutdown.clone());
    let housekeeping = {
        let (platform, shutdown) = both();
        tasks::spawn("housekeeping", housekeeping::run(platform, shutdown))
    };
    let (platform, shutdown) = both();
    let certificates =
        tasks::spawn("certificates", async move { platform.keep_certificates(shutdown).await });
    let (platform, shutdown) = both();
    let timers = tasks::spawn("timers", async move { platform.keep_timers(shutdown).await });
    let (platform, shutdown) = both();
    let sampler = tasks::spawn("sampler", async move { platform.keep_sampling(shutdown).await });
    [housekeeping, certificates, timers, sampler]
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Opens the mechanisms, lowest first.
async fn open(config: &Config) -> anyhow::Result<Platform> {
    let data = &config.server.data_dir;
    let run = &config.server.run_dir;
    let executable = install_executable(data).context("install the program for hooks")?;
    let store = store::Store::open(&data.join("staithe.db")).context("open the store")?;
    let images = image::ImageStore::open(&data.join("images"), config.images.clone())
        .context("open the image store")?;
    let runtime = container::Runtime::open(container::Config {
        run_dir: run.clone(),
        prefix: config.server.instance.clone(),
        ..container::Config::default()
    })
    .context("open the container runtime")?;
    let network =
        network::Network::open(network_config(config)).await.context("open the network")?;
    for problem in network.problems().await.context("look at the host's firewall")? {
        tracing::warn!(code = problem.code, remedy = problem.remedy, "{}", problem.sentence);
    }
    let repositories = git::Repositories::open(
        config.git.clone(),
        git::Places {
            root: data.join("repos"),
            hook_executable: executable.clone(),
            control_socket: config.control_socket(),
        },
    )
    .context("open the repositories")?;
    let lifecycle = build::Lifecycle::open(config.build.clone(), &data.join("buildpacks"))
        .context("load the buildpacks")?;
    let certificates =
        certificate::Certificates::open(config.certificates.clone(), data, config.proxy.user.gid)
            .context("open the certificates")?;
    let proxy = proxy::Supervisor::ensure_running(proxy::SupervisorSpec {
        program: executable,
        run_dir: run.clone(),
        data_dir: data.clone(),
        config: config.proxy.clone(),
        log: proxy::LogSettings {
            filter: config.log.filter.clone(),
            json: config.log.format == LogFormat::Json,
        },
    })
    .await
    .context("start the proxy")?;
    let plugins = plugin::Folders::open(&data.join("plugins")).context("open the plugins")?;
    let series = series::Series::open(&data.join("metrics.db"), config.metrics.clone())
        .context("open the metrics")?;
    let parts = Parts {
        store,
        images,
        runtime,
        network,
        repositories,
        lifecycle,
        proxy,
        certificates,
        plugins,
        series,
    };
    Ok(Platform::new(config.platform.clone(), parts))
}

/// Apps may reach the proxy's ports, and so each other by their public URLs.
fn network_config(config: &Config) -> network::Config {
    let mut network = config.network.clone();
    let listen = config.proxy.http_listen.iter().chain(&config.proxy.https_listen);
    let ports = listen.map(std::net::SocketAddr::port);
    network.open_host_ports.extend(ports.filter(|port| *port != 0));
    network
}

fn prepare_directories(config: &Config) -> std::io::Result<()> {
    let data = &config.server.data_dir;
    let directory =
        |path: &Path, mode| std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    // Hooks and the proxy have users of their own and pass through; secrets below are 0700.
    directory(data, 0o755)?;
    directory(&config.server.run_dir, 0o755)?;
    for secret in ["keys", "logs", "cache", "instances", "builds", "volumes"] {
        directory(&data.join(secret), 0o700)?;
    }
    proxy::prepare_directories(data, config.proxy.user).map_err(std::io::Error::other)?;
    Ok(())
}

/// Copies this program to where the repositories' owner may execute it, and where it stays the one
/// that the daemon speaks with, also while the installed one is being replaced.
fn install_executable(data: &Path) -> std::io::Result<PathBuf> {
    let target = data.join("bin").join("staithe");
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(data.join("bin"))?;
    let source = std::fs::read("/proc/self/exe")?;
    if std::fs::read(&target).is_ok_and(|current| current == source) {
        return Ok(target);
    }
    crate::support::atomic_file::write(&target, &source, 0o755)?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
    Ok(target)
}

/// All users may connect: who they are is asked of the kernel, and most are told no.
fn bind_control_socket(config: &Config) -> anyhow::Result<UnixListener> {
    let path = config.control_socket();
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context("remove an old control socket"),
    }
    let listener = UnixListener::bind(&path).context("bind the control socket")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Says where everything is, in the log and in a file that scripts may wait for.
fn announce(
    config: &Config,
    platform: &Platform,
    ssh: &[String],
    web: &[String],
) -> anyhow::Result<()> {
    let listening = platform.proxy.listening()?;
    let texts = |addresses: &[std::net::SocketAddr]| -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    };
    let (http, https) = (texts(&listening.listen), texts(&listening.https));
    tracing::info!(http = http.join(" "), https = https.join(" "), ssh = ssh.join(" "), web = web.join(" "), run_dir = %config.server.run_dir.display(), "serving");
    let state = serde_json::json!({
        "pid": std::process::id(), "http": http, "https": https, "ssh": ssh, "web": web,
    });
    let path = config.server.run_dir.join("serving.json");
    crate::support::atomic_file::write_volatile(&path, state.to_string().as_bytes(), 0o644)
        .context("write serving.json")
}

fn remove_run_dir(run_dir: &Path) {
    for name in ["control.sock", "serving.json"] {
        // What is gone already need not be removed.
        let _ = std::fs::remove_file(run_dir.join(name));
    }
    for name in ["containers", "instances"] {
        let _ = std::fs::remove_dir_all(run_dir.join(name));
    }
    // Fails where others keep files in it, which is right.
    let _ = std::fs::remove_dir(run_dir);
}
