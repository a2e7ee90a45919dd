//! `app.json`: what the source says about its checks, scripts, environment and formation.

use std::collections::BTreeMap;

use crate::domain::{Check, EnvKey, ProcessType};

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

/// Reads `app.json`: JSON, with comments and trailing commas tolerated.
///
/// # Errors
/// What breaks JSON or a rule, with its line where known.
pub fn parse(text: &[u8]) -> Result<AppJson, SourceProblem> {
    let _ = text;
    unimplemented!()
}
