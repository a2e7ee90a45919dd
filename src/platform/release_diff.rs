//! What a release changed.

use std::collections::BTreeSet;

use super::{Platform, Result};
use crate::domain::{
    AppName, ConfigVars, Formation, ProcessType, Release, ReleaseStatus, ReleaseVersion,
};
use crate::wire::{Change, CountChange, ProcessChange, ReleaseDiff};

impl Platform {
    /// What is different between `version` and `before`, or the last release that served before it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn release_diff(
        &self,
        name: &AppName,
        version: ReleaseVersion,
        before: Option<ReleaseVersion>,
    ) -> Result<ReleaseDiff> {
        let app = self.find_app(name)?;
        let after = self.find_release(&app, version)?;
        let before = match before {
            Some(version) => Some(self.find_release(&app, version)?),
            None => self.store.releases(app.id, usize::MAX)?.into_iter().find(|release| {
                release.version < version && release.status == ReleaseStatus::Succeeded
            }),
        };
        Ok(diff(before.as_ref(), &after))
    }
}

/// What is different; a first release differs from nothing by all it has.
fn diff(before: Option<&Release>, after: &Release) -> ReleaseDiff {
    let none = ConfigVars::default();
    let config = before.map_or(&none, |release| &release.config);
    let mut result =
        ReleaseDiff { before: before.map(|release| release.version), ..ReleaseDiff::default() };
    for (key, value) in after.config.iter() {
        match config.get(key) {
            None => result.config_added.push(key.clone()),
            Some(old) if old.expose() != value.expose() => result.config_changed.push(key.clone()),
            Some(_) => {}
        }
    }
    let gone = config.iter().filter(|(key, _)| after.config.get(key).is_none());
    result.config_removed = gone.map(|(key, _)| key.clone()).collect();
    result.processes = processes(before, after);
    let Some(before) = before else { return result };
    result.image = (before.image != after.image)
        .then(|| Change { before: before.image.clone(), after: after.image.clone() });
    result.commit = (before.commit != after.commit)
        .then(|| Change { before: before.commit.clone(), after: after.commit.clone() });
    result.formation = counts(&before.formation, &after.formation, after);
    result.resources = before.resources != after.resources;
    result.mounts = before.mounts != after.mounts;
    result.cron = before.cron != after.cron;
    result
}

fn processes(before: Option<&Release>, after: &Release) -> Vec<ProcessChange> {
    let old = |process_type: &ProcessType| before?.processes.get(process_type);
    let declared = before.into_iter().chain([after]).flat_map(|release| release.processes.keys());
    declared
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|process_type| ProcessChange {
            process_type: process_type.clone(),
            before: old(process_type).cloned(),
            after: after.processes.get(process_type).cloned(),
        })
        .filter(|change| change.before != change.after)
        .collect()
}

/// Of declared process types only: a count of what does not exist starts nothing.
fn counts(before: &Formation, after: &Formation, release: &Release) -> Vec<CountChange> {
    let change = |process_type: &ProcessType| CountChange {
        process_type: process_type.clone(),
        before: before.count(process_type),
        after: after.count(process_type),
    };
    let declared = release.processes.keys().map(change);
    declared.filter(|change| change.before != change.after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actor, AppId, Command, ResourceSettings, Secret, Timestamp};

    fn release(version: u32, config: &[(&str, &str)], web: &str) -> Release {
        let mut vars = ConfigVars::default();
        for (key, value) in config {
            vars.set(key.parse().unwrap(), Secret::new((*value).to_owned())).unwrap();
        }
        let command = Command { args: vec![web.into()], working_dir: "/app".into() };
        Release {
            app: AppId(1),
            version: ReleaseVersion(version),
            image: format!("sha256:{version}"),
            build: None,
            commit: None,
            processes: [("web".parse().unwrap(), command)].into(),
            checks: Default::default(),
            config: vars,
            injected: ConfigVars::default(),
            formation: Formation::default(),
            resources: ResourceSettings::default(),
            mounts: Default::default(),
            cron: Vec::new(),
            description: String::new(),
            actor: Actor::platform(),
            created_at: Timestamp(0),
            status: ReleaseStatus::Succeeded,
            failure: None,
        }
    }

    #[test]
    fn config_vars_are_told_by_name_and_never_by_value() {
        let before = release(1, &[("KEPT", "a"), ("GONE", "hidden1"), ("OTHER", "hidden2")], "a");
        let after = release(2, &[("KEPT", "a"), ("NEW", "hidden3"), ("OTHER", "hidden4")], "a");
        let diff = diff(Some(&before), &after);
        let text = serde_json::to_string(&diff).unwrap();
        assert!(!text.contains("hidden"), "{text}");
        let names = |keys: &[crate::domain::EnvKey]| {
            keys.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&diff.config_added), ["NEW"]);
        assert_eq!(names(&diff.config_changed), ["OTHER"]);
        assert_eq!(names(&diff.config_removed), ["GONE"]);
        assert_eq!(diff.image.unwrap().before, "sha256:1");
    }

    #[test]
    fn what_a_process_runs_and_how_often_is_compared() {
        let before = release(1, &[], "old");
        let mut after = release(2, &[], "new");
        after.formation.set("web".parse().unwrap(), 3).unwrap();
        let diff = diff(Some(&before), &after);
        assert_eq!(diff.processes[0].after.as_ref().unwrap().args, ["new"]);
        assert_eq!((diff.formation[0].before, diff.formation[0].after), (1, 3));
    }

    #[test]
    fn the_same_again_is_no_difference_and_a_first_release_is_all_new() {
        let before = release(1, &[("A", "1")], "a");
        let again = Release { version: ReleaseVersion(2), ..before.clone() };
        assert!(diff(Some(&before), &again).is_empty());
        let first = diff(None, &before);
        assert_eq!((first.before, first.config_added.len(), first.processes.len()), (None, 1, 1));
    }
}
