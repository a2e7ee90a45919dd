//! What a plugin's program says, judged: bytes of a stranger become an [`Answer`] or a complaint.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Hook;
use crate::domain::{AppName, EnvKey, RouteChange, Secret};

/// The most bytes a program may print on its standard output.
pub const MAX_ANSWER: usize = 1 << 20;
/// The most bytes that are kept of its standard error.
pub const MAX_ERRORS: usize = 64 << 10;
/// Longer sentences are cut: they go to a push's output and into events.
const MAX_SENTENCE: usize = 500;
/// Variables that one plugin may give.
const MAX_VARIABLES: usize = 200;

/// What a plugin's program wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Something to show.
    pub message: Option<String>,
    /// Why it must not happen.
    pub veto: Option<String>,
    /// What should be different.
    pub change: Change,
}

/// What a plugin's program wants to be different.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Of `pre-build`: the build's environment.
    pub env: BTreeMap<EnvKey, Secret>,
    /// Of `pre-release`: config of the release, kept out of the app's own.
    pub config: BTreeMap<EnvKey, Secret>,
    /// Of `routes`: for each app how its requests are treated.
    pub routes: BTreeMap<AppName, RouteChange>,
}

/// How a program ended and what it printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; 128 and the signal where one ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    message: Option<String>,
    veto: Option<String>,
    #[serde(default)]
    change: ChangeFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeFile {
    env: Option<BTreeMap<EnvKey, String>>,
    config: Option<BTreeMap<EnvKey, String>>,
    routes: Option<BTreeMap<AppName, RouteChange>>,
}

impl Answer {
    /// Judges how the program of `hook` ended.
    ///
    /// # Errors
    /// A sentence about what is wrong with it, which is a failure of the plugin and no veto.
    pub fn read(hook: Hook, ended: &Ended) -> Result<Self, String> {
        if ended.code != 0 {
            let reason = last_line(&ended.stderr);
            // 126 and above are the shell's and the kernel's words, not the program's.
            if hook.may_veto() && ended.code < 126 {
                let veto = reason.unwrap_or_else(|| format!("exit code {}", ended.code));
                return Ok(Self { veto: Some(veto), ..Self::default() });
            }
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            return Err(format!("ended with exit code {}{reason}", ended.code));
        }
        if ended.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let file: File = serde_json::from_slice(&ended.stdout)
            .map_err(|error| format!("its answer is not what the protocol asks for: {error}"))?;
        if file.veto.is_some() && !hook.may_veto() {
            return Err(format!("it vetoes, which hook `{hook}` cannot"));
        }
        Ok(Self {
            message: file.message.as_deref().map(sentence).filter(|text| !text.is_empty()),
            veto: file.veto.as_deref().map(sentence),
            change: file.change.check(hook)?,
        })
    }
}

impl ChangeFile {
    fn check(self, hook: Hook) -> Result<Change, String> {
        let allowed = match hook {
            Hook::PreBuild => self.config.is_none() && self.routes.is_none(),
            Hook::PreRelease => self.env.is_none() && self.routes.is_none(),
            Hook::Routes => self.env.is_none() && self.config.is_none(),
            _ => self.env.is_none() && self.config.is_none() && self.routes.is_none(),
        };
        if !allowed {
            return Err(format!("it changes what hook `{hook}` cannot"));
        }
        Ok(Change {
            env: variables(self.env)?,
            config: variables(self.config)?,
            routes: self.routes.unwrap_or_default(),
        })
    }
}

fn variables(given: Option<BTreeMap<EnvKey, String>>) -> Result<BTreeMap<EnvKey, Secret>, String> {
    let given = given.unwrap_or_default();
    if given.len() > MAX_VARIABLES {
        return Err(format!("it gives more than {MAX_VARIABLES} variables"));
    }
    if let Some((key, _)) = given.iter().find(|(_, value)| value.contains('\0')) {
        return Err(format!("its value of {key} holds a NUL"));
    }
    Ok(given.into_iter().map(|(key, value)| (key, Secret::new(value))).collect())
}

/// What was said last, for people: one line without control characters.
pub fn last_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(sentence(line))
}

/// One line, not too long, without what a terminal would obey.
fn sentence(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MAX_SENTENCE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, stdout: &str, stderr: &str) -> Ended {
        Ended { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn silence_is_consent() {
        assert_eq!(Answer::read(Hook::PreDeploy, &ended(0, " \n", "")).unwrap(), Answer::default());
    }

    #[test]
    fn a_veto_is_said_in_json_or_by_the_exit_code() {
        let json = ended(0, r#"{"veto": "it is Friday\u001b[31m"}"#, "");
        let veto = Answer::read(Hook::PreDeploy, &json).unwrap().veto;
        assert_eq!(veto.as_deref(), Some("it is Friday[31m"));
        let code = ended(3, "", "thinking…\nit is Friday\n\n");
        let veto = Answer::read(Hook::PreDeploy, &code).unwrap().veto;
        assert_eq!(veto.as_deref(), Some("it is Friday"));
        let bare = Answer::read(Hook::PreDeploy, &ended(3, "", "")).unwrap().veto;
        assert_eq!(bare.as_deref(), Some("exit code 3"));
    }

    #[test]
    fn a_crash_is_no_veto() {
        for code in [126, 127, 137, 139] {
            let error = Answer::read(Hook::PreDeploy, &ended(code, "", "not found")).unwrap_err();
            assert_eq!(error, format!("ended with exit code {code}: not found"));
        }
        Answer::read(Hook::PostDeploy, &ended(1, "", "")).unwrap_err();
    }

    #[test]
    fn nonsense_is_a_complaint() {
        for (hook, text) in [
            (Hook::PreDeploy, "hello"),
            (Hook::PreDeploy, "[]"),
            (Hook::PreDeploy, r#"{"veto": 1}"#),
            (Hook::PreDeploy, r#"{"surprise": 1}"#),
            (Hook::PreDeploy, r#"{"change": {"env": {"A": "b"}}}"#),
            (Hook::PostDeploy, r#"{"veto": "too late"}"#),
            (Hook::PreBuild, r#"{"change": {"config": {"A": "b"}}}"#),
            (Hook::PreBuild, r#"{"change": {"env": {"A B": "b"}}}"#),
            (Hook::PreBuild, r#"{"change": {"env": {"A": "b\u0000"}}}"#),
            (Hook::Routes, r#"{"change": {"routes": []}}"#),
            (Hook::Routes, r#"{"change": {"routes": {"shop": {"upstream": "evil"}}}}"#),
        ] {
            assert!(Answer::read(hook, &ended(0, text, "")).is_err(), "{hook}: {text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Answer::read(Hook::PreDeploy, &ended(0, &deep, "")).is_err());
    }

    #[test]
    fn each_hook_changes_its_own() {
        let answer =
            Answer::read(Hook::PreBuild, &ended(0, r#"{"change": {"env": {"A": "b"}}}"#, ""));
        let change = answer.unwrap().change;
        assert_eq!(change.env[&"A".parse().unwrap()].expose(), "b");
        let text =
            r#"{"message": "one\ntwo", "change": {"routes": {"shop": {"maintenance": true}}}}"#;
        let answer = Answer::read(Hook::Routes, &ended(0, text, "")).unwrap();
        assert_eq!(answer.message.as_deref(), Some("one"));
        assert!(answer.change.routes[&"shop".parse().unwrap()].maintenance);
    }
}
