//! Second phase: which buildpacks take the app.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::future::try_join_all;

use super::prepare::WORK;
use super::{Group, Job, Lifecycle, Member, Prepared, env, inside};
use crate::build::descriptor::{Buildpack, GroupEntry};
use crate::build::plan::{Candidate, Plan, resolve};
use crate::build::sandbox::{Sandbox, Step};
use crate::build::{Error, Output};

/// What a detect said.
enum Verdict {
    Pass(Plan),
    /// It does not take the app: exit code 100, or another distribution.
    Fail,
    /// It broke; what it printed last.
    Broken {
        code: i32,
        out_of_memory: bool,
        said: Vec<String>,
    },
}

/// The exit code by which a buildpack declines.
const DECLINED: i32 = 100;
/// How much of a broken detect's output is shown.
const SHOWN_LINES: usize = 20;

pub(super) async fn detect(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    sandbox: &impl Sandbox,
    output: &Output,
) -> Result<Group, Error> {
    let groups = match &prepared.asked {
        Some(asked) => vec![asked_group(lifecycle, asked, output)?],
        None => lifecycle.catalog.order().to_vec(),
    };
    let mut verdicts: BTreeMap<String, Verdict> = BTreeMap::new();
    for group in &groups {
        // A buildpack stands in several groups, and its answer stays the same.
        let missing: Vec<&Buildpack> = group
            .iter()
            .filter(|entry| !verdicts.contains_key(&entry.id))
            .filter_map(|entry| lifecycle.catalog.by_id(&entry.id))
            .collect();
        let asked = missing.iter().map(|b| run_detect(lifecycle, job, prepared, b, sandbox));
        let answers = try_join_all(asked).await?;
        verdicts.extend(missing.iter().map(|b| b.id.clone()).zip(answers));
        if let Some(group) = choose(lifecycle, group, &verdicts) {
            announce(&group, prepared, output);
            return Ok(group);
        }
    }
    Err(explain(lifecycle, prepared, &groups, &verdicts, output))
}

/// The buildpacks asked for, all of them needed; a Procfile still counts without being asked for.
fn asked_group(
    lifecycle: &Lifecycle,
    asked: &[String],
    output: &Output,
) -> Result<Vec<GroupEntry>, Error> {
    const PROCFILE: &str = "staithe/procfile";
    let mut group = Vec::new();
    for name in asked {
        let found = lifecycle.catalog.find(name).ok_or_else(|| Error::UnknownBuildpack {
            asked: name.clone(),
            installed: ids(lifecycle.catalog.buildpacks()),
        })?;
        if found.id != *name {
            output.detail(&format!("Using {} for {name}", found.id));
        }
        group.push(GroupEntry { id: found.id.clone(), optional: false });
    }
    let listed = group.iter().any(|entry| entry.id == PROCFILE);
    if !listed && lifecycle.catalog.by_id(PROCFILE).is_some() {
        group.push(GroupEntry { id: PROCFILE.into(), optional: true });
    }
    Ok(group)
}

fn ids(buildpacks: &[Buildpack]) -> String {
    buildpacks.iter().map(|b| b.id.as_str()).collect::<Vec<_>>().join(", ")
}

async fn run_detect(
    lifecycle: &Lifecycle,
    job: &Job,
    prepared: &Prepared,
    buildpack: &Buildpack,
    sandbox: &impl Sandbox,
) -> Result<Verdict, Error> {
    if !buildpack.runs_on(&job.stack.distro.0, &job.stack.distro.1) {
        return Ok(Verdict::Fail);
    }
    let work = format!("{WORK}/{}", buildpack.escaped_id());
    let plan = format!("{work}/plan.toml");
    let variables = env::base(lifecycle, job);
    let mut variables = env::of_step(lifecycle, job, prepared, buildpack, variables);
    variables.insert("CNB_BUILD_PLAN_PATH".into(), plan.clone());
    let step = Step {
        name: format!("detect {}", buildpack.id),
        args: vec![format!("{}/bin/detect", buildpack.container_path()), "/platform".into(), plan],
        env: variables.into_iter().collect(),
        cwd: "/app".into(),
        deadline: lifecycle.config.detect_timeout(),
    };
    let said = Mutex::new(Vec::new());
    let exit = sandbox
        .exec(&step, &|_, line| {
            let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if said.len() < SHOWN_LINES {
                said.push(line.to_owned());
            }
        })
        .await?;
    let said = said.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    match exit.code {
        0 => read_plan(sandbox, buildpack, &work).await.map(Verdict::Pass),
        DECLINED => Ok(Verdict::Fail),
        code => Ok(Verdict::Broken { code, out_of_memory: exit.out_of_memory, said }),
    }
}

async fn read_plan(
    sandbox: &impl Sandbox,
    buildpack: &Buildpack,
    work: &str,
) -> Result<Plan, Error> {
    let found = inside::read(sandbox, work, &["plan.toml"]).await?;
    let Some(text) = found.files.get("plan.toml") else { return Ok(Plan::default()) };
    toml::from_str(text).map_err(|error| Error::Contract {
        buildpack: buildpack.id.clone(),
        file: "plan.toml".into(),
        why: error.message().to_owned(),
    })
}

/// The members of the group, if all that must pass do and their plans fit together.
fn choose(
    lifecycle: &Lifecycle,
    group: &[GroupEntry],
    verdicts: &BTreeMap<String, Verdict>,
) -> Option<Group> {
    let mut candidates = Vec::new();
    let mut buildpacks = Vec::new();
    for entry in group {
        match verdicts.get(&entry.id) {
            Some(Verdict::Pass(plan)) => {
                candidates.push(Candidate { plan: plan.clone(), optional: entry.optional });
                buildpacks.push(lifecycle.catalog.by_id(&entry.id)?.clone());
            }
            _ if entry.optional => {}
            _ => return None,
        }
    }
    let resolved = resolve(&candidates)?;
    let members = resolved
        .into_iter()
        .map(|(index, entries)| Member { buildpack: buildpacks[index].clone(), entries })
        .collect();
    Some(Group { members })
}

/// Says which buildpacks build the app, and by whose choice.
fn announce(group: &Group, prepared: &Prepared, output: &Output) {
    let names: Vec<&str> = group.members.iter().map(|m| m.buildpack.name.as_str()).collect();
    let choice = if prepared.asked.is_some() { "as asked for" } else { "detected" };
    output.step(&format!("Building with {} ({choice})", names.join(" and ")));
}

fn explain(
    lifecycle: &Lifecycle,
    prepared: &Prepared,
    groups: &[Vec<GroupEntry>],
    verdicts: &BTreeMap<String, Verdict>,
    output: &Output,
) -> Error {
    // A broken detect is the likelier reason than a missing language.
    let broken = verdicts.iter().find_map(|(id, verdict)| match verdict {
        Verdict::Broken { code, out_of_memory, said } => Some((id, *code, *out_of_memory, said)),
        _ => None,
    });
    if let Some((id, code, out_of_memory, said)) = broken {
        for line in said {
            output.program(crate::build::Stream::Stderr, line);
        }
        return Error::Failed { buildpack: id.clone(), phase: "detect", code, out_of_memory };
    }
    if prepared.asked.is_some() {
        let passed = |id: &str| matches!(verdicts.get(id), Some(Verdict::Pass(_)));
        let refusing = groups.iter().flatten().find(|entry| !entry.optional && !passed(&entry.id));
        let refusing = refusing.map(|entry| entry.id.clone());
        return Error::Refused { buildpack: refusing.unwrap_or_else(|| "plan".into()) };
    }
    let looked_for: Vec<String> = lifecycle
        .catalog
        .buildpacks()
        .iter()
        .map(|b| format!("{} looks for {}", b.name, b.description))
        .collect();
    Error::NothingDetected { looked_for: looked_for.join("; ") }
}
