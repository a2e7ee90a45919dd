//! What a plugin's program is told: JSON on its standard input, and the same as environment.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Hook, Manifest};

/// The most bytes of a request; a pipe and a small container must hold it.
const MAX_BYTES: usize = 256 << 10;
/// Longer values are in the JSON only: an environment is for short ones.
const MAX_VARIABLE: usize = 4096;

/// One call of a hook.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// The protocol's version.
    pub protocol: u32,
    /// Which moment it is.
    pub hook: &'static str,
    /// The plugin, as installed.
    pub plugin: String,
    /// The app that it is about.
    pub app: Option<String>,
    /// When it was, RFC 3339.
    pub at: String,
    /// The plugin's settings in force for that app, secret ones too.
    pub settings: BTreeMap<String, String>,
    /// What else there is to know; each hook has its own keys.
    pub data: Map<String, Value>,
}

impl Request {
    /// The call as JSON; of data that would make it too long, nothing.
    pub fn to_json(&self) -> Vec<u8> {
        let text = |request: &Self| serde_json::to_vec(request).unwrap_or_default();
        let whole = text(self);
        if whole.len() <= MAX_BYTES {
            return whole;
        }
        let cut = Map::from_iter([("truncated".to_owned(), Value::Bool(true))]);
        text(&Self { data: cut, ..self.clone() })
    }

    /// The call as environment, for programs that read no JSON: `STAITHE_HOOK`, `STAITHE_APP`, …,
    /// settings as `STAITHE_SET_<KEY>`, and each number, word and truth of `data` as
    /// `STAITHE_<KEY>`.
    pub fn environment(&self, manifest: &Manifest) -> Vec<(String, String)> {
        let mut variables = BTreeMap::new();
        for (key, value) in &self.data {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            variables.insert(format!("STAITHE_{}", variable(key)), text);
        }
        variables.extend(settings_environment(manifest, &self.settings));
        // Last, so that nothing of the above takes their place.
        variables.extend([
            ("STAITHE_PROTOCOL".to_owned(), self.protocol.to_string()),
            ("STAITHE_PLUGIN".to_owned(), self.plugin.clone()),
            ("STAITHE_HOOK".to_owned(), self.hook.to_owned()),
            ("STAITHE_APP".to_owned(), self.app.clone().unwrap_or_default()),
            ("STAITHE_AT".to_owned(), self.at.clone()),
        ]);
        variables.retain(|_, text| text.len() <= MAX_VARIABLE && !text.contains('\0'));
        variables.into_iter().collect()
    }

    /// Whether everything that the hook needs has been set.
    pub fn has(&self, needs: &[String]) -> bool {
        needs.iter().all(|key| self.settings.get(key).is_some_and(|value| !value.is_empty()))
    }

    /// An empty call of `hook`.
    pub fn new(hook: Hook, manifest: &Manifest, at: String) -> Self {
        Self {
            protocol: super::manifest::PROTOCOL,
            hook: hook.as_str(),
            plugin: manifest.name.to_string(),
            app: None,
            at,
            settings: BTreeMap::new(),
            data: Map::new(),
        }
    }
}

/// Settings as environment.
pub fn settings_environment<'a>(
    manifest: &'a Manifest,
    settings: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (String, String)> + 'a {
    manifest.settings.iter().filter_map(|setting| {
        settings.get(&setting.key).map(|value| (setting.variable(), value.clone()))
    })
}

/// `exit-code` and `exit_code` become `EXIT_CODE`.
fn variable(key: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    key.chars().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(data: Value) -> (Request, Manifest) {
        let manifest = Manifest::parse(
            "name = \"x\"\nversion = \"1\"\nprotocol = 1\ndescription = \"x\"\n\
             [[settings]]\nkey = \"api-url\"\nscope = \"app\"\ndescription = \"x\"",
        )
        .unwrap();
        let mut request = Request::new(Hook::PostDeploy, &manifest, "2026-01-02T03:04:05Z".into());
        request.app = Some("shop".into());
        request.settings.insert("api-url".into(), "https://x".into());
        request.data = data.as_object().unwrap().clone();
        (request, manifest)
    }

    #[test]
    fn a_shell_script_finds_everything_in_its_environment() {
        let (request, manifest) = request(json!({
            "release": 7, "exit-code": -1, "ok": true, "hook": "lie", "list": [1], "nul": "a\u{0}b"
        }));
        let environment: BTreeMap<_, _> = request.environment(&manifest).into_iter().collect();
        let expected = [
            ("STAITHE_APP", "shop"),
            ("STAITHE_AT", "2026-01-02T03:04:05Z"),
            ("STAITHE_EXIT_CODE", "-1"),
            ("STAITHE_HOOK", "post-deploy"),
            ("STAITHE_OK", "true"),
            ("STAITHE_PLUGIN", "x"),
            ("STAITHE_PROTOCOL", "1"),
            ("STAITHE_RELEASE", "7"),
            ("STAITHE_SET_API_URL", "https://x"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(environment, expected.into());
    }

    #[test]
    fn data_that_is_too_long_is_left_away_and_that_is_said() {
        let (request, _) = request(json!({ "log": "x".repeat(MAX_BYTES) }));
        let read: Value = serde_json::from_slice(&request.to_json()).unwrap();
        assert_eq!(read["data"], json!({ "truncated": true }));
        assert_eq!(read["app"], "shop");
    }

    #[test]
    fn a_hook_that_needs_a_setting_waits_for_it() {
        let (request, _) = request(json!({}));
        assert!(request.has(&["api-url".into()]) && request.has(&[]));
        assert!(!request.has(&["api-url".into(), "key".into()]));
    }
}
