//! Templates made into HTML.

use handlebars::Handlebars;
use serde_json::Value;

use super::{helpers, templates};

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It is not written as templates are.
    #[error("template `{name}` cannot be read")]
    Template {
        /// Which.
        name: &'static str,
        /// Where and why.
        source: Box<handlebars::TemplateError>,
    },
    /// It fails with what it was given.
    #[error("template `{name}` cannot be filled in")]
    Render {
        /// Which.
        name: String,
        /// Where and why.
        source: Box<handlebars::RenderError>,
    },
}

/// All templates, read once.
#[derive(Debug)]
pub(super) struct Renderer(Handlebars<'static>);

impl Renderer {
    pub(super) fn load(assets: &str) -> Result<Self, Broken> {
        let mut registry = Handlebars::new();
        for (name, text) in templates::ALL {
            registry
                .register_template_string(name, text)
                .map_err(|source| Broken::Template { name, source: Box::new(source) })?;
        }
        helpers::register(&mut registry, assets);
        Ok(Self(registry))
    }

    /// `template` filled in. Values are escaped; only a helper of ours writes HTML.
    pub(super) fn render(&self, template: &str, context: &Value) -> Result<String, Broken> {
        self.0.render(template, context).map_err(|source| Broken::Render {
            name: template.to_owned(),
            source: Box::new(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_templates_can_be_read() {
        Renderer::load("/assets/x").unwrap();
    }

    #[test]
    fn what_apps_say_is_text_and_never_markup() {
        let renderer = Renderer::load("/assets/x").unwrap();
        let nasty = "</script><img src=x onerror=alert(1)>\"'`=";
        let refusal = json!({ "refusal": { "message": nasty, "hint": nasty } });
        let html = renderer.render("refusal", &refusal).unwrap();
        assert!(!html.contains("<img"), "{html}");
        assert!(!html.contains("</script>"), "{html}");
        assert!(html.contains("&lt;img src"), "{html}");
    }
}
