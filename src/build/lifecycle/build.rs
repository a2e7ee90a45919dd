//! Third phase: each buildpack of the group builds, in order.

use std::collections::BTreeMap;

use super::prepare::WORK;
use super::{Group, Job, Lifecycle, Member, Prepared, env, inside};
use crate::build::descriptor::Buildpack;
use crate::build::environment::{BUILD_PATHS, EnvFiles, Variables, apply, prepend};
use crate::build::layer::{LayerToml, layer_name};
use crate::build::plan::{BuildpackPlan, Entry};
use crate::build::sandbox::{Sandbox, Step};
use crate::build::{Error, Output};

pub(super) async fn build(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    group: &Group,
    sandbox: &impl Sandbox,
    output: &Output,
) -> Result<(), Error> {
    let mut variables = env::base(lifecycle, job);
    // What earlier buildpacks left unmet of the plan.
    let mut unmet: Vec<Entry> = Vec::new();
    for (index, member) in group.members.iter().enumerate() {
        let entries = entries_for(member, group, index, &unmet);
        let step = step(lifecycle, job, prepared, &member.buildpack, &variables);
        hand_plan(sandbox, &member.buildpack, &entries).await?;
        let exit = sandbox.exec(&step, &|stream, line| output.program(stream, line)).await?;
        if exit.code != 0 {
            return Err(Error::Failed {
                buildpack: member.buildpack.id.clone(),
                phase: "build",
                code: exit.code,
                out_of_memory: exit.out_of_memory,
            });
        }
        // Nobody builds after the last one.
        if index + 1 < group.members.len() {
            let left = pass_on(sandbox, &member.buildpack, &mut variables).await?;
            unmet = entries.into_iter().filter(|entry| left.contains(&entry.name)).collect();
        }
    }
    Ok(())
}

/// A buildpack's entries, and those that an earlier one left unmet and this one provides too.
fn entries_for(member: &Member, group: &Group, index: usize, unmet: &[Entry]) -> Vec<Entry> {
    let met_earlier = |entry: &Entry| {
        group.members[..index].iter().any(|earlier| earlier.entries.contains(entry))
    };
    let wanted = member.entries.iter().filter(|entry| !met_earlier(entry) || unmet.contains(entry));
    wanted.cloned().collect()
}

fn step(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    buildpack: &Buildpack,
    variables: &Variables,
) -> Step {
    let entries = format!("{WORK}/{}/entries.toml", buildpack.escaped_id());
    let mut variables = env::of_step(lifecycle, job, prepared, buildpack, variables.clone());
    variables.insert("CNB_LAYERS_DIR".into(), buildpack.layers_dir());
    variables.insert("CNB_BP_PLAN_PATH".into(), entries.clone());
    Step {
        name: format!("build {}", buildpack.id),
        args: vec![
            format!("{}/bin/build", buildpack.container_path()),
            buildpack.layers_dir(),
            "/platform".into(),
            entries,
        ],
        env: variables.into_iter().collect(),
        cwd: "/app".into(),
        deadline: lifecycle.config.build_timeout(),
    }
}

/// Writes the buildpack's plan; an empty one is there already.
async fn hand_plan(
    sandbox: &impl Sandbox,
    buildpack: &Buildpack,
    entries: &[Entry],
) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let contract = |why: String| Error::Contract {
        buildpack: buildpack.id.clone(),
        file: "plan.toml".into(),
        why,
    };
    let text = toml::to_string(&BuildpackPlan { entries }).map_err(|e| contract(e.to_string()))?;
    let path = format!("{WORK}/{}/entries.toml", buildpack.escaped_id());
    let script = r#"printf '%s' "$1" > "$2""#;
    inside::run(sandbox, "write plan", &["/bin/sh", "-c", script, "write", &text, &path]).await
}

/// Lets later buildpacks see the buildpack's `build` layers and hides its type-less ones; returns
/// the names that it left unmet.
async fn pass_on(
    sandbox: &impl Sandbox,
    buildpack: &Buildpack,
    variables: &mut Variables,
) -> Result<Vec<String>, Error> {
    let dir = buildpack.layers_dir();
    let patterns =
        ["*.toml", "*/bin", "*/lib", "*/include", "*/pkgconfig", "*/env/*", "*/env.build/*", "*/"];
    let found = inside::read(sandbox, &dir, &patterns).await?;
    let contract = |file: &str, error: &toml::de::Error| Error::Contract {
        buildpack: buildpack.id.clone(),
        file: file.to_owned(),
        why: error.message().to_owned(),
    };
    let mut ignored = Vec::new();
    for name in found.dirs.iter().filter(|dir| !dir.contains('/')) {
        let file = format!("{name}.toml");
        let Some(layer) = layer_name(&file) else { continue };
        let text = found.files.get(&file).map_or("", String::as_str);
        let toml: LayerToml = toml::from_str(text).map_err(|error| contract(&file, &error))?;
        let types = toml.types;
        if types.build {
            expose(&found, &dir, layer, variables);
        } else if !types.launch && !types.cache {
            ignored.push(format!("{dir}/{layer}"));
        }
    }
    for path in ignored {
        let hidden = format!("{path}.ignore");
        inside::run(sandbox, "hide layer", &["/bin/mv", "-T", "--", &path, &hidden]).await?;
    }
    let Some(text) = found.files.get("build.toml") else { return Ok(Vec::new()) };
    let file: BuildToml = toml::from_str(text).map_err(|error| contract("build.toml", &error))?;
    Ok(file.unmet.into_iter().map(|unmet| unmet.name).collect())
}

#[derive(serde::Deserialize)]
struct BuildToml {
    #[serde(default)]
    unmet: Vec<Unmet>,
}

#[derive(serde::Deserialize)]
struct Unmet {
    name: String,
}

/// Adds a `build` layer's paths and variables.
fn expose(found: &inside::Found, dir: &str, layer: &str, variables: &mut Variables) {
    for (part, variable) in BUILD_PATHS {
        let below = format!("{layer}/{part}");
        if found.dirs.contains(&below) {
            prepend(variables, variable, &format!("{dir}/{below}"), ":");
        }
    }
    for env_dir in ["env", "env.build"] {
        let prefix = format!("{layer}/{env_dir}/");
        let files: EnvFiles = found
            .files
            .iter()
            .filter_map(|(path, text)| Some((path.strip_prefix(&prefix)?.to_owned(), text.clone())))
            .collect::<BTreeMap<_, _>>();
        apply(variables, &files);
    }
}
