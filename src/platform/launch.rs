//! From a release to a container: image, environment, mounts, quotas.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Error, Platform, Result, clock};
use crate::build::{CA_BUNDLE, ca_environment};
use crate::container::{
    CgroupSpec, ContainerSpec, IdMap, Limits, LogSpec, Mount, ProcessSpec, Rlimit, Rootfs,
};
use crate::domain::{
    App, AppId, ConfigVars, PortMap, ProcessType, Release, ReleaseVersion, ResourceSettings,
    Resources, Timestamp,
};
use crate::network::Addresses;

/// Host ids of one container: the range of a whole image.
const ID_RANGE: u32 = 65_536;
/// The user that apps and builds run as, inside; made by every stack.
pub(super) const APP_USER: u32 = 1000;
/// The port that a process is told to listen on unless its config says otherwise (Dokku's default).
const DEFAULT_PORT: u16 = 5000;
/// Open files: what systemd gives services, enough for servers with thousands of connections.
const OPEN_FILES: u64 = 65_536;

/// What a container is for, as its label says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Instance,
    OneOff,
    Build,
    Service,
}

impl Purpose {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::OneOff => "one-off",
            Self::Build => "build",
            Self::Service => "service",
        }
    }

    pub(super) fn from_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let purposes = [Self::Instance, Self::OneOff, Self::Build, Self::Service];
        purposes
            .into_iter()
            .find(|purpose| labels.get("purpose").is_some_and(|label| label == purpose.label()))
    }
}

/// A container to start, and what is known of it beside its spec.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) spec: ContainerSpec,
    pub(super) port: u16,
    pub(super) started_at: Timestamp,
}

/// What the containers of an app have in common.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) app: &'a App,
    pub(super) purpose: Purpose,
    /// `web.1`, `run.1234`, `build.7`: part of the id, the host name and the log's path.
    pub(super) name: &'a str,
    pub(super) lowers: Vec<PathBuf>,
    pub(super) limits: Limits,
    pub(super) resources: &'a ResourceSettings,
    pub(super) addresses: Addresses,
}

impl Platform {
    /// An instance of a release.
    pub(super) async fn instance_launch(
        &self,
        app: &App,
        release: &Release,
        wanted: &super::plan::Wanted,
        addresses: Addresses,
    ) -> Result<Launch> {
        let name = wanted.name.to_string();
        let process_type = &wanted.name.process_type;
        let command = release.processes.get(process_type).ok_or_else(|| {
            Error::internal(
                "release without a command",
                format!("{} has no `{process_type}`", release.version),
            )
        })?;
        let mut launch =
            self.release_launch(app, release, Purpose::Instance, &name, addresses).await?;
        let spec = &mut launch.spec;
        let facts = [
            ("name", name.clone()),
            ("release", release.version.0.to_string()),
            ("fingerprint", wanted.fingerprint.clone()),
            ("port", launch.port.to_string()),
        ];
        spec.labels.extend(facts.map(|(key, value)| (key.to_owned(), value)));
        let log = (name.as_str(), launch.started_at, release.version);
        spec.log = Some(self.log_spec(app.id, log, &spec.id)?);
        let env = self.process_env(release, &name, Some(launch.port))?;
        spec.process = Some(process(command.args.clone(), env, &command.working_dir));
        Ok(launch)
    }

    /// The frame of any container of a release; its process is still to be set.
    pub(super) async fn release_launch(
        &self,
        app: &App,
        release: &Release,
        purpose: Purpose,
        name: &str,
        addresses: Addresses,
    ) -> Result<Launch> {
        let digest = release
            .image
            .parse()
            .map_err(|error| Error::internal("release without an image", error))?;
        let process_type = name.split('.').next().unwrap_or(name).parse()?;
        // First, since a volume that is gone must leave nothing of the container behind.
        let mut volumes = Vec::new();
        for wanted in release.mounts.of_type(&process_type) {
            // Boxed: it is rare, and every deploy would carry its room.
            let mount = Box::pin(self.app_mount(wanted)).await;
            volumes.push(mount.inspect_err(|_| self.network.release(addresses))?);
        }
        let frame = Frame {
            app,
            purpose,
            name,
            lowers: self.images.image_layer_paths(&digest)?,
            limits: instance_limits(&release.resources, &process_type),
            resources: &release.resources,
            addresses,
        };
        let mut spec = self.container_spec(&frame)?;
        spec.mounts.extend(volumes);
        let port = app_port(&release.config_in_force(), &self.store.front(app.id)?.ports);
        Ok(Launch { spec, port, started_at: clock::now() })
    }

    /// The spec that every container of an app starts from: ids, files, quotas, labels.
    pub(super) fn container_spec(&self, frame: &Frame<'_>) -> Result<ContainerSpec> {
        let id = format!("{}-{}-{}", frame.app.id, frame.name, random_hex()?);
        let rootfs = Rootfs { lowers: frame.lowers.clone(), upper: self.instance_dir(&id) };
        let cgroup = CgroupSpec {
            group: format!("{}-{}", frame.app.name, frame.app.id),
            leaf: format!("{}-{}", frame.name, id.rsplit('-').next().unwrap_or_default()),
            limits: frame.limits.clone(),
            group_limits: limits(frame.resources.whole_app()),
        };
        let mut spec = ContainerSpec::new(&id, rootfs, self.id_map(frame.app.id), cgroup);
        spec.hostname = hostname(frame.app, frame.name);
        let services = self.service_hosts(frame.app.id)?;
        spec.mounts = self.standard_mounts(&spec, frame.addresses, &services)?;
        spec.labels = [
            ("purpose", frame.purpose.label().to_owned()),
            ("app", frame.app.id.to_string()),
            ("v4", frame.addresses.v4.to_string()),
            ("v6", frame.addresses.v6.to_string()),
            ("started", clock::now().0.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        Ok(spec)
    }

    /// The host ids that the app's ids are.
    pub(super) fn id_map(&self, app: AppId) -> IdMap {
        IdMap { host_base: self.settings().id_base + app.0 * ID_RANGE, size: ID_RANGE }
    }

    pub(super) fn standard_mounts(
        &self,
        spec: &ContainerSpec,
        addresses: Addresses,
        others: &[(String, Addresses)],
    ) -> Result<Vec<Mount>> {
        let directory = self.instance_run_dir(&spec.id);
        let failed = |error| Error::internal("cannot write a container's host files", error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        std::fs::create_dir_all(&spec.rootfs.upper).map_err(failed)?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            crate::support::atomic_file::write_volatile(&path, text.as_bytes(), 0o644)
                .map_err(failed)?;
            Ok(path)
        };
        let hosts = write("hosts", &self.network.hosts(&spec.hostname, addresses, others))?;
        let resolver = write("resolv.conf", &self.network.resolv_conf())?;
        let mut mounts =
            vec![read_only(hosts, "/etc/hosts"), read_only(resolver, "/etc/resolv.conf")];
        if let Some(bundle) = self.settings().build.host_ca_bundle() {
            mounts.push(read_only(bundle, CA_BUNDLE));
        }
        Ok(mounts)
    }

    /// The environment of a process of a release: image, certificates, config vars, then what the
    /// platform says.
    pub(super) fn process_env(
        &self,
        release: &Release,
        name: &str,
        port: Option<u16>,
    ) -> Result<Vec<(String, String)>> {
        let digest = release
            .image
            .parse()
            .map_err(|error| Error::internal("release without an image", error))?;
        let image = self.images.image(&digest)?;
        let mut env: BTreeMap<String, String> = image.config.env.into_iter().collect();
        env.extend(ca_environment());
        env.entry("HOME".into()).or_insert_with(|| "/app".into());
        env.extend(
            release
                .config_in_force()
                .iter()
                .map(|(key, value)| (key.to_string(), value.expose().to_owned())),
        );
        env.insert("DYNO".into(), name.to_owned());
        env.extend(release.commit.iter().map(|commit| ("GIT_REV".to_owned(), commit.clone())));
        env.extend(port.map(|port| ("PORT".to_owned(), port.to_string())));
        Ok(env.into_iter().collect())
    }

    pub(super) fn log_spec(
        &self,
        app: AppId,
        (name, started, release): (&str, Timestamp, ReleaseVersion),
        container: &str,
    ) -> Result<LogSpec> {
        let directory = self.log_dir(app).join(name);
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::internal("cannot make a log directory", error))?;
        let suffix = container.rsplit('-').next().unwrap_or_default();
        Ok(LogSpec {
            path: directory.join(format!("{}-{release}-{suffix}.log", started.0)),
            max_bytes: self.settings().log_file_bytes.min(self.log_bounds(app)?.max_bytes / 4),
            files: 2,
        })
    }

    /// Where an app's logs are.
    pub(super) fn log_dir(&self, app: AppId) -> PathBuf {
        self.settings().data_dir.join("logs").join(app.to_string())
    }

    /// Where a container keeps what it writes.
    pub(super) fn instance_dir(&self, container: &str) -> PathBuf {
        self.settings().data_dir.join("instances").join(container)
    }

    /// Where the files mounted into a container are.
    pub(super) fn instance_run_dir(&self, container: &str) -> PathBuf {
        self.settings().run_dir.join("instances").join(container)
    }
}

/// `$PORT`: what a config var says, else the container port of the app's first mapping (as in
/// Dokku), else 5000.
pub(super) fn app_port(config: &ConfigVars, ports: &PortMap) -> u16 {
    let var = config.iter().find(|(key, _)| key.as_str() == "PORT");
    var.and_then(|(_, value)| value.expose().parse().ok())
        .or_else(|| ports.first_container_port())
        .unwrap_or(DEFAULT_PORT)
}

/// A process as the app's user.
pub(super) fn process(args: Vec<String>, env: Vec<(String, String)>, cwd: &str) -> ProcessSpec {
    ProcessSpec {
        args,
        env,
        cwd: cwd.to_owned(),
        uid: APP_USER,
        gid: APP_USER,
        rlimits: vec![Rlimit { resource: "nofile".into(), soft: OPEN_FILES, hard: OPEN_FILES }],
        ..ProcessSpec::default()
    }
}

/// A host file or directory, read-only inside.
pub(super) fn read_only(source: impl AsRef<Path>, target: &str) -> Mount {
    Mount::Bind { source: source.as_ref().to_owned(), target: target.into(), read_only: true }
}

/// Quotas in the container runtime's words.
pub(super) fn limits(resources: Resources) -> Limits {
    Limits {
        cpu_millis: resources.cpu.map(|cpu| cpu.0),
        memory_max: resources.memory.map(|memory| memory.0),
        pids_max: resources.pids,
        ..Limits::default()
    }
}

/// The quotas of an instance with what is reserved for it.
pub(super) fn instance_limits(settings: &ResourceSettings, process_type: &ProcessType) -> Limits {
    let reserved = settings.reserved.get(process_type).and_then(|reserved| reserved.memory);
    Limits {
        memory_low: reserved.map(|memory| memory.0),
        ..limits(settings.instance(process_type))
    }
}

/// `shop-web-1`: a host name may hold no dot of ours, and 64 bytes at most (sethostname(2)).
fn hostname(app: &App, name: &str) -> String {
    format!("{}-{name}", app.name).replace('.', "-").chars().take(63).collect()
}

/// Eight characters that no other container has.
pub(super) fn random_hex() -> Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal("no random numbers", error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
