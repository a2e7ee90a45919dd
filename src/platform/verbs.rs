//! Signatures.
#![allow(clippy::todo, clippy::unused_async, unused_variables, reason = "signatures first")]
use tokio::sync::mpsc;

use super::*;
use crate::domain::*;

type Result<T> = std::result::Result<T, Error>;

impl Platform {
    pub async fn create_app(&self, actor: &Actor, name: &AppName) -> Result<App> {
        todo!()
    }
    pub async fn apps(&self) -> Result<Vec<AppReport>> {
        todo!()
    }
    pub async fn app(&self, name: &AppName) -> Result<AppReport> {
        todo!()
    }
    pub async fn destroy_app(&self, actor: &Actor, name: &AppName) -> Result<()> {
        todo!()
    }
    pub async fn rename_app(&self, actor: &Actor, from: &AppName, to: &AppName) -> Result<App> {
        todo!()
    }
    pub async fn clone_app(
        &self,
        actor: &Actor,
        from: &AppName,
        to: &AppName,
        skip_deploy: bool,
    ) -> Result<Operation<App>> {
        todo!()
    }
    pub async fn set_deploy_branch(
        &self,
        actor: &Actor,
        name: &AppName,
        branch: Option<BranchName>,
    ) -> Result<()> {
        todo!()
    }

    pub async fn config(&self, name: &AppName) -> Result<ConfigVars> {
        todo!()
    }
    /// Outcome: the new release, none where nothing was deployed.
    pub async fn change_config(
        &self,
        actor: &Actor,
        name: &AppName,
        change: ConfigChange,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        todo!()
    }

    pub async fn processes(&self, name: &AppName) -> Result<ProcessReport> {
        todo!()
    }
    pub async fn scale(
        &self,
        actor: &Actor,
        name: &AppName,
        counts: Vec<(ProcessType, u32)>,
    ) -> Result<Operation<Option<ReleaseVersion>>> {
        todo!()
    }
    pub async fn start(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        todo!()
    }
    pub async fn stop(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        todo!()
    }
    pub async fn restart(&self, actor: &Actor, name: &AppName) -> Result<Operation<()>> {
        todo!()
    }
    pub async fn rebuild(
        &self,
        actor: &Actor,
        name: &AppName,
    ) -> Result<Operation<ReleaseVersion>> {
        todo!()
    }

    /// Newest first.
    pub async fn releases(&self, name: &AppName, limit: usize) -> Result<Vec<Release>> {
        todo!()
    }
    pub async fn release(&self, name: &AppName, version: ReleaseVersion) -> Result<Release> {
        todo!()
    }
    /// To `version`, or to the last one that succeeded before the current one.
    pub async fn rollback(
        &self,
        actor: &Actor,
        name: &AppName,
        version: Option<ReleaseVersion>,
    ) -> Result<Operation<ReleaseVersion>> {
        todo!()
    }

    pub async fn builds(&self, name: &AppName, limit: usize) -> Result<Vec<Build>> {
        todo!()
    }
    pub async fn build(&self, name: &AppName, id: BuildId) -> Result<Build> {
        todo!()
    }
    /// The build's output from its first line; live while it runs.
    pub async fn build_output(&self, name: &AppName, id: BuildId) -> Result<Journal> {
        todo!()
    }
    /// The given one, or the one going on.
    pub async fn cancel_build(
        &self,
        actor: &Actor,
        name: &AppName,
        id: Option<BuildId>,
    ) -> Result<Build> {
        todo!()
    }

    /// Lines oldest first; ends unless `tail`.
    pub async fn logs(&self, name: &AppName, query: LogQuery) -> Result<mpsc::Receiver<LogLine>> {
        todo!()
    }

    pub async fn run(&self, actor: &Actor, name: &AppName, request: RunRequest) -> Result<Session> {
        todo!()
    }
    pub async fn enter(
        &self,
        actor: &Actor,
        name: &AppName,
        request: RunRequest,
    ) -> Result<Session> {
        todo!()
    }

    pub async fn domains(&self, name: &AppName) -> Result<DomainReport> {
        todo!()
    }
    pub async fn add_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        todo!()
    }
    pub async fn remove_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        todo!()
    }
    /// Replaces them; an empty list goes back to the default.
    pub async fn set_domains(
        &self,
        actor: &Actor,
        name: &AppName,
        domains: Vec<Hostname>,
    ) -> Result<DomainReport> {
        todo!()
    }
    pub async fn global_domains(&self) -> Result<Vec<Hostname>> {
        todo!()
    }
    pub async fn set_global_domains(&self, actor: &Actor, domains: Vec<Hostname>) -> Result<()> {
        todo!()
    }

    pub async fn resources(&self, name: &AppName) -> Result<ResourceReport> {
        todo!()
    }
    /// Takes effect at once on running instances, without a restart, and makes a release.
    pub async fn set_limits(
        &self,
        actor: &Actor,
        name: &AppName,
        scope: ResourceScope,
        change: ResourceChange,
    ) -> Result<ResourceReport> {
        todo!()
    }
    pub async fn set_reservations(
        &self,
        actor: &Actor,
        name: &AppName,
        scope: ResourceScope,
        change: ResourceChange,
    ) -> Result<ResourceReport> {
        todo!()
    }

    pub async fn checks(&self, name: &AppName) -> Result<CheckReport> {
        todo!()
    }
    /// Keys: enabled, deadline, uptime, drain, stop; values in seconds (or true/false); none = default.
    pub async fn set_check(
        &self,
        actor: &Actor,
        name: &AppName,
        key: &str,
        value: Option<&str>,
    ) -> Result<CheckReport> {
        todo!()
    }
    pub async fn run_checks(&self, name: &AppName) -> Result<Vec<CheckResult>> {
        todo!()
    }

    pub async fn ssh_keys(&self) -> Result<Vec<SshKey>> {
        todo!()
    }
    pub async fn add_ssh_key(&self, actor: &Actor, name: &str, public_key: &str) -> Result<SshKey> {
        todo!()
    }
    /// By name or fingerprint.
    pub async fn remove_ssh_key(&self, actor: &Actor, key: &str) -> Result<()> {
        todo!()
    }

    pub async fn stacks(&self) -> Result<Vec<StackReport>> {
        todo!()
    }
    pub async fn stack(&self, name: &str) -> Result<StackReport> {
        todo!()
    }
    pub async fn build_stack(&self, actor: &Actor, name: &str) -> Result<Operation<StackReport>> {
        todo!()
    }
    pub async fn remove_stack(&self, actor: &Actor, name: &str) -> Result<()> {
        todo!()
    }

    /// Newest last.
    pub async fn events(&self, app: Option<&AppName>, limit: usize) -> Result<Vec<Event>> {
        todo!()
    }
    /// Removes images that no kept release needs; answers freed bytes.
    pub async fn collect_garbage(&self, actor: &Actor) -> Result<u64> {
        todo!()
    }

    /// A push from the hook. `id` is made by the hook and names the push afterwards.
    pub async fn push(&self, actor: &Actor, push: PushRequest) -> Result<Operation<PushOutcome>> {
        todo!()
    }
    pub async fn push_outcome(&self, id: &str) -> Result<PushOutcome> {
        todo!()
    }
}
