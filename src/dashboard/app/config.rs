//! Config vars: masked, shown one at a time, staged, compared, applied at once.
//!
//! ```text
//!  GET config ─ edits ─► POST config (the difference, nothing done) ─► POST config/apply ─► release
//! ```

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::CONFIG_SET;
use crate::domain::{AppName, ConfigVars, EnvKey, Secret};
use crate::platform::{ConfigChange, Error, Kind};
use crate::web::{App, Caller, Query, Refusal};

/// How many rows for new vars an empty form has; `config.js` adds more.
const NEW_ROWS: usize = 2;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    /// The var whose value is shown.
    reveal: Option<String>,
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Query(shown): Query<Shown>,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app, shown.reveal.as_deref()).await
}

async fn page(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    reveal: Option<&str>,
) -> Result<Page, Refusal> {
    let vars = dashboard.config(app).await?;
    let links = dashboard.app_services(app).await?;
    let rows: Vec<Value> = vars
        .iter()
        .map(|(key, value)| {
            let link = links.iter().find(|link| link.variable == *key);
            json!({
                "key": key,
                // Not in the page unless asked for: what is there can be read over a shoulder.
                "value": (reveal == Some(key.as_str())).then(|| value.expose()),
                "service": link.map(|link| format!("{}/{}", link.kind, link.service)),
            })
        })
        .collect();
    let context = json!({
        "vars": rows,
        "count": vars.len(),
        "tag": tag(&vars),
        "new_rows": (1..=NEW_ROWS).collect::<Vec<_>>(),
        "may_edit": can(caller, CONFIG_SET, Some(app)),
    });
    Ok(Page::of_app("app/config", app, "config", context).style("forms.css").script("config.js"))
}

/// Tells two states of the config apart without telling what is in them.
fn tag(vars: &ConfigVars) -> String {
    let mut hash = Sha256::new();
    for (key, value) in vars.iter() {
        for part in [key.as_str(), value.expose()] {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Edits that were asked for and not yet made.
#[derive(Debug, Default, PartialEq, Eq)]
struct Staged {
    set: Vec<(EnvKey, Secret)>,
    unset: Vec<EnvKey>,
}

impl Staged {
    /// What the form asks for, without what is so already.
    fn of(fields: &Fields, vars: &ConfigVars) -> Result<Self, Error> {
        let mut wanted = vars.clone();
        for (key, value) in fields.below("set.").filter(|(_, value)| !value.is_empty()) {
            wanted.set(key.parse()?, Secret::new(value))?;
        }
        for (row, key) in fields.below("new.key.").filter(|(_, key)| !key.trim().is_empty()) {
            let value = fields.raw(&format!("new.value.{row}")).unwrap_or_default();
            wanted.set(key.trim().parse()?, Secret::new(value))?;
        }
        for line in fields.raw("paste").unwrap_or_default().lines() {
            if let Some((key, value)) = assignment(line)? {
                wanted.set(key, Secret::new(value))?;
            }
        }
        for (key, _) in fields.below("unset.") {
            wanted.unset(&key.parse()?);
        }
        Ok(Self::between(vars, &wanted))
    }

    fn between(before: &ConfigVars, after: &ConfigVars) -> Self {
        let differs = |key: &EnvKey, value: &Secret| {
            before.get(key).is_none_or(|old| old.expose() != value.expose())
        };
        let set = after.iter().filter(|(key, value)| differs(key, value));
        let unset = before.iter().filter(|(key, _)| after.get(key).is_none());
        Self {
            set: set.map(|(key, value)| (key.clone(), value.clone())).collect(),
            unset: unset.map(|(key, _)| key.clone()).collect(),
        }
    }

    fn count(&self) -> usize {
        self.set.len() + self.unset.len()
    }

    /// Lines of the difference, by name.
    fn lines(&self, before: &ConfigVars) -> Vec<Value> {
        let set = self.set.iter().map(|(key, value)| {
            let (sign, word) =
                if before.get(key).is_some() { ("~", "changed") } else { ("+", "added") };
            (key, json!({ "sign": sign, "word": word, "key": key, "value": value.expose() }))
        });
        let unset = self.unset.iter().map(|key| {
            (key, json!({ "sign": "-", "word": "removed", "key": key, "removed": true }))
        });
        let mut lines: Vec<_> = set.chain(unset).collect();
        lines.sort_by(|a, b| a.0.cmp(b.0));
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// A line as in a `.env` file; none for blank lines and comments.
fn assignment(line: &str) -> Result<Option<(EnvKey, String)>, Error> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((key, value)) = line.split_once('=') else {
        // Not repeated here: it may be a part of a secret.
        let why = "a pasted line has no `=`; each is `KEY=value`";
        return Err(Error::new(Kind::Invalid, why));
    };
    let value = value.trim();
    let quoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
    Ok(Some((key.trim().parse()?, quoted.unwrap_or(value).to_owned())))
}

/// The config has not changed since the form was made.
fn unchanged(fields: &Fields, vars: &ConfigVars) -> Result<(), Error> {
    if fields.text("base") == Some(tag(vars).as_str()) {
        return Ok(());
    }
    let why = "somebody else has changed the config meanwhile; nothing was done";
    Err(Error::new(Kind::Conflict, why).hint("look at what it is now, and make your edits again"))
}

/// Shows what would be done.
pub(super) async fn review(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let vars = dashboard.config(&app).await?;
    let staged = unchanged(&fields, &vars).and_then(|()| Staged::of(&fields, &vars));
    let staged = staged.and_then(|staged| match staged.count() {
        0 => Err(Error::new(Kind::Invalid, "there is nothing to change")),
        _ => Ok(staged),
    });
    let staged = match staged {
        Ok(staged) => staged,
        Err(error) => {
            let page = page(&dashboard, &caller, &app, None).await?;
            return Ok(page.refused(&error, fields.again()).into_response());
        }
    };
    let released = dashboard.app(&app).await?.app.current_release;
    let context = json!({
        "lines": staged.lines(&vars),
        "count": staged.count(),
        "tag": tag(&vars),
        "released": released.is_some(),
    });
    let page = Page::of_app("app/config-review", &app, "config", context);
    Ok(page.titled("Review config changes").style("forms.css").into_response())
}

/// Makes the edits that were looked at.
pub(super) async fn apply(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = change(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app, None);
    answer(outcome, format!("/apps/{app}/config"), page, &fields).await
}

async fn change(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    let vars = dashboard.config(app).await?;
    unchanged(fields, &vars)?;
    let staged = Staged::of(fields, &vars)?;
    let count = staged.count();
    let change = ConfigChange {
        set: staged.set,
        unset: staged.unset,
        replace: false,
        no_restart: fields.ticked("no_restart"),
    };
    let operation = dashboard.change_config(&caller.actor, app, change).await?;
    let s = if count == 1 { "" } else { "s" };
    settled(operation, |release| match release {
        Some(version) => format!("{count} change{s} applied; {version} serves now."),
        None => format!("{count} change{s} stored for the next release."),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
        let mut vars = ConfigVars::default();
        for (key, value) in pairs {
            vars.set(key.parse().unwrap(), Secret::new(*value)).unwrap();
        }
        vars
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn keys(staged: &Staged) -> (Vec<&str>, Vec<&str>) {
        let set = staged.set.iter().map(|(key, _)| key.as_str()).collect();
        (set, staged.unset.iter().map(EnvKey::as_str).collect())
    }

    #[test]
    fn only_what_differs_is_staged() {
        let before = vars(&[("SAME", "1"), ("OLD", "1"), ("GONE", "1")]);
        let form = fields(&[
            ("set.SAME", "1"),
            ("set.OLD", "2"),
            ("set.GONE", ""),
            ("unset.GONE", "on"),
            ("new.key.1", " NEW "),
            ("new.value.1", "a b"),
            ("new.key.2", ""),
            ("paste", "# a comment\n\nexport PASTED='x=y'\n"),
        ]);
        let staged = Staged::of(&form, &before).unwrap();
        assert_eq!(keys(&staged), (vec!["NEW", "OLD", "PASTED"], vec!["GONE"]));
        assert_eq!(staged.set[2].1.expose(), "x=y");
        let words: Vec<_> = staged
            .lines(&before)
            .iter()
            .map(|line| line["word"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(words, ["removed", "added", "changed", "added"]);
    }

    #[test]
    fn a_bad_name_or_line_is_refused_without_its_value() {
        let refused = |pairs: &[(&str, &str)]| {
            Staged::of(&fields(pairs), &vars(&[])).unwrap_err().to_string()
        };
        let error = refused(&[("new.key.1", "NO WAY"), ("new.value.1", "hunter2")]);
        assert!(error.contains("NO WAY") && !error.contains("hunter2"), "{error}");
        let error = refused(&[("paste", "hunter2")]);
        assert!(error.contains("has no `=`") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_config_that_has_changed_meanwhile_has_another_tag() {
        let (one, two) = (vars(&[("A", "bc")]), vars(&[("AB", "c")]));
        assert_ne!(tag(&one), tag(&two));
        assert!(unchanged(&fields(&[("base", &tag(&one))]), &one).is_ok());
        assert!(unchanged(&fields(&[("base", &tag(&one))]), &two).is_err());
    }
}
