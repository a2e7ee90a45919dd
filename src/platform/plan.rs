//! Which instances to keep, to start and to retire: the difference between wanted and observed.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::domain::{App, InstanceName, ProcessType, Release, RunState};

/// An instance that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: InstanceName,
    /// What it must have been started from; see [`fingerprint`].
    pub(super) fingerprint: String,
}

/// An instance that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// Its container.
    pub(super) container: String,
    /// Its name.
    pub(super) name: InstanceName,
    /// What it was started from.
    pub(super) fingerprint: String,
    /// Whether its process runs.
    pub(super) alive: bool,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Containers that are as wanted.
    pub(super) keep: Vec<String>,
    /// Instances to start.
    pub(super) start: Vec<Wanted>,
    /// Containers that nobody wants, after the wanted ones are ready.
    pub(super) retire: Vec<String>,
}

/// The instances that `release` means for `app`: none if it is stopped.
pub(super) fn wanted(app: &App, release: &Release) -> Vec<Wanted> {
    if app.run_state == RunState::Stopped {
        return Vec::new();
    }
    let scaled =
        release.processes.keys().filter(|process_type| **process_type != ProcessType::release());
    scaled
        .flat_map(|process_type| {
            let fingerprint = fingerprint(app, release, process_type);
            (1..=release.formation.count(process_type)).map(move |index| Wanted {
                name: InstanceName { process_type: process_type.clone(), index },
                fingerprint: fingerprint.clone(),
            })
        })
        .collect()
}

/// Compares what is wanted with what is there. Of two observed instances that fit the same wanted
/// one, the first is kept.
pub(super) fn plan(wanted: Vec<Wanted>, observed: &[Observed]) -> Plan {
    let mut plan = Plan::default();
    let mut taken = HashSet::new();
    for wanted in wanted {
        let fits = |observed: &&Observed| {
            observed.alive
                && observed.name == wanted.name
                && observed.fingerprint == wanted.fingerprint
                && !taken.contains(observed.container.as_str())
        };
        match observed.iter().find(fits) {
            Some(observed) => {
                taken.insert(observed.container.as_str());
                plan.keep.push(observed.container.clone());
            }
            None => plan.start.push(wanted),
        }
    }
    let left = observed.iter().filter(|observed| !taken.contains(observed.container.as_str()));
    plan.retire = left.map(|observed| observed.container.clone()).collect();
    plan
}

/// Names everything that a running process cannot be given later: image, command, config, and the
/// count of explicit restarts. Quotas are not among it: they change live.
pub(super) fn fingerprint(app: &App, release: &Release, process_type: &ProcessType) -> String {
    let parts = (
        app.restarts,
        &release.image,
        process_type,
        release.processes.get(process_type),
        // The same as before for releases that no plugin added anything to.
        &release.config_in_force(),
        &release.commit,
    );
    let mut bytes = serde_json::to_vec(&parts).expect("plain data with string keys serializes");
    // Apps without volumes keep the fingerprint that they had before there were any, so that an
    // upgrade of Staithe restarts none of them.
    let mounts: Vec<_> = release.mounts.of_type(process_type).collect();
    if !mounts.is_empty() {
        bytes.extend(serde_json::to_vec(&mounts).expect("plain data serializes"));
    }
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> InstanceName {
        text.parse().unwrap()
    }

    fn want(text: &str, fingerprint: &str) -> Wanted {
        Wanted { name: name(text), fingerprint: fingerprint.into() }
    }

    fn see(container: &str, text: &str, fingerprint: &str, alive: bool) -> Observed {
        Observed {
            container: container.into(),
            name: name(text),
            fingerprint: fingerprint.into(),
            alive,
        }
    }

    #[test]
    fn nothing_is_done_where_all_is_as_wanted() {
        let plan = plan(vec![want("web.1", "a")], &[see("c1", "web.1", "a", true)]);
        assert_eq!(plan, Plan { keep: vec!["c1".into()], ..Plan::default() });
    }

    #[test]
    fn a_new_release_starts_all_anew_and_retires_the_old() {
        let plan = plan(
            vec![want("web.1", "b"), want("worker.1", "b")],
            &[see("c1", "web.1", "a", true), see("c2", "worker.1", "a", true)],
        );
        assert_eq!(plan.start.len(), 2);
        assert_eq!(plan.retire, ["c1", "c2"]);
    }

    #[test]
    fn scaling_keeps_the_instances_that_run() {
        let observed = [see("c1", "web.1", "a", true), see("c2", "web.2", "a", true)];
        let up = plan(vec![want("web.1", "a"), want("web.2", "a"), want("web.3", "a")], &observed);
        assert_eq!((up.keep.len(), up.start.as_slice()), (2, [want("web.3", "a")].as_slice()));
        let down = plan(vec![want("web.1", "a")], &observed);
        assert_eq!((down.keep, down.retire), (vec!["c1".to_owned()], vec!["c2".to_owned()]));
    }

    #[test]
    fn a_dead_instance_is_started_again_and_its_remains_retired() {
        let plan = plan(vec![want("web.1", "a")], &[see("c1", "web.1", "a", false)]);
        assert_eq!(plan.start, [want("web.1", "a")]);
        assert_eq!(plan.retire, ["c1"]);
    }

    #[test]
    fn of_twins_one_is_kept() {
        let plan = plan(
            vec![want("web.1", "a")],
            &[see("c1", "web.1", "a", true), see("c2", "web.1", "a", true)],
        );
        assert_eq!((plan.keep, plan.retire), (vec!["c1".to_owned()], vec!["c2".to_owned()]));
    }

    #[test]
    fn a_stopped_app_wants_nothing() {
        assert_eq!(plan(Vec::new(), &[see("c1", "web.1", "a", true)]).retire, ["c1"]);
    }
}
