//! Services: created, listed, cloned, stopped, removed.

use serde_json::json;
use tokio::sync::mpsc;

use super::images::ImageFor;
use super::running::is_full;
use super::{ServiceType, locked};
use crate::build::Output;
use crate::domain::{
    Actor, Bytes, DirectoryMode, PluginName, Secret, Service, ServiceId, ServiceName,
    ServiceSettings, ServiceState,
};
use crate::logs::Places;
use crate::platform::volumes::NewVolume;
use crate::platform::{
    Error, Journal, Kind, LogLine, LogQuery, Operation, Platform, Result, clock,
};
use crate::plugin::Hook;
use crate::wire::{LinkReport, NewService, ServiceReport, ServiceStatus};

/// 128 bits, as Dokku's `openssl rand -hex 16`.
const PASSWORD_BYTES: usize = 16;
/// A password becomes part of a URL and of configuration files.
const MAX_PASSWORD: usize = 128;
/// The least memory that any server starts with.
const MIN_MEMORY: Bytes = Bytes(16 << 20);

impl Platform {
    /// All services of a type, by name.
    ///
    /// # Errors
    /// `NotFound` for an unknown type.
    pub async fn services_of(&self, kind: &PluginName) -> Result<Vec<ServiceReport>> {
        self.service_type(kind)?;
        let mut reports = Vec::new();
        for service in self.visible_services(Some(kind))? {
            reports.push(self.report_service(&service).await?);
        }
        Ok(reports)
    }

    /// One service.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn service(&self, kind: &PluginName, name: &ServiceName) -> Result<ServiceReport> {
        self.report_service(&self.find_service(kind, name)?).await
    }

    pub(super) async fn report_service(&self, service: &Service) -> Result<ServiceReport> {
        let kind = self.service_type(&service.kind)?;
        let running = self.0.services.running(service.id);
        let status = match (&running, service.state) {
            (Some(running), _) => running.status,
            (None, ServiceState::Stopped) => ServiceStatus::Stopped,
            (None, _) => ServiceStatus::Crashed,
        };
        let stats = match &running {
            // One that is just ending has no figures.
            Some(running) => self.runtime.stats(&running.container).await.ok(),
            None => None,
        };
        let (restarts, last_exit) = self
            .service_history(service.id, |history| (history.restarts, history.last_exit.clone()));
        let volume = self.find_volume(&Self::service_volume(service)?);
        let space = self.service_space(service).await;
        let data_dir = match volume {
            Ok(volume) => self
                .ensure_mounted(&volume)
                .await
                .map_or_else(|_| String::new(), |directory| directory.display().to_string()),
            Err(_) => String::new(),
        };
        let ports = std::iter::once(&kind.service().port).chain(&kind.service().more);
        let memory = Self::service_limits(service, &kind).memory_max.unwrap_or_default();
        Ok(ServiceReport {
            id: service.id.0,
            kind: service.kind.clone(),
            name: service.name.clone(),
            status,
            version: kind.manifest().version.clone(),
            created_at: service.created_at,
            dsn: kind.url(service),
            host: service.host(),
            internal_ip: service.v4,
            ports: ports.map(|port| port.get()).collect(),
            exposed: service.settings.exposed.clone(),
            links: self.links_of(service)?,
            memory_limit: Bytes(memory),
            cpu_limit: service.settings.cpu,
            memory_bytes: stats.map(|stats| stats.memory_bytes),
            disk_limit: service.settings.size,
            disk_bytes: space.map(|space| space.size.saturating_sub(space.free)),
            disk_full: space.is_some_and(is_full),
            settings: service.settings.options.clone(),
            data_dir,
            restarts,
            last_exit,
            image: service.image.clone(),
            last_verified_backup: self.last_verified_backup(&service.kind, &service.name)?,
        })
    }

    pub(super) fn links_of(&self, service: &Service) -> Result<Vec<LinkReport>> {
        let mut links = Vec::new();
        for link in self.store.service_links()? {
            if link.service == service.id
                && let Some(app) = self.store.app_by_id(link.app)?
            {
                links.push(LinkReport {
                    kind: service.kind.clone(),
                    service: service.name.clone(),
                    app: app.name,
                    variable: link.variable,
                });
            }
        }
        links.sort_by(|a, b| a.app.cmp(&b.app));
        Ok(links)
    }

    /// Makes the image that services of a type run on, unless it is there.
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `Failed` where packages cannot be had.
    pub async fn install_service_type(&self, kind: &PluginName) -> Result<Operation<()>> {
        self.enabled_plugin(kind)?;
        let kind = self.service_type(kind)?;
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let (name, packages) = (&kind.manifest().name, &kind.service().packages);
            platform.ensure_image(ImageFor::Service, name, packages, &output).await?;
            Ok(())
        }))
    }

    /// Makes a service and starts it.
    ///
    /// # Errors
    /// `NotFound` for an unknown type, `Conflict` if the name is taken, `Invalid`; the operation
    /// fails with `Failed` where the server does not start, and nothing of it is left then.
    pub async fn create_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        new: NewService,
    ) -> Result<Operation<ServiceReport>> {
        self.enabled_plugin(kind)?;
        let kind = self.service_type(kind)?;
        check_new(&new)?;
        self.name_is_free(&self.draft_service(
            &kind,
            new.name.clone(),
            ServiceSettings::default(),
            String::new(),
        ))?;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let settings = ServiceSettings {
                memory: new.memory,
                cpu: new.cpu,
                size: new.size,
                ..ServiceSettings::default()
            };
            let (name, packages) = (&kind.manifest().name, &kind.service().packages);
            let image = platform.ensure_image(ImageFor::Service, name, packages, &output).await?;
            output.step(&format!("Creating {name} service {}", new.name));
            let draft =
                platform.draft_service(&kind, new.name.clone(), settings, image.to_string());
            let draft =
                Service { password: new.password.map_or_else(random_password, Ok)?, ..draft };
            let service = platform.make_service(&draft).await?;
            platform.service_created(&service, &actor);
            output.section(&format!("{} container created: {}", kind.service().title, new.name));
            platform.report_service(&service).await
        }))
    }

    /// Whether a drafted service may be called so. Its host name must be its own as well: an app that
    /// is linked to two of the same would reach one of them by both addresses.
    ///
    /// # Errors
    /// `Conflict`.
    fn name_is_free(&self, draft: &Service) -> Result<()> {
        if self.store.service(&draft.kind, &draft.name)?.is_some() {
            let message = format!("{} already exists", draft.title());
            return Err(Error::new(Kind::Conflict, message));
        }
        let host = draft.host();
        let others = self.store.services()?;
        match others.iter().find(|other| other.host() == host) {
            Some(other) => {
                let (draft, other) = (draft.title(), other.title());
                let message =
                    format!("{draft} would have the host name of {other}, which is `{host}`");
                Err(Error::new(Kind::Conflict, message).hint(
                    "choose another name; host names know no upper case, and `_` in them becomes `-`",
                ))
            }
            None => Ok(()),
        }
    }

    /// A service that is in no store yet.
    pub(super) fn draft_service(
        &self,
        kind: &ServiceType,
        name: ServiceName,
        settings: ServiceSettings,
        image: String,
    ) -> Service {
        Service {
            id: ServiceId(0),
            kind: kind.manifest().name.clone(),
            name,
            created_at: clock::now(),
            state: ServiceState::Running,
            image,
            password: Secret::new(""),
            v4: std::net::Ipv4Addr::UNSPECIFIED,
            v6: std::net::Ipv6Addr::UNSPECIFIED,
            settings,
            scratch: false,
        }
    }

    /// Keeps a drafted service and starts it; answers when it serves.
    ///
    /// # Errors
    /// With nothing left behind.
    pub(super) async fn make_service(&self, draft: &Service) -> Result<Service> {
        let addresses = self.network.allocate()?;
        self.network.reserve(addresses)?;
        let draft = Service { v4: addresses.v4, v6: addresses.v6, ..draft.clone() };
        let service = match self.keep_draft(&draft) {
            Ok(service) => service,
            Err(error) => {
                self.network.free(addresses);
                return Err(error);
            }
        };
        let _lane = self.0.services.lane(service.id).await;
        let started = async {
            let volume = NewVolume {
                name: Self::service_volume(&service)?,
                size: service.settings.size,
                mode: DirectoryMode::default(),
                host_dir: None,
            };
            self.make_volume(volume).await?;
            self.start_service_container(&service).await
        };
        if let Err(error) = started.await {
            // The first failure is the one to tell; what is left is listed, and can be destroyed.
            if let Err(second) = self.remove_service(&service).await {
                tracing::error!(
                    error = crate::support::report(&second),
                    service = service.title(),
                    "cannot remove what is left of a service"
                );
            }
            return Err(error);
        }
        Ok(service)
    }

    /// Keeps a draft if its name is free. Names are asked for and taken one at a time.
    fn keep_draft(&self, draft: &Service) -> Result<Service> {
        let _turn = locked(&self.0.services.names);
        self.name_is_free(draft)?;
        Ok(self.store.add_service(draft)?)
    }

    pub(super) fn service_created(&self, service: &Service, actor: &Actor) {
        let message = format!("{} created", service.title());
        self.note_named(None, "service.created", &message, actor);
        self.notify(Hook::PostServiceCreate, None, service_json(service));
    }

    /// Removes a service with its data.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while an app is linked to it.
    pub async fn destroy_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<()> {
        let service = self.find_service(kind, name)?;
        let edges = self.0.services.edges.lock().await;
        let links = self.links_of(&service)?;
        if let Some(link) = links.first() {
            let message = format!("{} is linked to app `{}`", service.title(), link.app);
            return Err(Error::new(Kind::Conflict, message)
                .hint(format!("run `staithe {kind}:unlink {name} {}` first", link.app)));
        }
        let _lane = self.0.services.lane(service.id).await;
        self.remove_service(&service).await?;
        drop(edges);
        self.note_named(
            None,
            "service.destroyed",
            &format!("{} destroyed", service.title()),
            actor,
        );
        self.notify(Hook::PostServiceDestroy, None, service_json(&service));
        Ok(())
    }

    /// Removes everything of a service.
    pub(super) async fn remove_service(&self, service: &Service) -> Result<()> {
        let stopped = Service { state: ServiceState::Stopped, ..service.clone() };
        self.store.set_service(&stopped)?;
        if !service.settings.exposed.is_empty() {
            self.refresh_exposures().await?;
        }
        // Its data goes: there is nothing to bring to a good end.
        self.stop_service_container(service, std::time::Duration::ZERO).await;
        if let Ok(volume) = self.find_volume(&Self::service_volume(service)?) {
            self.remove_volume(&volume).await?;
        }
        self.discard_tree(self.service_log_dir(service.id)).await;
        self.store.remove_service(service.id)?;
        self.network.free(service.addresses());
        self.0.services.forget(service.id);
        Ok(())
    }

    /// Makes a service of the same type, settings and contents.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`; the operation fails with `Failed` where the contents cannot be
    /// copied, and there is no copy then.
    pub async fn clone_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        from: &ServiceName,
        to: ServiceName,
    ) -> Result<Operation<ServiceReport>> {
        let source = self.find_service(kind, from)?;
        let kind = self.service_type(kind)?;
        self.name_is_free(&Service { name: to.clone(), ..source.clone() })?;
        self.exportable(&source)?;
        let (actor, from) = (actor.clone(), from.clone());
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            output.step(&format!("Cloning {} service {from} to {to}", source.kind));
            let settings = ServiceSettings { exposed: Vec::new(), ..source.settings.clone() };
            let draft = platform.draft_service(&kind, to, settings, source.image.clone());
            let draft = Service { password: random_password()?, ..draft };
            let service = platform.make_service(&draft).await?;
            if let Err(error) = platform.copy_contents(&source, &service, &output).await {
                let _lane = platform.0.services.lane(service.id).await;
                platform.remove_service(&service).await?;
                return Err(error);
            }
            platform.service_created(&service, &actor);
            platform.report_service(&service).await
        }))
    }

    async fn copy_contents(&self, from: &Service, to: &Service, output: &Output) -> Result<()> {
        output.step("Copying its contents");
        let export = self.service_exec_export(from, Vec::new()).await?;
        let import = self.service_exec_import(to).await?;
        // On the heap: it holds two sessions and what is in the pipes.
        Box::pin(super::sessions::pipe(export, import)).await
    }

    /// Starts a stopped service, or lets a paused one go on.
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `Failed` where the server does not start.
    pub async fn start_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Operation<()>> {
        self.move_service(actor, kind, name, Move::Start).await
    }

    /// Stops a service, until it is started.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stop_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Operation<()>> {
        self.move_service(actor, kind, name, Move::Stop).await
    }

    /// Stops a service and starts it again, with its settings as they are now.
    ///
    /// # Errors
    /// As [`Platform::start_service`].
    pub async fn restart_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Operation<()>> {
        self.move_service(actor, kind, name, Move::Restart).await
    }

    /// Freezes a service where it is, until it is started.
    ///
    /// # Errors
    /// `NotFound`; the operation fails with `Conflict` if it does not run.
    pub async fn pause_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Operation<()>> {
        self.move_service(actor, kind, name, Move::Pause).await
    }

    async fn move_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        way: Move,
    ) -> Result<Operation<()>> {
        let id = self.find_service(kind, name)?.id;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            let _lane = platform.0.services.lane(id).await;
            let service = platform
                .store
                .service_by_id(id)?
                .ok_or_else(|| Error::new(Kind::NotFound, "the service was destroyed meanwhile"))?;
            let (verb, event, state) = way.words();
            output.step(&format!("{verb} {}", service.title()));
            platform.carry_out(&Service { state, ..service.clone() }, way).await?;
            let message = format!("{verb} {}", service.title());
            platform.note_named(None, event, &message, &actor);
            Ok(())
        }))
    }

    /// `service` is as it should be from now on.
    async fn carry_out(&self, service: &Service, way: Move) -> Result<()> {
        let alive = self.service_alive(service.id);
        let paused = alive.as_ref().is_some_and(|now| now.status == ServiceStatus::Paused);
        if way == Move::Pause && alive.is_none() {
            return Err(Error::new(Kind::Conflict, format!("{} does not run", service.title())));
        }
        self.store.set_service(service)?;
        if paused && way != Move::Pause {
            self.resume_service_container(service).await?;
        }
        match way {
            Move::Start if alive.is_some() => Ok(()),
            Move::Start => self.begin(service).await,
            Move::Pause => self.pause_service_container(service).await,
            Move::Stop | Move::Restart => {
                self.stop_service_container(service, self.service_grace(service)).await;
                if way == Move::Restart { self.begin(service).await } else { Ok(()) }
            }
        }
    }

    pub(super) async fn begin(&self, service: &Service) -> Result<()> {
        locked(&self.0.services.histories).remove(&service.id);
        let started = self.start_service_container(service).await;
        if let Err(error) = &started {
            // It is to run: what is in the way may go.
            self.start_service_later(service.id, std::time::Duration::ZERO, &error.to_string());
        }
        started
    }

    /// A service's log lines, oldest first; ends unless `tail`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn service_logs(
        &self,
        kind: &PluginName,
        name: &ServiceName,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>> {
        let service = self.find_service(kind, name)?;
        let places = Places { app: self.service_log_dir(service.id), router: None };
        crate::platform::logs::follow(places, query, i64::MIN)
    }

    /// The last lines of a service's log.
    pub(super) async fn last_service_lines(&self, id: ServiceId, count: usize) -> Vec<String> {
        let query = LogQuery { num: Some(count), ..LogQuery::default() };
        let places = Places { app: self.service_log_dir(id), router: None };
        let mut texts = Vec::new();
        let Ok(mut lines) = crate::platform::logs::follow(places, query, i64::MIN) else {
            return texts;
        };
        while let Some(line) = lines.recv().await {
            texts.push(line.text);
        }
        texts
    }
}

/// What becomes of a running or stopped service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Start,
    Stop,
    Restart,
    Pause,
}

impl Move {
    fn words(self) -> (&'static str, &'static str, ServiceState) {
        match self {
            Self::Start => ("Starting", "service.started", ServiceState::Running),
            Self::Stop => ("Stopping", "service.stopped", ServiceState::Stopped),
            Self::Restart => ("Restarting", "service.restarted", ServiceState::Running),
            Self::Pause => ("Pausing", "service.paused", ServiceState::Paused),
        }
    }
}

/// What plugins are told of a service; nothing secret.
pub(super) fn service_json(service: &Service) -> serde_json::Value {
    json!({ "service": service.name.to_string(), "service_type": service.kind.to_string() })
}

/// Characters that no URL, shell or configuration file takes for anything else.
pub(super) fn random_password() -> Result<Secret> {
    let mut bytes = [0; PASSWORD_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal("no random numbers", error.to_string()))?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

fn check_new(new: &NewService) -> Result<()> {
    if let Some(password) = &new.password {
        let good = |c: u8| c.is_ascii_alphanumeric() || b"_-".contains(&c);
        let text = password.expose();
        if !(8..=MAX_PASSWORD).contains(&text.len()) || !text.bytes().all(good) {
            let message = "a service's password must be 8 to 128 letters, digits, `_` or `-`";
            return Err(Error::new(Kind::Invalid, message));
        }
    }
    check_memory(new.memory)
}

pub(super) fn check_memory(memory: Option<Bytes>) -> Result<()> {
    match memory {
        Some(memory) if memory < MIN_MEMORY => Err(Error::new(
            Kind::Invalid,
            format!("a service needs {MIN_MEMORY} of memory or more"),
        )),
        _ => Ok(()),
    }
}
