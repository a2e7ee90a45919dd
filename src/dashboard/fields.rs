//! The fields of a form, read as words of the domain; and what becomes of what they ask for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Done, Form, Page};
use crate::domain::AppName;
use crate::domain::access::Verb;
use crate::platform::{Error, Kind, Operation};
use crate::web::{Caller, Refusal};

/// How long a form waits for what it asked for. Deploys of small apps end in seconds; whoever waits
/// longer than this looks at a page that seems stuck.
const PATIENCE: Duration = Duration::from_secs(25);
/// No form of ours has more fields; a config of that many vars is refused anyway.
const MAX_FIELDS: usize = 2000;

/// The fields of a posted form by name. Of a name that comes twice the last counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Form(pairs) = Form::<Vec<(String, String)>>::from_request(request, state).await?;
        if pairs.len() > MAX_FIELDS {
            let why = format!("a form has at most {MAX_FIELDS} fields");
            return Err(Error::new(Kind::Invalid, why).into());
        }
        Ok(pairs.into_iter().collect())
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        // Browsers send line ends as CR LF (HTML, "constructing the form data set"); nobody types CR.
        Self(pairs.into_iter().map(|(name, value)| (name, value.replace("\r\n", "\n"))).collect())
    }
}

impl Fields {
    /// A field as it was sent.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field without blanks around it; none if nothing is left.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Whether a box was ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A field that may be empty.
    pub(super) fn maybe<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        self.text(name).map(|text| parsed(name, text)).transpose()
    }

    /// A field that must be there.
    pub(super) fn need<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Error> {
        let missing = || Error::new(Kind::Invalid, format!("the field `{name}` is empty"));
        self.maybe(name)?.ok_or_else(missing)
    }

    /// Those whose names begin with `prefix`, without it.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// Refuses unless the field repeats `name`: for what cannot be taken back.
    pub(super) fn confirms(&self, name: &str) -> Result<(), Error> {
        if self.text("confirm") == Some(name) {
            return Ok(());
        }
        let why = format!("type the name `{name}` to confirm; nothing was done");
        Err(Error::new(Kind::Invalid, why))
    }

    /// For the page that shows them again. Secrets are never in a field that is shown again.
    pub(super) fn again(&self) -> Value {
        let shown = self.0.iter().filter(|(name, _)| !name.starts_with('_'));
        shown
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: T::Err| {
        let error = error.to_string();
        // Words of the domain say what they are; numbers do not.
        let said = if error.contains(text) { error } else { format!("{name} `{text}`: {error}") };
        Error::new(Kind::Invalid, said)
    })
}

/// Waits for what was asked for; none if it goes on, which it does without anybody waiting.
pub(super) async fn settle<T>(operation: Operation<T>) -> Result<Option<T>, Error> {
    match tokio::time::timeout(PATIENCE, operation.outcome).await {
        Err(_) => Ok(None),
        Ok(Ok(outcome)) => outcome.map(Some),
        Ok(Err(join)) => Err(Error::new(Kind::Internal, "the operation broke off").because(join)),
    }
}

/// [`settle`], as the sentence that the next page shows.
pub(super) async fn settled<T>(
    operation: Operation<T>,
    done: impl FnOnce(&T) -> String,
) -> Result<String, Error> {
    Ok(match settle(operation).await? {
        Some(value) => done(&value),
        None => "It takes a while, and goes on. This page shows how it stands.".to_owned(),
    })
}

/// On to `to` with the sentence, or the form's page again with why not.
pub(super) async fn answer(
    outcome: Result<String, Error>,
    to: String,
    page: impl Future<Output = Result<Page, Refusal>>,
    fields: &Fields,
) -> Result<Response, Refusal> {
    match outcome {
        Ok(text) => Ok(Done::to(to).say(text).into_response()),
        Err(error) => Ok(page.await?.refused(&error, fields.again()).into_response()),
    }
}

/// Whether the caller may; for buttons, which are shown to those who can use them. The guard of the
/// form's own route decides.
pub(super) fn can(caller: &Caller, verb: Verb, app: Option<&AppName>) -> bool {
    caller.grants.allow(verb, app).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn empty_fields_are_missing_and_wrong_ones_are_named() {
        let fields =
            fields(&[("count", " 3 "), ("bad", "three"), ("empty", "  "), ("text", "a\r\nb")]);
        assert_eq!(fields.need::<u32>("count").unwrap(), 3);
        assert_eq!(fields.maybe::<u32>("empty").unwrap(), None);
        assert_eq!(fields.raw("text"), Some("a\nb"));
        let error = fields.need::<u32>("bad").unwrap_err().to_string();
        assert_eq!(error, "bad `three`: invalid digit found in string");
        let error = fields.need::<AppName>("empty").unwrap_err().to_string();
        assert_eq!(error, "the field `empty` is empty");
    }

    #[test]
    fn what_cannot_be_taken_back_needs_the_name() {
        assert!(fields(&[("confirm", "shop")]).confirms("shop").is_ok());
        assert!(fields(&[("confirm", "shops")]).confirms("shop").is_err());
        assert!(fields(&[]).confirms("shop").is_err());
    }

    #[test]
    fn a_page_that_is_shown_again_has_no_token() {
        let again = fields(&[("_csrf", "secret"), ("name", "x")]).again();
        assert_eq!(again, json!({ "name": "x" }));
    }
}
