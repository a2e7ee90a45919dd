//! Processes in a service's container: its client, a shell, dumps in and out, facts about it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::verbs::random_password;
use crate::build::neutralized;
use crate::container::{Io, ProcessSpec};
use crate::domain::{Actor, PluginName, Service, ServiceName, ServiceSettings};
use crate::platform::launch;
use crate::platform::pipeline::blocking;
use crate::platform::session::{Session, decorate, stdio};
use crate::platform::{Error, Kind, Platform, Result, RunRequest};
use crate::support::{report, tasks};
use crate::wire::ServiceStatus;

/// How long looking through all of a database's contents may take.
const CHECK: Duration = Duration::from_secs(3600);
/// Facts are counts and sums, one of each for a table.
const MAX_FACTS: u64 = 16 << 20;
/// How much of what a program complains about is told.
const MAX_COMPLAINT: u64 = 16 << 10;
const MAX_LINE: usize = 400;
const MAX_LINES: usize = 20;

impl Platform {
    /// The interactive client of a service.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it does not run.
    pub async fn connect_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        request: RunRequest,
    ) -> Result<Session> {
        let service = self.find_service(kind, name)?;
        let mut args = vec!["/plugin/bin/connect".to_owned()];
        args.extend(request.args.iter().cloned());
        let message = format!("connected to {}", service.title());
        self.note_named(None, "service.connected", &message, actor);
        let process = self.service_process(&service, args, Vec::new())?;
        self.join_service(&service, process, &request).await
    }

    /// A command in a service's container; a shell if none is named.
    ///
    /// # Errors
    /// As [`Platform::connect_service`].
    pub async fn enter_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        request: RunRequest,
    ) -> Result<Session> {
        let service = self.find_service(kind, name)?;
        let args = match request.args.is_empty() {
            true => vec!["/bin/bash".to_owned()],
            false => request.args.clone(),
        };
        let message = format!("entered {}", service.title());
        self.note_named(None, "service.entered", &message, actor);
        let process = self.service_process(&service, args, Vec::new())?;
        self.join_service(&service, process, &request).await
    }

    /// A dump of a service's contents, on the session's output.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it does not run or cannot be exported.
    pub async fn export_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Session> {
        let service = self.find_service(kind, name)?;
        self.exportable(&service)?;
        let message = format!("{} exported", service.title());
        self.note_named(None, "service.exported", &message, actor);
        self.service_exec_export(&service, Vec::new()).await
    }

    /// Replaces a service's contents by the dump that is written to the session's input.
    ///
    /// # Errors
    /// As [`Platform::export_service`].
    pub async fn import_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
    ) -> Result<Session> {
        let service = self.find_service(kind, name)?;
        self.exportable(&service)?;
        let message = format!("import into {} begun", service.title());
        self.note_named(None, "service.imported", &message, actor);
        self.service_exec_import(&service).await
    }

    /// # Errors
    /// `Conflict` if the type cannot be exported.
    pub(in crate::platform) fn exportable(&self, service: &Service) -> Result<()> {
        let kind = self.service_type(&service.kind)?;
        match kind.service().backup_extension {
            Some(_) => Ok(()),
            None => {
                let title = &kind.service().title;
                let message = format!("{title} keeps nothing that could be exported or imported");
                Err(Error::new(Kind::Conflict, message))
            }
        }
    }

    /// `bin/export`, whose standard output is the dump.
    ///
    /// # Errors
    /// `Conflict` if the service does not run.
    pub(in crate::platform) async fn service_exec_export(
        &self,
        service: &Service,
        env: Vec<(String, String)>,
    ) -> Result<Session> {
        let args = vec!["/plugin/bin/export".to_owned()];
        let process = self.service_process(service, args, env)?;
        self.join_service(service, process, &RunRequest::default()).await
    }

    /// `bin/import`, whose standard input is the dump.
    ///
    /// # Errors
    /// `Conflict` if the service does not run.
    pub(in crate::platform) async fn service_exec_import(
        &self,
        service: &Service,
    ) -> Result<Session> {
        let args = vec!["/plugin/bin/import".to_owned()];
        let process = self.service_process(service, args, Vec::new())?;
        self.join_service(service, process, &RunRequest::default()).await
    }

    /// What `bin/check` says of a service's contents.
    ///
    /// # Errors
    /// `Failed` with what the program complained about.
    pub(in crate::platform) async fn service_check(
        &self,
        service: &Service,
    ) -> Result<serde_json::Value> {
        let args = vec!["/plugin/bin/check".to_owned()];
        let process = self.service_process(service, args, Vec::new())?;
        let mut session = self.join_service(service, process, &RunRequest::default()).await?;
        drop(session.input.take());
        let output = reader(&session.output)?;
        let errors = session.errors.take().map(File::from);
        let work = async {
            let (text, complaint) = tokio::join!(read(Some(output), MAX_FACTS), complaint(errors));
            Ok::<_, Error>((session.wait().await?, text?, complaint?))
        };
        let (code, text, complaint) = tokio::time::timeout(CHECK, work).await.map_err(|_| {
            let message = format!("the check took longer than {} s", CHECK.as_secs());
            Error::new(Kind::Failed, message)
        })??;
        if code != 0 {
            return Err(failed("check", code, &complaint));
        }
        serde_json::from_slice(&text).map_err(|error| {
            Error::new(Kind::Failed, "what the check printed is no JSON").because(error)
        })
    }

    /// Whether a service takes clients.
    pub(in crate::platform) fn service_serves(&self, service: &Service) -> bool {
        let alive = self.service_alive(service.id);
        alive.is_some_and(|now| now.status == ServiceStatus::Running)
    }

    /// Any program in a service's container, as the service's user.
    ///
    /// # Errors
    /// `Conflict` if the service does not run.
    pub(in crate::platform) async fn service_exec(
        &self,
        service: &Service,
        args: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<Session> {
        let process = self.service_process(service, args, env)?;
        self.join_service(service, process, &RunRequest::default()).await
    }

    async fn join_service(
        &self,
        service: &Service,
        mut process: ProcessSpec,
        request: &RunRequest,
    ) -> Result<Session> {
        let alive = self.service_alive(service.id);
        let Some(running) = alive.filter(|now| now.status == ServiceStatus::Running) else {
            let message = format!("{} does not run", service.title());
            let hint = format!("run `staithe {}:start {}`", service.kind, service.name);
            return Err(Error::new(Kind::Conflict, message).hint(hint));
        };
        decorate(&mut process, request);
        let executed = self.runtime.exec(&running.container, &process, stdio(request)).await;
        let mut handle = executed.map_err(|error| {
            Error::new(Kind::Failed, format!("it cannot be executed: {}", report(&error)))
        })?;
        let io: Io =
            handle.io.take().ok_or_else(|| Error::internal("a process without pipes", "exec"))?;
        Session::guest(io, handle)
    }

    /// A service of the same type and image as `like`, empty, with a volume and a password of its
    /// own, that serves by now. Nobody sees it, and it is gone with the value, or at recovery.
    ///
    /// # Errors
    /// `Failed` if it does not start.
    pub(in crate::platform) async fn scratch_service(&self, like: &Service) -> Result<Scratch> {
        let kind = self.service_type(&like.kind)?;
        let name: ServiceName = format!("scratch-{}", launch::random_hex()?).parse()?;
        let settings = ServiceSettings { exposed: Vec::new(), ..like.settings.clone() };
        let mut draft = self.draft_service(&kind, name, settings, like.image.clone());
        draft.password = random_password()?;
        draft.scratch = true;
        // Names inside of a dump are those of the original.
        let service = self.make_service(&draft).await?;
        Ok(Scratch { platform: self.clone(), service })
    }
}

/// A hidden service, which is removed when this is dropped.
#[derive(Debug)]
pub(in crate::platform) struct Scratch {
    platform: Platform,
    service: Service,
}

impl Scratch {
    /// The service.
    pub(in crate::platform) fn service(&self) -> &Service {
        &self.service
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (platform, service) = (self.platform.clone(), self.service.clone());
        tasks::spawn("scratch-end", async move {
            let _lane = platform.0.services.lane(service.id).await;
            if let Err(error) = platform.remove_service(&service).await {
                tracing::error!(error = report(&error), "cannot remove a scratch service");
            }
        });
    }
}

/// Gives one process's output to another's input, until both have ended well.
///
/// # Errors
/// `Failed` with what either complained about.
pub(super) async fn pipe(mut from: Session, mut to: Session) -> Result<()> {
    drop(from.input.take());
    let mut output = reader(&from.output)?;
    let input = to.input.take().map(File::from);
    let sink = reader(&to.output)?;
    let (errors, other) = (from.errors.take().map(File::from), to.errors.take().map(File::from));
    let copy = blocking(move || match input {
        Some(mut input) => std::io::copy(&mut output, &mut input).map(drop),
        None => Ok(()),
    });
    let (copied, left, _, right) =
        tokio::join!(copy, complaint(errors), read(Some(sink), MAX_COMPLAINT), complaint(other));
    let (exported, imported) = tokio::join!(from.wait(), to.wait());
    let (exported, imported) = (exported?, imported?);
    if exported != 0 {
        return Err(failed("export", exported, &left?));
    }
    if imported != 0 {
        return Err(failed("import", imported, &right?));
    }
    copied?.map_err(|error| Error::new(Kind::Failed, "the copy broke off").because(error))
}

fn reader(fd: &OwnedFd) -> Result<File> {
    let copy = fd.try_clone().map_err(|error| Error::internal("cannot duplicate a pipe", error))?;
    Ok(File::from(copy))
}

/// Reads to the end, keeping no more than `limit`.
async fn read(file: Option<File>, limit: u64) -> Result<Vec<u8>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    blocking(move || {
        let mut kept = Vec::new();
        let mut limited = file.take(limit);
        limited.read_to_end(&mut kept)?;
        std::io::copy(&mut limited.into_inner(), &mut std::io::sink())?;
        Ok::<_, std::io::Error>(kept)
    })
    .await?
    .map_err(|error| Error::internal("cannot read what a program prints", error))
}

async fn complaint(file: Option<File>) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(file, MAX_COMPLAINT).await?).trim().to_owned())
}

fn failed(what: &str, code: i32, complaint: &str) -> Error {
    let lines: Vec<_> =
        complaint.lines().map(|line| neutralized(line, MAX_LINE)).take(MAX_LINES).collect();
    let shown = lines.join("\n");
    Error::new(Kind::Failed, format!("the {what} failed with exit code {code}")).hint(shown)
}
