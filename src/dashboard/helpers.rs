//! What templates can do beside showing values: times, sizes, spans, icons, states.
//!
//! ```text
//! {{time at}}  {{bytes n}}  {{span ms}}  {{icon "apps"}}  {{status "running"}}  {{asset "app.css"}}
//! {{short commit}} {{plural n "instance"}} {{json value}}
//! ```

use handlebars::{Context, Handlebars, Helper, HelperResult, Output, RenderContext};

use crate::domain::Timestamp;

mod icons;
mod text;

pub(super) use text::{bytes, iso, relative, span};

type Write<'a> = &'a mut dyn Output;

pub(super) fn register(registry: &mut Handlebars<'static>, assets: &str) {
    registry.register_helper("time", Box::new(time));
    registry.register_helper("icon", Box::new(icon));
    registry.register_helper("status", Box::new(status));
    text_helper(registry, "bytes", |helper| number(helper, 0).map(bytes));
    text_helper(registry, "span", |helper| number(helper, 0).map(span));
    text_helper(registry, "short", |helper| {
        let text = helper.param(0)?.value().as_str()?;
        Some(text.trim_start_matches("sha256:").chars().take(8).collect())
    });
    text_helper(registry, "plural", |helper| {
        let (count, noun) = (number(helper, 0)?, helper.param(1)?.value().as_str()?);
        let s = if count == 1 { "" } else { "s" };
        Some(format!("{count} {noun}{s}"))
    });
    text_helper(registry, "json", |helper| serde_json::to_string(helper.param(0)?.value()).ok());
    let base = assets.to_owned();
    text_helper(registry, "asset", move |helper| {
        Some(format!("{base}/{}", helper.param(0)?.value().as_str()?))
    });
}

/// A helper that writes text, escaped.
fn text_helper(
    registry: &mut Handlebars<'static>,
    name: &'static str,
    make: impl Fn(&Helper<'_>) -> Option<String> + Send + Sync + 'static,
) {
    let helper = move |helper: &Helper<'_>,
                       _: &Handlebars<'_>,
                       _: &Context,
                       _: &mut RenderContext<'_, '_>,
                       out: Write<'_>|
          -> HelperResult {
        if let Some(text) = make(helper) {
            out.write(&handlebars::html_escape(&text))?;
        }
        Ok(())
    };
    registry.register_helper(name, Box::new(helper));
}

fn number(helper: &Helper<'_>, index: usize) -> Option<u64> {
    let value = helper.param(index)?.value();
    // A count that is no whole number is an average: its fraction is not shown.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    value.as_u64().or_else(|| value.as_f64().map(|v| v.clamp(0.0, 1e18) as u64))
}

/// `<time>` with the exact point and how long ago that is; `app.js` keeps the words right.
fn time(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: Write<'_>,
) -> HelperResult {
    let Some(at) = helper.param(0).and_then(|param| param.value().as_i64()) else {
        return Ok(out.write("–")?);
    };
    let exact = iso(Timestamp(at));
    let words = relative(Timestamp(at), text::now());
    Ok(out.write(&format!("<time datetime=\"{exact}\" title=\"{exact}\">{words}</time>"))?)
}

/// An icon, hidden from screen readers: a word always stands beside it.
fn icon(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: Write<'_>,
) -> HelperResult {
    let name = helper.param(0).and_then(|param| param.value().as_str()).unwrap_or_default();
    Ok(out.write(&icons::svg(name))?)
}

/// A state as a badge: color, sign and word.
fn status(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: Write<'_>,
) -> HelperResult {
    let word = helper.param(0).and_then(|param| param.value().as_str()).unwrap_or_default();
    let (tone, sign) = match word {
        "running" | "succeeded" | "current" | "ok" | "ready" | "active" | "deployed" | "valid"
        | "verified" => ("ok", "check"),
        "deploying" | "starting" | "building" | "pending" | "queued" | "retiring" => {
            ("busy", "spin")
        }
        "degraded" | "warn" | "expiring" => ("warn", "warn"),
        "crashed" | "failed" | "fail" | "error" | "expired" => ("bad", "cross"),
        _ => ("idle", "dot"),
    };
    let word = handlebars::html_escape(word);
    let sign = icons::svg(sign);
    Ok(out.write(&format!("<span class=\"badge {tone}\">{sign}{word}</span>"))?)
}
