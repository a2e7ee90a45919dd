//! A service's container: started, ready, watched, stopped.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{History, Running, ServiceType, locked};
use crate::container::{
    CgroupSpec, ContainerSpec, ContainerState, IdMap, Limits, LogSpec, Mount, ProcessSpec, Rootfs,
    Signal, Status, Stdio,
};
use crate::domain::{Actor, Service, ServiceId, ServiceState, Timestamp, VolumeName};
use crate::network::Egress;
use crate::platform::instances::describe;
use crate::platform::launch::{self, Purpose};
use crate::platform::{Error, Kind, Platform, Result, clock};
use crate::support::{report, tasks};
use crate::sys::fs::Space;
use crate::wire::ServiceStatus;

/// Ranges of host ids before those of services: the apps'.
const FIRST_RANGE: u32 = 3000;
const ID_RANGE: u32 = 65_536;
/// A server with a process for each client, and then some.
const PIDS: u32 = 2048;
const TMP: u64 = 64 << 20;
const SMALL_TMP: u64 = 16 << 20;
/// Less gladly killed than apps when the machine is out of memory.
const OOM_SCORE: u16 = 100;
/// How long a server may take to make its first data, or to go through its log after a crash.
const READY: Duration = Duration::from_secs(300);
/// Between two questions whether it is ready.
const FIRST_ASK: Duration = Duration::from_millis(20);
const LAST_ASK: Duration = Duration::from_millis(500);
/// How long one answer may take.
const ASK: Duration = Duration::from_secs(30);
/// One that was up for this long counts as healthy: its waits start from the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Lines of the log of one that does not start that are told.
const TOLD_LINES: usize = 10;
/// With less left than this, a disk is full: databases take room by the piece (PostgreSQL's log by
/// 16 MiB), and give back what was not all of one.
const LITTLE_ROOM: u64 = 16 << 20;

/// Whether a service's disk is full, or so nearly that servers end for it. Of a small one, an
/// eighth is enough.
pub(super) fn is_full(space: Space) -> bool {
    space.free < LITTLE_ROOM.min(space.size / 8)
}

impl Platform {
    /// What the file system of a service's data has, if it has one of its own.
    pub(super) async fn service_space(&self, service: &Service) -> Option<Space> {
        let volume = self.find_volume(&Self::service_volume(service).ok()?).ok()?;
        self.volume_space(&volume).await.ok().flatten()
    }

    /// Adds to the reason of an end that the disk is full, if it is: exit codes do not tell.
    async fn with_disk(&self, id: ServiceId, how: &str) -> String {
        let Ok(Some(service)) = self.store.service_by_id(id) else { return how.to_owned() };
        match self.service_space(&service).await {
            Some(space) if is_full(space) => {
                let (free, size) = (space.free >> 20, space.size >> 20);
                let (kind, name) = (&service.kind, &service.name);
                format!(
                    "{how}; its disk is full ({free} MiB of {size} MiB are free: run `staithe {kind}:set {name} size <more>`)"
                )
            }
            _ => how.to_owned(),
        }
    }

    /// The host ids that the service's ids are.
    pub(super) fn service_ids(&self, id: ServiceId) -> IdMap {
        let first = FIRST_RANGE + id.0;
        IdMap { host_base: self.settings().id_base + first * ID_RANGE, size: ID_RANGE }
    }

    /// Where a service's log is.
    pub(super) fn service_log_dir(&self, id: ServiceId) -> PathBuf {
        self.settings().data_dir.join("logs").join("services").join(id.to_string())
    }

    /// The name of the volume with a service's data.
    pub(super) fn service_volume(service: &Service) -> Result<VolumeName> {
        Ok(VolumeName::of_service(service.kind.as_str(), service.name.as_str())?)
    }

    /// What its container may use.
    pub(super) fn service_limits(service: &Service, kind: &ServiceType) -> Limits {
        let memory = service.settings.memory.map(|memory| memory.0);
        Limits {
            cpu_millis: service.settings.cpu.map(|cpu| cpu.0),
            memory_max: Some(memory.unwrap_or_else(|| kind.service().memory_bytes())),
            pids_max: Some(PIDS),
            ..Limits::default()
        }
    }

    /// The environment of everything that runs in a service's container.
    pub(super) fn service_env(
        &self,
        service: &Service,
        kind: &ServiceType,
    ) -> Result<Vec<(String, String)>> {
        let digest = service
            .image
            .parse()
            .map_err(|error| Error::internal("service without an image", error))?;
        let mut env = self.images.image(&digest)?.config.env;
        let memory = Self::service_limits(service, kind).memory_max.unwrap_or_default();
        let facts = [
            ("STAITHE_SERVICE", service.name.to_string()),
            ("STAITHE_SERVICE_TYPE", service.kind.to_string()),
            ("STAITHE_PASSWORD", service.password.expose().to_owned()),
            ("STAITHE_DATABASE", service.name.database()),
            ("STAITHE_PORT", kind.service().port.to_string()),
            ("STAITHE_MEMORY", memory.to_string()),
        ];
        env.extend(facts.map(|(key, value)| (key.to_owned(), value)));
        for setting in &kind.manifest().settings {
            let value = service.settings.options.get(&setting.key).or(setting.default.as_ref());
            env.extend(value.map(|value| (setting.variable(), value.clone())));
        }
        Ok(env)
    }

    /// A process of the service's user.
    pub(super) fn service_process(
        &self,
        service: &Service,
        args: Vec<String>,
        more: Vec<(String, String)>,
    ) -> Result<ProcessSpec> {
        let kind = self.service_type(&service.kind)?;
        let mut env = self.service_env(service, &kind)?;
        env.extend(more);
        Ok(launch::process(args, env, "/data"))
    }

    async fn service_spec(&self, service: &Service, kind: &ServiceType) -> Result<ContainerSpec> {
        let digest = service
            .image
            .parse()
            .map_err(|error| Error::internal("service without an image", error))?;
        let suffix = launch::random_hex()?;
        let id = format!("service-{}-{suffix}", service.id);
        let rootfs = Rootfs {
            lowers: self.images.image_layer_paths(&digest)?,
            upper: self.instance_dir(&id),
        };
        let cgroup = CgroupSpec {
            group: format!("service-{}-{}", service.kind, service.name),
            leaf: suffix.clone(),
            limits: Self::service_limits(service, kind),
            group_limits: Limits::default(),
        };
        let memory = cgroup.limits.memory_max.unwrap_or_default();
        let mut spec = ContainerSpec::new(&id, rootfs, self.service_ids(service.id), cgroup);
        spec.hostname = service.host();
        spec.read_only_root = true;
        // PostgreSQL's parallel queries share memory there; it counts as the container's.
        spec.shm_size = spec.shm_size.max(memory / 4);
        spec.oom_score_adj = OOM_SCORE;
        spec.mounts = self.standard_mounts(&spec, service.addresses(), &[])?;
        let volume = self.find_volume(&Self::service_volume(service)?)?;
        spec.mounts.extend([
            launch::read_only(kind.plugin.path(), "/plugin"),
            self.volume_mount(&volume, "/data", false).await?,
            Mount::Tmpfs { target: "/tmp".into(), size: TMP, mode: 0o1777 },
            Mount::Tmpfs { target: "/run".into(), size: SMALL_TMP, mode: 0o1777 },
        ]);
        spec.labels = [
            ("purpose", Purpose::Service.label().to_owned()),
            ("service", service.id.to_string()),
            ("v4", service.v4.to_string()),
            ("v6", service.v6.to_string()),
            ("started", clock::now().0.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        spec.log = Some(self.service_log(service, &suffix)?);
        let args = vec!["/plugin/bin/start".to_owned()];
        spec.process = Some(self.service_process(service, args, Vec::new())?);
        Ok(spec)
    }

    fn service_log(&self, service: &Service, suffix: &str) -> Result<LogSpec> {
        let directory = self.service_log_dir(service.id).join(service.kind.as_str());
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::internal("cannot make a log directory", error))?;
        Ok(LogSpec {
            path: directory.join(format!("{}-{suffix}.log", clock::now().0)),
            max_bytes: self.settings().log_file_bytes,
            files: 2,
        })
    }

    /// Starts a service's container and waits until it serves. The caller holds its lane.
    ///
    /// # Errors
    /// `Failed` with the end of its log; the container is gone then.
    pub(super) async fn start_service_container(&self, service: &Service) -> Result<()> {
        let kind = self.service_type(&service.kind)?;
        let spec = self.service_spec(service, &kind).await?;
        let started = async {
            let created = self.runtime.create(&spec, Stdio::Log).await?;
            self.attach_network(&created, service.addresses(), Egress::Closed).await?;
            self.runtime.start(&spec.id).await.map_err(|error| {
                let message = format!("{} cannot be started", service.title());
                Error::new(Kind::Failed, message).because(error)
            })
        };
        if let Err(error) = started.await {
            self.clean_up(&spec.id).await;
            return Err(error);
        }
        let running = Running {
            container: spec.id.clone(),
            status: ServiceStatus::Starting,
            started_at: clock::now(),
            ended: CancellationToken::new(),
        };
        self.watch_service(service.id, running.clone());
        self.await_ready(service, &running).await
    }

    async fn await_ready(&self, service: &Service, running: &Running) -> Result<()> {
        let ready = tokio::select! {
            biased;
            // Cancel-safe: only observes.
            () = running.ended.cancelled() => Err("it ended".to_owned()),
            // Dropped: a question under way is killed.
            ready = self.ask_until_ready(service, running) => ready,
        };
        let Err(why) = ready else {
            let services = &self.0.services;
            services.set_status(service.id, &running.container, ServiceStatus::Running);
            return Ok(());
        };
        let last = self.service_history(service.id, |history| history.last_exit.clone());
        let lines = self.last_service_lines(service.id, TOLD_LINES).await;
        let why = if running.ended.is_cancelled() { last.unwrap_or(why) } else { why };
        self.stop_service_container(service, Duration::ZERO).await;
        let message = format!("{} does not start: {why}", service.title());
        Err(Error::new(Kind::Failed, message).hint(lines.join("\n")))
    }

    async fn ask_until_ready(
        &self,
        service: &Service,
        running: &Running,
    ) -> std::result::Result<(), String> {
        let deadline = Instant::now() + READY;
        let mut wait = FIRST_ASK;
        loop {
            let asked = self.is_service_ready(service, &running.container).await;
            match asked {
                Ok(true) => return Ok(()),
                _ if Instant::now() >= deadline => {
                    return Err(format!("it is not ready after {} s", READY.as_secs()));
                }
                _ => tokio::time::sleep(wait).await,
            }
            wait = (wait * 5 / 4).min(LAST_ASK);
        }
    }

    async fn is_service_ready(&self, service: &Service, container: &str) -> Result<bool> {
        let process =
            self.service_process(service, vec!["/plugin/bin/ready".to_owned()], Vec::new())?;
        let mut handle = self.runtime.exec(container, &process, Stdio::Log).await?;
        match tokio::time::timeout(ASK, handle.wait()).await {
            Ok(record) => Ok(record?.success()),
            Err(_) => Ok(false),
        }
    }

    /// Puts a service's container under watch: its end is noticed, noted and cleaned up.
    fn watch_service(&self, id: ServiceId, running: Running) {
        locked(&self.0.services.running).insert(id, running.clone());
        let platform = self.clone();
        tasks::spawn("service", async move {
            let how = match platform.runtime.wait(&running.container).await {
                Ok(record) if record.oom_killed => "out of memory".to_owned(),
                Ok(record) => describe(&record),
                Err(error) => format!("its end could not be learned: {}", report(&error)),
            };
            platform.service_ended(id, &running, &how).await;
        });
    }

    async fn service_ended(&self, id: ServiceId, running: &Running, how: &str) {
        let before = self.0.services.running(id).map(|now| now.status);
        let wanted = !matches!(before, None | Some(ServiceStatus::Stopping));
        // Of one that is to end, the volume may be going as well.
        let how = if wanted { self.with_disk(id, how).await } else { how.to_owned() };
        self.service_history(id, |history| history.last_exit = Some(how.clone()));
        self.clean_up(&running.container).await;
        // A crash loop makes a log file each time.
        self.prune_log_dir(self.service_log_dir(id), self.default_log_bounds(), Vec::new()).await;
        // One that never was ready is reported by whoever waits for it.
        let was_ready = matches!(before, Some(ServiceStatus::Running | ServiceStatus::Paused));
        {
            let mut all = locked(&self.0.services.running);
            if let Some(now) = all.get_mut(&id)
                && now.container == running.container
            {
                match wanted {
                    true => now.status = ServiceStatus::Crashed,
                    false => drop(all.remove(&id)),
                }
            }
        }
        running.ended.cancel();
        if wanted && was_ready {
            self.start_service_later(id, clock::now().since(running.started_at), &how);
        }
    }

    /// Notes an end that nobody asked for, and starts the service again after a wait.
    pub(super) fn start_service_later(&self, id: ServiceId, up: Duration, how: &str) {
        let Ok(Some(service)) = self.store.service_by_id(id) else { return };
        let delay = self.service_history(id, |history| {
            if up >= HEALTHY_AFTER {
                history.backoff.reset();
            }
            history.restarts += 1;
            history.backoff.next_delay()
        });
        let title = service.title();
        let message = format!("{title} ended: {how}; starting it again in {} s", delay.as_secs());
        self.note_named(None, "service.crashed", &message, &Actor::platform());
        let platform = self.clone();
        tasks::spawn("service-restart", async move {
            tokio::time::sleep(delay).await;
            platform.converge_service(id).await;
        });
    }

    /// Makes a service do what it should: after a crash, at boot. What fails is tried again later.
    pub(super) async fn converge_service(&self, id: ServiceId) {
        let _lane = self.0.services.lane(id).await;
        let Ok(Some(service)) = self.store.service_by_id(id) else { return };
        let alive = self.service_alive(id).is_some();
        if service.state == ServiceState::Stopped || alive {
            return;
        }
        let started = async {
            self.start_service_container(&service).await?;
            match service.state {
                ServiceState::Paused => self.pause_service_container(&service).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = started.await {
            tracing::error!(error = report(&error), service = service.title(), "cannot start");
            self.start_service_later(id, Duration::ZERO, &error.to_string());
        }
    }

    /// The service's container, if it lives.
    pub(super) fn service_alive(&self, id: ServiceId) -> Option<Running> {
        let running = self.0.services.running(id)?;
        (running.status != ServiceStatus::Crashed).then_some(running)
    }

    pub(super) fn service_history<T>(
        &self,
        id: ServiceId,
        work: impl FnOnce(&mut History) -> T,
    ) -> T {
        work(locked(&self.0.services.histories).entry(id).or_default())
    }

    /// Ends a service's container; returns when nothing of it is left. The caller holds its lane.
    pub(super) async fn stop_service_container(&self, service: &Service, grace: Duration) {
        let Some(running) = self.0.services.running(service.id) else { return };
        let container = running.container.as_str();
        self.0.services.set_status(service.id, container, ServiceStatus::Stopping);
        let signal = self
            .service_type(&service.kind)
            .map_or(Signal::TERM, |kind| Signal(kind.service().stop_signal_number()));
        match self.runtime.stop(container, signal, grace).await {
            Ok(_) | Err(crate::container::Error::NotFound { .. }) => {}
            Err(error) => {
                tracing::error!(container, error = report(&error), "cannot stop a container");
            }
        }
        self.clean_up(container).await;
        let mut all = locked(&self.0.services.running);
        if all.get(&service.id).is_some_and(|now| now.container == container) {
            all.remove(&service.id);
        }
    }

    /// How long a service may take to end.
    pub(super) fn service_grace(&self, service: &Service) -> Duration {
        let kind = self.service_type(&service.kind);
        kind.map_or(Duration::from_secs(30), |kind| kind.service().stop_grace())
    }

    /// Freezes a service where it is. The caller holds its lane.
    pub(super) async fn pause_service_container(&self, service: &Service) -> Result<()> {
        let Some(running) = self.service_alive(service.id) else { return Ok(()) };
        self.runtime.pause(&running.container).await?;
        self.0.services.set_status(service.id, &running.container, ServiceStatus::Paused);
        Ok(())
    }

    /// At recovery: takes a service's container over, or answers that nobody wants it.
    pub(in crate::platform) fn adopt_service(&self, container: &ContainerState) -> Result<bool> {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let id = label("service").and_then(|id| id.parse().ok()).map(ServiceId);
        let Some(id) = id else { return Ok(false) };
        let Some(service) = self.store.service_by_id(id)? else { return Ok(false) };
        let paused = matches!(container.status, Status::Paused { .. });
        let alive = paused || matches!(container.status, Status::Running { .. });
        let same = label("v4") == Some(service.v4.to_string().as_str());
        if !alive || !same || service.scratch || service.state == ServiceState::Stopped {
            return Ok(false);
        }
        let status = if paused { ServiceStatus::Paused } else { ServiceStatus::Running };
        let started = label("started").and_then(|at| at.parse().ok()).unwrap_or_default();
        let running = Running {
            container: container.id.clone(),
            status,
            started_at: Timestamp(started),
            ended: CancellationToken::new(),
        };
        self.watch_service(id, running);
        Ok(true)
    }

    /// Before containers are adopted: what services own is theirs, whatever runs; ports are open.
    ///
    /// # Errors
    /// If the store or the network cannot be asked.
    pub(in crate::platform) async fn recover_services(&self) -> Result<()> {
        for service in self.store.services()? {
            if let Err(error) = self.network.reserve(service.addresses()) {
                // The operator has changed the pools.
                let title = service.title();
                tracing::warn!(error = report(&error), service = title, "it gets another address");
                let addresses = self.network.allocate()?;
                self.network.reserve(addresses)?;
                let (v4, v6) = (addresses.v4, addresses.v6);
                self.store.set_service(&Service { v4, v6, ..service })?;
            }
        }
        // The rules were loaded anew without them; clients of exposed ports are waiting.
        self.refresh_exposures().await
    }

    /// After containers were adopted: edges are set, and leftovers removed.
    ///
    /// # Errors
    /// If the store or the network cannot be asked.
    pub(in crate::platform) async fn prepare_services(&self) -> Result<()> {
        self.refresh_edges().await?;
        for service in self.store.services()?.into_iter().filter(|service| service.scratch) {
            self.remove_service(&service).await?;
        }
        Ok(())
    }

    /// Starts the services that should run. Returns when all serve or have failed to.
    pub(in crate::platform) async fn start_services(&self) {
        let services = self.store.services().unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "cannot list the services");
            Vec::new()
        });
        let starts = services.iter().map(|service| async {
            self.converge_service(service.id).await;
            if self.service_alive(service.id).is_some_and(|running| {
                running.status == ServiceStatus::Paused && service.state == ServiceState::Running
            }) {
                let resumed = self.resume_service_container(service).await;
                if let Err(error) = resumed {
                    tracing::error!(error = report(&error), "cannot let a service go on");
                }
            }
        });
        futures_util::future::join_all(starts).await;
    }

    /// Lets a frozen service go on. The caller holds its lane.
    pub(super) async fn resume_service_container(&self, service: &Service) -> Result<()> {
        let Some(running) = self.service_alive(service.id) else { return Ok(()) };
        self.runtime.resume(&running.container).await?;
        self.0.services.set_status(service.id, &running.container, ServiceStatus::Running);
        Ok(())
    }

    /// Before everything is taken down: the ends that follow are wanted.
    pub(in crate::platform) fn services_stopping(&self) {
        for running in locked(&self.0.services.running).values_mut() {
            running.status = ServiceStatus::Stopping;
        }
    }

    /// How to take down a container of a service.
    pub(in crate::platform) fn take_down_manner(
        &self,
        container: &ContainerState,
    ) -> Option<(Signal, Duration)> {
        let id = container.labels.get("service")?.parse().ok().map(ServiceId)?;
        let service = self.store.service_by_id(id).ok()??;
        let kind = self.service_type(&service.kind).ok()?;
        Some((Signal(kind.service().stop_signal_number()), kind.service().stop_grace()))
    }
}
