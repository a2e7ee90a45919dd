//! Pushes: what the `pre-receive` hook asks and is told.

use super::pipeline::Source;
use super::{
    Error, Journal, Kind, Operation, Platform, PushOutcome, PushRequest, Result, clock, dashboard,
};
use crate::domain::{Actor, App, ReleaseVersion};
use crate::git::{DeployRef, PushPlan, Quarantine, RefUpdate, plan_push};
use crate::plugin::Hook;
use crate::support::report;

impl Platform {
    /// Decides about a push: builds and deploys what it puts on the deploy branch. The operation's
    /// outcome says whether the refs may move; its cancellation rejects the push unless the switch
    /// has happened.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn push(&self, actor: &Actor, push: PushRequest) -> Result<Operation<PushOutcome>> {
        dashboard::refuse_own(&push.app)?;
        let app = self.find_app(&push.app)?;
        let updates = push
            .updates
            .iter()
            .map(|update| RefUpdate::parse(&update.old, &update.new, &update.name))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let quarantine = push
            .quarantine
            .as_deref()
            .map(|path| self.repositories.quarantine(&app.name, path))
            .transpose()?;
        self.store.set_push_outcome(&push.id, &PushOutcome::Pending, clock::now())?;
        match plan_push(&updates, app.deploy_branch.as_ref()) {
            Err(refusal) => {
                let hint = format!(
                    "to deploy another branch: `staithe git:set {} deploy-branch <branch>`",
                    app.name
                );
                self.refuse(push.id, refusal.to_string(), hint)
            }
            Ok(PushPlan { deploy: None, notes }) => self.accept(push.id, &app, notes),
            Ok(PushPlan { deploy: Some(deploy), notes }) => {
                self.deploy_push(actor, push.id, app, deploy, quarantine, &notes)
            }
        }
    }

    fn refuse(&self, id: String, reason: String, hint: String) -> Result<Operation<PushOutcome>> {
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            output.notice(&reason);
            output.notice(&hint);
            platform.conclude(&id, PushOutcome::Rejected { reason })
        }))
    }

    fn accept(
        &self,
        id: String,
        app: &App,
        notes: Vec<crate::git::Note>,
    ) -> Result<Operation<PushOutcome>> {
        let hint = app
            .deploy_branch
            .as_ref()
            .map(|branch| format!("to deploy: `git push <remote> HEAD:{branch}`"));
        Ok(self.operate(Journal::new(), move |platform, output, _cancel| async move {
            notes.iter().for_each(|note| output.step(&note.to_string()));
            if let Some(hint) = hint.filter(|_| !notes.is_empty()) {
                output.detail(&hint);
            }
            platform.conclude(&id, PushOutcome::Accepted { release: None })
        }))
    }

    fn deploy_push(
        &self,
        actor: &Actor,
        id: String,
        app: App,
        deploy: DeployRef,
        quarantine: Option<Quarantine>,
        notes: &[crate::git::Note],
    ) -> Result<Operation<PushOutcome>> {
        let (build, journal) = self.open_build(&app, &deploy.commit, actor, quarantine.as_ref())?;
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        let source = Source {
            app: app.clone(),
            commit: deploy.commit,
            quarantine,
            actor: actor.clone(),
            build,
        };
        let kept = journal.clone();
        Ok(self.operate(journal, move |platform, output, cancel| async move {
            notes.iter().for_each(|note| output.step(note));
            output.step(&format!(
                "Building {} from {} at {}",
                app.name,
                deploy.branch,
                deploy.commit.short()
            ));
            let told = serde_json::json!({
                "actor": source.actor.name,
                "branch": deploy.branch,
                "commit": deploy.commit.to_string(),
            });
            let pushed = async {
                let answers = platform.ask(Hook::PreReceiveApp, Some(&app.name), told).await;
                // A refused push has a build that never began.
                match answers {
                    Ok(answers) => answers.show(&output),
                    Err(error) => return platform.refuse_build(source.build.id, error),
                }
                platform.build_and_deploy(source, kept, &output, &cancel).await
            };
            match Box::pin(pushed).await {
                Ok(release) => platform.deployed(&id, &app, &deploy, release, &output),
                Err(error) => platform.push_failed(&id, &app, &error, &output),
            }
        }))
    }

    fn deployed(
        &self,
        id: &str,
        app: &App,
        deploy: &DeployRef,
        release: ReleaseVersion,
        output: &crate::build::Output,
    ) -> Result<PushOutcome> {
        if deploy.chosen_now {
            self.store.set_deploy_branch(app.id, Some(&deploy.branch))?;
            self.repositories.set_head(&app.name, &deploy.branch)?;
            output.step(&format!("Set {} as the deploy branch", deploy.branch));
        }
        output.section(&format!("{} {release} deployed:", app.name));
        let urls = self.urls(&self.find_app_by_id(app.id)?)?;
        urls.iter().for_each(|url| output.detail(url));
        self.conclude(id, PushOutcome::Accepted { release: Some(release) })
    }

    fn push_failed(
        &self,
        id: &str,
        app: &App,
        error: &Error,
        output: &crate::build::Output,
    ) -> Result<PushOutcome> {
        let reason = report(error);
        output.notice(&format!("Push rejected: {reason}"));
        if let Some(hint) = error.next_step() {
            output.notice(hint);
        }
        let serving = self.store.app_by_id(app.id)?.and_then(|app| app.current_release);
        output.notice(&match serving {
            Some(version) => format!("{version} of {} serves on, unchanged", app.name),
            None => format!("{} has no release yet", app.name),
        });
        if error.kind() == Kind::Internal {
            tracing::error!(
                app.name = app.name.as_str(),
                error = reason,
                "a push failed inside the platform"
            );
        }
        self.conclude(id, PushOutcome::Rejected { reason })
    }

    fn conclude(&self, id: &str, outcome: PushOutcome) -> Result<PushOutcome> {
        self.store.set_push_outcome(id, &outcome, clock::now())?;
        Ok(outcome)
    }

    /// What became of a push whose connection broke.
    ///
    /// # Errors
    /// `NotFound` if it never arrived.
    pub async fn push_outcome(&self, id: &str) -> Result<PushOutcome> {
        self.store
            .push_outcome(id)?
            .ok_or_else(|| Error::new(Kind::NotFound, "this push never arrived").hint("push again"))
    }
}
