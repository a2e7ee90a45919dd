//! What handlers answer with.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::domain::AppName;
use crate::platform::{Error, Kind};

/// A page: its template and what to put in it. The frame renders it.
#[derive(Debug, Clone)]
pub struct Page {
    pub(super) template: &'static str,
    pub(super) title: String,
    /// Which entry of the rail it belongs to.
    pub(super) section: &'static str,
    /// The app it is a page of, and the tab there.
    pub(super) app: Option<(AppName, &'static str)>,
    pub(super) scripts: Vec<&'static str>,
    pub(super) styles: Vec<&'static str>,
    pub(super) status: StatusCode,
    pub(super) context: Value,
}

impl Page {
    /// A page of the platform, under an entry of the rail (`layout::RAIL`). `context` is an object.
    pub fn new(
        template: &'static str,
        title: impl Into<String>,
        section: &'static str,
        context: Value,
    ) -> Self {
        Self {
            template,
            title: title.into(),
            section,
            app: None,
            scripts: Vec::new(),
            styles: Vec::new(),
            status: StatusCode::OK,
            context,
        }
    }

    /// A page of `app`, under a tab (`layout::TABS`).
    pub fn of_app(
        template: &'static str,
        app: &AppName,
        tab: &'static str,
        context: Value,
    ) -> Self {
        let mut page = Self::new(template, String::new(), "apps", context);
        page.app = Some((app.clone(), tab));
        page
    }

    /// With another title than its tab's.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// With a script of its own: the asset's name, an ES module.
    #[must_use]
    pub fn script(mut self, name: &'static str) -> Self {
        self.scripts.push(name);
        self
    }

    /// With a style sheet of its own: the asset's name.
    #[must_use]
    pub fn style(mut self, name: &'static str) -> Self {
        self.styles.push(name);
        self
    }

    /// The page again, with why what was asked of it was not done: `{{> refusal}}` shows it. `fields`
    /// is what was filled in, as `{{fields.name}}`, so that nobody types it twice.
    #[must_use]
    pub fn refused(mut self, error: &Error, fields: Value) -> Self {
        self.status = match error.kind() {
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Invalid | Kind::Failed => StatusCode::UNPROCESSABLE_ENTITY,
        };
        crate::web::log_failure(error);
        if let Value::Object(context) = &mut self.context {
            let refusal = json!({ "message": sentence(&error.to_string()), "hint": error.next_step().map(sentence) });
            context.insert("refusal".into(), refusal);
            context.insert("fields".into(), fields);
        }
        self
    }
}

/// Errors are lower case without a full stop; people read sentences.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A form was done: on to a page (303), which shows a sentence.
#[derive(Debug, Clone)]
pub struct Done {
    to: String,
    pub(super) text: Option<String>,
}

impl Done {
    /// On to the path `to`.
    pub fn to(to: impl Into<String>) -> Self {
        Self { to: to.into(), text: None }
    }

    /// With a sentence.
    #[must_use]
    pub fn say(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        let location = (header::LOCATION, self.to.clone());
        let mut response = (StatusCode::SEE_OTHER, [location]).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_sentences() {
        assert_eq!(sentence("app `x` does not exist"), "App `x` does not exist.");
        assert_eq!(sentence("Wait!"), "Wait!");
        assert_eq!(sentence(""), ".");
    }
}
