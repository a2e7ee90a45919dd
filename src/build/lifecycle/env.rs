//! The environment of a step in the build container.

use super::prepare::{DOWNLOADS, HOME, NEW_DOWNLOADS, TMP};
use super::{Job, Lifecycle, Prepared};
use crate::build::config::ca_environment;
use crate::build::descriptor::Buildpack;
use crate::build::environment::{Variables, apply_user};

/// What earlier buildpacks' layers and the platform say, without the user's variables.
pub(super) fn base(lifecycle: &Lifecycle, job: &Job) -> Variables {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut variables = Variables::from([("PATH".to_owned(), PATH.to_owned())]);
    variables.extend(job.stack.build_env.iter().cloned());
    variables.extend(ca_environment());
    let fixed = [
        ("HOME", HOME),
        ("TMPDIR", TMP),
        ("LANG", "C.UTF-8"),
        ("CI", "true"),
        ("CNB_PLATFORM_DIR", "/platform"),
        ("CNB_APP_DIR", "/app"),
        ("CNB_STACK_ID", &job.stack.name),
        ("CNB_TARGET_OS", "linux"),
        ("CNB_TARGET_ARCH", architecture()),
        ("CNB_TARGET_DISTRO_NAME", &job.stack.distro.0),
        ("CNB_TARGET_DISTRO_VERSION", &job.stack.distro.1),
        ("SOURCE_VERSION", &job.commit),
        ("STAITHE_APP", &job.app),
        ("STAITHE_DOWNLOADS", DOWNLOADS),
        ("STAITHE_NEW_DOWNLOADS", NEW_DOWNLOADS),
    ];
    variables.extend(fixed.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    if lifecycle.config.strict_versions {
        variables.insert("STAITHE_STRICT_VERSIONS".into(), "1".into());
    }
    variables
}

/// The environment of one buildpack's step: `variables`, the operator's and the user's (unless it
/// wants a clear environment), and what is this buildpack's alone.
pub(super) fn of_step(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    buildpack: &Buildpack,
    mut variables: Variables,
) -> Variables {
    for (name, value) in &lifecycle.config.environment {
        variables.insert(name.clone(), value.clone());
    }
    if !buildpack.clear_env {
        let project =
            prepared.build_env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let config = job.config_vars.iter().map(|(key, value)| (key.as_str(), value.expose()));
        for (name, value) in project.chain(config).filter(|(name, _)| may_set(name)) {
            apply_user(&mut variables, name, value);
        }
    }
    variables.insert("CNB_BUILDPACK_DIR".into(), buildpack.container_path());
    variables
}

/// The user cannot move what the lifecycle and the buildpacks agree upon.
fn may_set(name: &str) -> bool {
    !name.starts_with("CNB_") && !["HOME", "TMPDIR", "STAITHE_NEW_DOWNLOADS"].contains(&name)
}

/// The machine's architecture in OCI's and Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
