//! Where a plugin's program runs: a fresh container for each call, gone after it.
//!
//! Inside are the plugin's folder (read-only, `/plugin`), what it keeps (`/data`), 16 MiB of memory
//! at `/tmp`, nothing of an app's and, unless it was granted, no network but loopback. The ids are
//! a range that no app has, and another one for each call that goes on at the same time.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Plugin;
use crate::build::ca_environment;
use crate::container::{
    CgroupSpec, ContainerSpec, ExitRecord, IdMap, Io, Limits, Mount, Rlimit, Rootfs, Stdio,
};
use crate::domain::{PluginName, Timestamp};
use crate::network::Addresses;
use crate::platform::pipeline::blocking;
use crate::platform::services::ImageFor;
use crate::platform::{Error, Kind, Platform, Result, RunRequest, clock, launch};
use crate::plugin::{Ended, MAX_ANSWER, MAX_ERRORS, check_data};
use crate::support::{report, tasks};

/// Calls that something waits for, at once.
const ASKED: usize = 4;
/// Calls that nothing waits for, at once: slow plugins keep no question waiting.
const TOLD: usize = 4;
/// Commands of users, at once.
const COMMANDS: usize = 8;
/// The first range of ids after those of apps and services, 65,536 ids each.
const FIRST_RANGE: u32 = 4050;
const RANGES: usize = 40;
const ID_RANGE: u32 = 65_536;
/// What a plugin may use.
const MEMORY: u64 = 256 << 20;
const PIDS: u32 = 64;
const CPU_MILLIS: u32 = 1000;
const TMP: u64 = 16 << 20;
/// The largest file it may write: what it keeps is on the host's disk.
const FILE: u64 = 64 << 20;
/// How long the pipes of a dead container may take to say so.
const LINGER: Duration = Duration::from_secs(1);

/// The cages that are in use.
#[derive(Debug)]
pub(super) struct Cages {
    asked: Arc<Semaphore>,
    told: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    ranges: Mutex<[bool; RANGES]>,
}

impl Default for Cages {
    fn default() -> Self {
        let semaphore = |count| Arc::new(Semaphore::new(count));
        Self {
            asked: semaphore(ASKED),
            told: semaphore(TOLD),
            commands: semaphore(COMMANDS),
            ranges: Mutex::new([false; RANGES]),
        }
    }
}

/// One run of a plugin's program.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Relative to the plugin's folder.
    pub(super) program: &'a str,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// What it reads.
    pub(super) input: Vec<u8>,
    /// After this long it is killed; waiting for its turn counts.
    pub(super) deadline: Duration,
    /// Whether something waits for it.
    pub(super) asked: bool,
}

/// What a program speaks through, and what its user's terminal is like.
pub(super) type Terms<'a> = (Stdio, Option<&'a RunRequest>);

/// A container of a plugin's, which is killed and removed when this is dropped.
#[derive(Debug)]
pub(super) struct Cage {
    platform: Platform,
    pub(super) container: String,
    range: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Cage {
    pub(super) fn platform(&self) -> &Platform {
        &self.platform
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let (platform, container) = (self.platform.clone(), self.container.clone());
        let (range, permit) = (self.range, self.permit.take());
        tasks::spawn("plugin-end", async move {
            // `clean_up` reports what fails; a container that has ended is no failure.
            let _ = platform.runtime.kill(&container).await;
            platform.clean_up(&container).await;
            // Its ids are free once nothing of it is left.
            platform.0.plugins.cages.ranges()[range] = false;
            drop(permit);
        });
    }
}

impl Cages {
    fn ranges(&self) -> std::sync::MutexGuard<'_, [bool; RANGES]> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_range(&self) -> Option<usize> {
        let mut ranges = self.ranges();
        let free = ranges.iter().position(|taken| !taken)?;
        ranges[free] = true;
        Some(free)
    }

    async fn permit(&self, kind: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(kind).acquire_owned().await;
        permit.map_err(|error| Error::internal("no turns for plugins", error))
    }
}

impl Platform {
    /// Runs a program of a plugin's to its end.
    ///
    /// # Errors
    /// `Failed` where it cannot be run, does not end in time or prints too much.
    pub(super) async fn run_plugin(&self, plugin: &Arc<Plugin>, call: Call<'_>) -> Result<Ended> {
        let (deadline, asked) = (call.deadline, call.asked);
        let work = async {
            let cages = &self.0.plugins.cages;
            let permit = cages.permit(if asked { &cages.asked } else { &cages.told }).await?;
            let (cage, io) = self.open_cage(plugin, &call, (Stdio::Pipes, None), permit).await?;
            let Io::Pipes { stdin, stdout, stderr } = io else {
                return Err(Error::internal("a plugin without pipes", "stdio"));
            };
            converse(&cage, [stdin, stdout, stderr], &call.input).await
        };
        // Dropped: the cage is, and with it all that runs in it.
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
            let message = format!("took longer than {} s and was stopped", deadline.as_secs());
            Err(Error::new(Kind::Failed, message))
        })
    }

    /// A turn for a command of a user's.
    pub(super) fn command_permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0.plugins.cages.commands).try_acquire_owned().map_err(|_| {
            Error::new(Kind::Unavailable, "too many commands of plugins are running")
                .hint("wait until one of them ends and try again")
        })
    }

    /// Starts a program of a plugin's in a cage.
    pub(super) async fn open_cage(
        &self,
        plugin: &Arc<Plugin>,
        call: &Call<'_>,
        terms: Terms<'_>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Cage, Io)> {
        // Looked at before each call: a single one is bounded by its deadline.
        let data = self.plugins.data(plugin.name())?;
        blocking(move || check_data(&data)).await??;
        let range = self.0.plugins.cages.take_range().ok_or_else(|| {
            Error::new(Kind::Unavailable, "all ranges of ids for plugins are in use")
        })?;
        let name = plugin.name();
        let container = format!("plugin-{name}-{}", launch::random_hex()?);
        // From here on whatever happens is cleared away.
        let cage = Cage { platform: self.clone(), container, range, permit: Some(permit) };
        let addresses = match plugin.stored.network {
            true => Some(self.network.allocate()?),
            false => None,
        };
        let started = self.start_cage(plugin, call, terms, &cage, addresses).await;
        if let (Err(_), Some(addresses)) = (&started, addresses) {
            self.network.release(addresses);
        }
        Ok((cage, started?))
    }

    async fn start_cage(
        &self,
        plugin: &Arc<Plugin>,
        call: &Call<'_>,
        (stdio, request): Terms<'_>,
        cage: &Cage,
        addresses: Option<Addresses>,
    ) -> Result<Io> {
        let mut spec = self.cage_spec(plugin, call, cage, addresses)?;
        if let (Some(request), Some(process)) = (request, &mut spec.process) {
            crate::platform::session::decorate(process, request);
        }
        let created = self.runtime.create(&spec, stdio).await?;
        if let Some(addresses) = addresses {
            self.attach_network(&created, addresses, crate::network::Egress::Open).await?;
        }
        self.runtime.start(&spec.id).await.map_err(|error| {
            let program = call.program;
            Error::new(Kind::Failed, format!("`{program}` cannot be run: {}", report(&error)))
        })?;
        Ok(created.io)
    }

    fn cage_spec(
        &self,
        plugin: &Plugin,
        call: &Call<'_>,
        cage: &Cage,
        addresses: Option<Addresses>,
    ) -> Result<ContainerSpec> {
        let id = &cage.container;
        let rootfs = Rootfs { lowers: self.plugin_lowers(plugin)?, upper: self.instance_dir(id) };
        std::fs::create_dir_all(&rootfs.upper)
            .map_err(|error| Error::internal("cannot make a container's directory", error))?;
        let first = u32::try_from(cage.range).unwrap_or_default() + FIRST_RANGE;
        let host_base = self.settings().id_base + first * ID_RANGE;
        let limits = Limits {
            cpu_millis: Some(CPU_MILLIS),
            memory_max: Some(MEMORY),
            pids_max: Some(PIDS),
            ..Limits::default()
        };
        let cgroup = CgroupSpec {
            group: format!("plugin-{}", plugin.name()),
            leaf: id.rsplit('-').next().unwrap_or_default().to_owned(),
            limits,
            group_limits: Limits::default(),
        };
        let mut spec = ContainerSpec::new(id, rootfs, IdMap { host_base, size: ID_RANGE }, cgroup);
        spec.hostname = plugin.name().to_string();
        spec.read_only_root = true;
        spec.shm_size = TMP;
        spec.labels = labels(plugin.name(), clock::now());
        if let Some(addresses) = addresses {
            spec.mounts = self.standard_mounts(&spec, addresses, &[])?;
        }
        spec.mounts.extend([
            launch::read_only(plugin.path(), "/plugin"),
            Mount::BindIdmapped {
                source: self.plugins.data(plugin.name())?,
                target: "/data".into(),
                read_only: false,
            },
            Mount::Tmpfs { target: "/tmp".into(), size: TMP, mode: 0o1777 },
        ]);
        let mut args = vec![format!("/plugin/{}", call.program)];
        args.extend(call.args.iter().cloned());
        let mut process = launch::process(args, cage_environment(call, addresses), "/data");
        process.rlimits.push(Rlimit { resource: "fsize".into(), soft: FILE, hard: FILE });
        spec.process = Some(process);
        Ok(spec)
    }

    /// What a plugin's programs run on.
    fn plugin_lowers(&self, plugin: &Plugin) -> Result<Vec<std::path::PathBuf>> {
        let packages = &plugin.manifest().runtime.packages;
        if !packages.is_empty() {
            let made = self.made_image(ImageFor::Plugin, plugin.name(), packages)?;
            let digest = made.ok_or_else(|| {
                let message = format!("its image with {} has not been made", packages.join(", "));
                Error::new(Kind::Failed, message)
                    .hint(format!("run `staithe plugin:enable {}`", plugin.name()))
            })?;
            return Ok(self.images.image_layer_paths(&digest)?);
        }
        let name = &self.settings().default_stack;
        let stack = self.store.stack(name)?.ok_or_else(|| {
            Error::new(Kind::Conflict, format!("stack `{name}` has not been made yet"))
                .hint(format!("run `staithe stack:build {name}` on the server, once"))
        })?;
        let digest = stack
            .run_image
            .parse()
            .map_err(|error| Error::internal("stack without an image", error))?;
        Ok(self.images.image_layer_paths(&digest)?)
    }
}

fn labels(plugin: &PluginName, started: Timestamp) -> std::collections::BTreeMap<String, String> {
    [
        ("purpose", "plugin".to_owned()),
        ("plugin", plugin.to_string()),
        ("started", started.0.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn cage_environment(call: &Call<'_>, addresses: Option<Addresses>) -> Vec<(String, String)> {
    let fixed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/data"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
    ];
    let mut env = call.env.clone();
    env.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if addresses.is_some() {
        env.extend(ca_environment());
    }
    env
}

/// Gives the program what it reads and takes what it prints, until it has ended.
async fn converse(cage: &Cage, pipes: [OwnedFd; 3], input: &[u8]) -> Result<Ended> {
    let [stdin, stdout, stderr] = pipes;
    let failed = |error: std::io::Error| Error::internal("cannot speak with a plugin", error);
    let mut sender = pipe::Sender::from_owned_fd(stdin).map_err(failed)?;
    let stdout = pipe::Receiver::from_owned_fd(stdout).map_err(failed)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr).map_err(failed)?;
    let write = async move {
        // A program need not read what it is told.
        let _ = sender.write_all(input).await;
        drop(sender);
        Ok::<(), Error>(())
    };
    let read = async {
        let (stdout, stderr) =
            tokio::try_join!(read_all(stdout), async { Ok(read_some(stderr).await) })?;
        Ok::<_, Error>((stdout, stderr))
    };
    let end = async {
        let record = cage.platform.runtime.wait(&cage.container).await?;
        Ok::<_, Error>(record)
    };
    tokio::pin!(read, write);
    let mut both = std::pin::pin!(async { tokio::try_join!(&mut write, &mut read) });
    tokio::pin!(end);
    let (record, output) = tokio::select! {
        // Cancel-safe: both are pinned, and awaited again below.
        output = &mut both => (None, Some(output?.1)),
        record = &mut end => (Some(record?), None),
    };
    let record: ExitRecord = match record {
        Some(record) => record,
        None => end.await?,
    };
    let (stdout, stderr) = match output {
        Some(output) => output,
        // All of its processes are dead, so the pipes are at their ends.
        None => {
            tokio::time::timeout(LINGER, both)
                .await
                .map_err(|error| Error::internal("a plugin's pipes do not end", error))??
                .1
        }
    };
    if record.oom_killed {
        let message = format!("used more than its {} MiB of memory", MEMORY >> 20);
        return Err(Error::new(Kind::Failed, message));
    }
    let code = record.code.or(record.signal.map(|signal| 128 + signal)).unwrap_or(255);
    Ok(Ended { code, stdout, stderr })
}

/// All that is printed, unless it is too much.
async fn read_all(reader: impl AsyncRead + Unpin) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = reader.take(MAX_ANSWER as u64 + 1);
    limited
        .read_to_end(&mut bytes)
        .await
        .map_err(|error| Error::internal("cannot read what a plugin prints", error))?;
    match bytes.len() > MAX_ANSWER {
        true => Err(Error::new(Kind::Failed, "printed more than 1 MiB and was stopped")),
        false => Ok(bytes),
    }
}

/// The end of what is printed; what comes before it is thrown away.
async fn read_some(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    // Not on the stack: this is part of the future of every push.
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * MAX_ERRORS {
            kept.drain(..kept.len() - MAX_ERRORS);
        }
    }
    kept.drain(..kept.len().saturating_sub(MAX_ERRORS));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_on_standard_output_ends_and_on_standard_error_is_cut() {
        let flood = vec![b'x'; MAX_ANSWER + 1];
        let error = read_all(flood.as_slice()).await.unwrap_err();
        assert_eq!(error.to_string(), "printed more than 1 MiB and was stopped");
        assert_eq!(read_all(&flood[1..]).await.unwrap().len(), MAX_ANSWER);
        let mut noise = vec![b'x'; 10 * MAX_ERRORS];
        noise.extend(b"the reason");
        let kept = read_some(noise.as_slice()).await;
        assert_eq!(kept.len(), MAX_ERRORS);
        assert!(kept.ends_with(b"the reason"));
    }

    #[test]
    fn a_range_is_one_calls_at_a_time() {
        let cages = Cages::default();
        let taken: std::collections::BTreeSet<_> =
            std::iter::from_fn(|| cages.take_range()).collect();
        assert_eq!(taken.len(), RANGES);
        cages.ranges()[7] = false;
        assert_eq!(cages.take_range(), Some(7));
    }
}
