//! Questions to plugins: may this happen, and what should be different?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Plugin;
use crate::build::Output;
use crate::domain::{Actor, App, AppName, ConfigVars, EnvKey, Release, Secret};
use crate::platform::{Error, Kind, Platform, Result};
use crate::plugin::{Answer, Hook, OnFailure, Request};
use crate::support::report;

/// What all plugins together said to a question that none of them refused.
#[derive(Debug, Default)]
pub(in crate::platform) struct Answers {
    /// For whoever waits.
    messages: Vec<String>,
    /// What went wrong and was forgiven.
    warnings: Vec<String>,
    /// Of `pre-build`; of two plugins the later one counts.
    pub(in crate::platform) env: BTreeMap<EnvKey, Secret>,
    /// Of `pre-release`.
    pub(in crate::platform) config: BTreeMap<EnvKey, Secret>,
}

impl Answers {
    /// Shows what plugins had to say.
    pub(in crate::platform) fn show(&self, output: &Output) {
        self.messages.iter().for_each(|message| output.detail(message));
        self.warnings.iter().for_each(|warning| output.notice(warning));
    }
}

impl Platform {
    /// Asks the plugins that have `hook`, one after the other. Takes no longer than their deadlines.
    ///
    /// # Errors
    /// `Denied` with the reason of the first that refuses.
    pub(in crate::platform) async fn ask(
        &self,
        hook: Hook,
        app: Option<&AppName>,
        data: Value,
    ) -> Result<Answers> {
        let mut answers = Answers::default();
        for plugin in self.0.plugins.at(hook) {
            let name = plugin.name();
            let on_failure = plugin.manifest().hooks[&hook].on_failure;
            match self.ask_one(&plugin, hook, app, &data).await {
                Ok(None) => {}
                Ok(Some(Answer { veto: Some(why), .. })) => return Err(refusal(&plugin, &why)),
                Ok(Some(answer)) => {
                    answers.messages.extend(answer.message.map(|text| format!("{name}: {text}")));
                    answers.env.extend(answer.change.env);
                    answers.config.extend(answer.change.config);
                }
                Err(why) if hook.may_veto() && on_failure == OnFailure::Refuse => {
                    return Err(refusal(&plugin, &why));
                }
                Err(why) => answers.warnings.push(format!("plugin `{name}` was not heard: {why}")),
            }
        }
        Ok(answers)
    }

    /// Asks whether somebody may do what they ask for. Root on the server always may, so that a
    /// broken plugin can be switched off.
    ///
    /// # Errors
    /// `Denied` by a plugin.
    pub async fn authorize(&self, actor: &Actor, method: &str, path: &str) -> Result<()> {
        if actor.via == "local" {
            return Ok(());
        }
        let app = path.strip_prefix("/apps/").and_then(|rest| rest.split('/').next());
        let app: Option<AppName> = app.and_then(|name| name.parse().ok());
        let data = json!({ "actor": actor.name, "method": method, "path": path });
        self.ask(Hook::UserAuth, app.as_ref(), data).await.map(drop)
    }

    /// Asks about a release that is about to be recorded; answers what plugins add to its config.
    ///
    /// # Errors
    /// `Denied` by a plugin; `Invalid` for config that no process could be given.
    pub(in crate::platform) async fn ask_about_release(
        &self,
        app: &App,
        release: &Release,
        output: &Output,
    ) -> Result<ConfigVars> {
        let data = json!({
            "actor": release.actor.name,
            "commit": release.commit,
            "description": release.description,
            "image": release.image,
        });
        let answers = self.ask(Hook::PreRelease, Some(&app.name), data).await?;
        answers.show(output);
        let mut injected = ConfigVars::default();
        for (key, value) in answers.config {
            injected.set(key, value)?;
        }
        Ok(injected)
    }

    /// One plugin's answer; none where it lacks a setting that the hook needs.
    ///
    /// # Errors
    /// A sentence about what went wrong, which has been recorded.
    pub(super) async fn ask_one(
        &self,
        plugin: &Arc<Plugin>,
        hook: Hook,
        app: Option<&AppName>,
        data: &Value,
    ) -> std::result::Result<Option<Answer>, String> {
        let request =
            self.plugin_request(plugin, hook, app, data).map_err(|error| report(&error))?;
        self.call_hook(plugin, hook, &request).await
    }

    /// Runs a hook's program and judges its answer.
    ///
    /// # Errors
    /// As [`Platform::ask_one`].
    pub(super) async fn call_hook(
        &self,
        plugin: &Arc<Plugin>,
        hook: Hook,
        request: &Request,
    ) -> std::result::Result<Option<Answer>, String> {
        let Some(entry) = plugin.manifest().hooks.get(&hook) else { return Ok(None) };
        if !request.has(&entry.needs) {
            return Ok(None);
        }
        let call = super::cage::Call {
            program: &entry.run,
            args: Vec::new(),
            env: request.environment(plugin.manifest()),
            input: request.to_json(),
            deadline: entry.timeout,
            asked: hook.is_asked(),
        };
        let ended = self.run_plugin(plugin, call).await;
        let answer =
            ended.map_err(|error| report(&error)).and_then(|ended| Answer::read(hook, &ended));
        self.0.plugins.ran(plugin.name(), answer.as_ref().err().map(String::as_str));
        if let Err(why) = &answer {
            tracing::warn!(plugin = plugin.name().as_str(), %hook, error = why, "a plugin failed");
        }
        answer.map(Some)
    }
}

fn refusal(plugin: &Plugin, why: &str) -> Error {
    let name = plugin.name();
    Error::new(Kind::Denied, format!("plugin `{name}` refuses: {why}"))
        .hint(format!("`staithe plugin:report {name}` tells more about it"))
}
