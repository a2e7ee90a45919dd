//! `app.json`: what the source says about its checks, scripts, environment and formation.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::{
    Check, CheckKind, ConcurrencyPolicy, CronTask, EnvKey, Millis, ProcessType, Schedule,
};

use super::SourceProblem;

/// The parts of `app.json` that Staithe uses; Heroku's other keys are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppJson {
    /// Buildpacks asked for, in order: ids or URLs.
    pub buildpacks: Vec<String>,
    /// Config vars to set.
    pub env: BTreeMap<EnvKey, EnvSpec>,
    /// Wanted instances; when not empty, types that are not listed get none.
    pub formation: BTreeMap<ProcessType, u32>,
    /// Startup checks.
    pub checks: BTreeMap<ProcessType, Vec<Check>>,
    /// What is run on a schedule.
    pub cron: Vec<CronTask>,
    /// Commands around a deploy.
    pub scripts: Scripts,
    /// What was understood but is not acted upon, one sentence each.
    pub notes: Vec<String>,
}

/// How a config var gets its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSpec {
    /// Where the value comes from.
    pub value: EnvValue,
    /// Set at every deploy, not only where it is missing.
    pub sync: bool,
}

/// Where a config var's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// It is given.
    Literal(String),
    /// 64 random hexadecimal digits.
    Secret,
    /// The user must have set it; the deploy fails otherwise.
    Required,
    /// The user may set it.
    Optional,
}

/// Commands around a deploy; shell text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// In the new image, before its instances start (`scripts.dokku.predeploy`).
    pub predeploy: Option<String>,
    /// After the switch, each time (`scripts.dokku.postdeploy`).
    pub postdeploy: Option<String>,
    /// After the switch of the first deploy only (`scripts.postdeploy`).
    pub first_postdeploy: Option<String>,
}

/// Far more than any real `app.json`: it bounds what a hostile one costs.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Reads `app.json`: JSON, with comments and trailing commas tolerated.
///
/// # Errors
/// What breaks JSON or a rule, with its line where known.
pub fn parse(text: &[u8]) -> Result<AppJson, SourceProblem> {
    if text.len() > MAX_BYTES {
        return Err(refusal(None, "is larger than 256 KiB", "keep only what a deploy needs in it"));
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| refusal(None, "is not UTF-8 text", "save it as UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = super::hujson::to_json(text);
    // Serde would take an array for an object's fields in order.
    if !text.trim_start().starts_with('{') {
        return Err(refusal(Some(1), "is not a JSON object", "begin it with `{`"));
    }
    let file: File = serde_json::from_str(&text).map_err(|error| {
        let problem = error.to_string();
        let problem = problem.split(" at line ").next().unwrap_or_default();
        refusal(Some(error.line()), problem, "correct it, or remove the key")
    })?;
    let mut notes = Vec::new();
    let checks = checks(file.healthchecks, &mut notes)?;
    Ok(AppJson {
        buildpacks: file.buildpacks.into_iter().map(BuildpackFile::into_name).collect(),
        env: env(file.env)?,
        formation: formation(file.formation)?,
        checks,
        cron: cron(file.cron)?,
        scripts: Scripts {
            predeploy: file.scripts.dokku.predeploy,
            postdeploy: file.scripts.dokku.postdeploy,
            first_postdeploy: file.scripts.postdeploy,
        },
        notes,
    })
}

/// The file's shape; unknown keys belong to Heroku and are ignored.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    buildpacks: Vec<BuildpackFile>,
    #[serde(default)]
    env: BTreeMap<String, EnvFile>,
    #[serde(default)]
    formation: BTreeMap<String, FormationFile>,
    #[serde(default)]
    healthchecks: BTreeMap<String, Vec<CheckFile>>,
    #[serde(default)]
    scripts: ScriptsFile,
    #[serde(default)]
    cron: Vec<CronFile>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BuildpackFile {
    Name(String),
    Object { url: String },
}

impl BuildpackFile {
    fn into_name(self) -> String {
        match self {
            Self::Name(name) | Self::Object { url: name } => name,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EnvFile {
    Value(String),
    Object {
        value: Option<String>,
        required: Option<bool>,
        generator: Option<String>,
        #[serde(default)]
        sync: bool,
    },
}

#[derive(Deserialize)]
struct FormationFile {
    quantity: Option<u32>,
}

#[derive(Deserialize)]
struct CronFile {
    command: String,
    schedule: String,
    #[serde(default)]
    maintenance: bool,
    #[serde(default)]
    concurrency_policy: ConcurrencyPolicy,
    timeout: Option<u64>,
}

#[derive(Deserialize, Default)]
struct ScriptsFile {
    postdeploy: Option<String>,
    #[serde(default)]
    dokku: DokkuScripts,
}

#[derive(Deserialize, Default)]
struct DokkuScripts {
    predeploy: Option<String>,
    postdeploy: Option<String>,
}

#[derive(Deserialize)]
struct CheckFile {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    path: Option<String>,
    content: Option<String>,
    #[serde(default, rename = "httpHeaders")]
    headers: Vec<HeaderFile>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    listening: bool,
    uptime: Option<u64>,
    port: Option<u16>,
    attempts: Option<u64>,
    timeout: Option<u64>,
    wait: Option<u64>,
    #[serde(default, rename = "initialDelay")]
    initial_delay: u64,
}

#[derive(Deserialize)]
struct HeaderFile {
    name: String,
    value: String,
}

fn env(file: BTreeMap<String, EnvFile>) -> Result<BTreeMap<EnvKey, EnvSpec>, SourceProblem> {
    file.into_iter()
        .map(|(key, spec)| {
            let key: EnvKey = key.parse().map_err(|why| in_key("env", why))?;
            Ok((key, env_spec(spec)))
        })
        .collect()
}

fn env_spec(file: EnvFile) -> EnvSpec {
    match file {
        EnvFile::Value(value) => EnvSpec { value: EnvValue::Literal(value), sync: false },
        EnvFile::Object { value, required, generator, sync } => {
            let value = match (value, generator.as_deref(), required.unwrap_or(true)) {
                (Some(value), ..) => EnvValue::Literal(value),
                (None, Some("secret"), _) => EnvValue::Secret,
                (None, _, true) => EnvValue::Required,
                (None, _, false) => EnvValue::Optional,
            };
            EnvSpec { value, sync }
        }
    }
}

fn formation(
    file: BTreeMap<String, FormationFile>,
) -> Result<BTreeMap<ProcessType, u32>, SourceProblem> {
    let mut formation = BTreeMap::new();
    for (name, wanted) in file {
        let process_type = name.parse().map_err(|why| in_key("formation", why))?;
        if let Some(quantity) = wanted.quantity {
            formation.insert(process_type, quantity);
        }
    }
    Ok(formation)
}

/// More tasks than any app has; each is looked at every minute.
const MAX_CRON_TASKS: usize = 50;
/// A command line of a task; a longer one belongs into a script.
const MAX_CRON_COMMAND: usize = 4096;
/// How long a run may take unless the task says otherwise (as in Dokku), and at most.
const CRON_SECONDS: u64 = 86_400;

fn cron(file: Vec<CronFile>) -> Result<Vec<CronTask>, SourceProblem> {
    let refused =
        |problem: String, remedy: &str| refusal(None, &format!("`cron`: {problem}"), remedy);
    if file.len() > MAX_CRON_TASKS {
        let problem = format!("has {} tasks, more than {MAX_CRON_TASKS}", file.len());
        return Err(refused(problem, "do several things in one task"));
    }
    let mut tasks: Vec<CronTask> = Vec::new();
    for task in file {
        let words = shlex::split(&task.command).filter(|words| !words.is_empty());
        if words.is_none() || task.command.len() > MAX_CRON_COMMAND || task.command.contains('\0') {
            let problem = format!("`{}` is not a command", shortened(&task.command));
            return Err(refused(problem, "write a program and its arguments, with quotes closed"));
        }
        let schedule: Schedule = task
            .schedule
            .parse()
            .map_err(|why: crate::domain::Invalid| refused(why.to_string(), "correct it"))?;
        let seconds = task.timeout.unwrap_or(CRON_SECONDS);
        if !(1..=CRON_SECONDS).contains(&seconds) {
            let problem = format!("`timeout` of {seconds} is not 1 to {CRON_SECONDS} seconds");
            return Err(refused(problem, "correct it"));
        }
        let task = CronTask {
            command: task.command,
            schedule,
            concurrency_policy: task.concurrency_policy,
            timeout: seconds_of(seconds),
            maintenance: task.maintenance,
        };
        if tasks.iter().any(|other| other.id() == task.id()) {
            let problem =
                format!("`{}` is there twice at `{}`", shortened(&task.command), task.schedule);
            return Err(refused(problem, "remove one"));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

fn checks(
    file: BTreeMap<String, Vec<CheckFile>>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<ProcessType, Vec<Check>>, SourceProblem> {
    let mut result = BTreeMap::new();
    for (name, files) in file {
        let process_type: ProcessType = name.parse().map_err(|why| in_key("healthchecks", why))?;
        let mut checks = Vec::new();
        for (index, file) in files.into_iter().enumerate() {
            match file.kind.as_deref() {
                None | Some("startup" | "") => {
                    checks.push(check(&process_type, index + 1, file)?);
                }
                Some(kind @ ("liveness" | "readiness")) => notes.push(format!(
                    "the {kind} check of `{process_type}` is not run; startup checks are"
                )),
                Some(kind) => {
                    let problem = format!("healthcheck of `{process_type}` has type `{kind}`");
                    return Err(refusal(None, &problem, "use `startup`"));
                }
            }
        }
        result.insert(process_type, checks);
    }
    Ok(result)
}

/// How long one try may take when the check does not say (Dokku's default).
const DEFAULT_TIMEOUT_SECONDS: u64 = 5;
/// The pause between tries that a check's `attempts` assume when it does not say (Dokku's default).
const DEFAULT_WAIT_SECONDS: u64 = 5;
/// How long to keep trying when the check does not say how often; checks are polled, so this only
/// bounds a start that never comes.
const DEFAULT_DEADLINE_SECONDS: u64 = 60;
/// No start takes longer than an hour: it bounds what a typo makes a deploy wait.
const MAX_SECONDS: u64 = 3600;

fn check(
    process_type: &ProcessType,
    number: usize,
    file: CheckFile,
) -> Result<Check, SourceProblem> {
    let kinds = usize::from(!file.command.is_empty())
        + usize::from(file.listening)
        + usize::from(file.path.is_some())
        + usize::from(file.uptime.is_some());
    let name = file.name.unwrap_or_else(|| format!("check {number}"));
    if kinds > 1 {
        let problem = format!("healthcheck `{name}` of `{process_type}` says several things");
        return Err(refusal(None, &problem, "give one of command, listening, path and uptime"));
    }
    let timeout = file.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS).clamp(1, MAX_SECONDS);
    let wait = file.wait.unwrap_or(DEFAULT_WAIT_SECONDS).min(MAX_SECONDS);
    let uptime = file.uptime.map(|seconds| seconds.min(MAX_SECONDS));
    let tries = match file.attempts {
        Some(attempts) => attempts.max(1).saturating_mul(timeout + wait),
        None => DEFAULT_DEADLINE_SECONDS,
    };
    let deadline = file
        .initial_delay
        .saturating_add(tries)
        .max(uptime.unwrap_or(0).saturating_add(timeout))
        .min(MAX_SECONDS + timeout);
    let kind = match uptime {
        _ if !file.command.is_empty() => CheckKind::Command { args: file.command },
        _ if file.listening => CheckKind::Listening,
        Some(seconds) => CheckKind::Uptime { at_least: seconds_of(seconds) },
        None => CheckKind::Http {
            path: http_path(process_type, file.path)?,
            content: file.content,
            headers: http_headers(process_type, file.headers)?,
        },
    };
    let port = file.port.filter(|port| *port != 0);
    Ok(Check { name, kind, port, timeout: seconds_of(timeout), deadline: seconds_of(deadline) })
}

fn seconds_of(seconds: u64) -> Millis {
    Millis(seconds.saturating_mul(1000))
}

/// The path goes into a request line: no spaces, no controls (request smuggling).
fn http_path(process_type: &ProcessType, path: Option<String>) -> Result<String, SourceProblem> {
    let path = path.unwrap_or_else(|| "/".into());
    let path = match path.starts_with('/') {
        true => path,
        false => format!("/{path}"),
    };
    match path.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(path),
        false => {
            let problem = format!("healthcheck path of `{process_type}` holds spaces or controls");
            Err(refusal(None, &problem, "encode them as %20 and so on"))
        }
    }
}

fn http_headers(
    process_type: &ProcessType,
    headers: Vec<HeaderFile>,
) -> Result<Vec<(String, String)>, SourceProblem> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let value = |c: u8| c == b' ' || c == b'\t' || c.is_ascii_graphic();
    headers
        .into_iter()
        .map(|header| {
            let good = !header.name.is_empty()
                && header.name.bytes().all(token)
                && header.value.bytes().all(value);
            match good {
                true => Ok((header.name, header.value)),
                false => {
                    let problem = format!("healthcheck header of `{process_type}` is not valid");
                    Err(refusal(None, &problem, "use a plain ASCII name and value"))
                }
            }
        })
        .collect()
}

fn in_key(key: &str, why: crate::domain::Invalid) -> SourceProblem {
    refusal(None, &format!("`{key}`: {why}"), "correct the name")
}

fn refusal(line: Option<usize>, problem: &str, remedy: &str) -> SourceProblem {
    SourceProblem {
        file: "app.json".into(),
        line: line.filter(|line| *line > 0),
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests;
