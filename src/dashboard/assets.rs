//! Style sheets, scripts and pictures, part of the program.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::Dashboard;

macro_rules! assets {
    ($($name:literal $kind:literal),* $(,)?) => {
        /// Names with types and contents.
        const ALL: &[(&str, &str, &[u8])] = &[
            $(($name, $kind, include_bytes!(concat!("../../templates/dashboard/assets/", $name)))),*
        ];
    };
}

assets! {
    "app.css" "text/css; charset=utf-8",
    "theme.js" "text/javascript; charset=utf-8",
    "app.js" "text/javascript; charset=utf-8",
    "sign-in.js" "text/javascript; charset=utf-8",
    "new-app.js" "text/javascript; charset=utf-8",
    "config.js" "text/javascript; charset=utf-8",
    "scale.js" "text/javascript; charset=utf-8",
    "domains.js" "text/javascript; charset=utf-8",
    "forms.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "live.css" "text/css; charset=utf-8",
    "lines.js" "text/javascript; charset=utf-8",
    "refresh.js" "text/javascript; charset=utf-8",
    "deployment.js" "text/javascript; charset=utf-8",
    "logs.js" "text/javascript; charset=utf-8",
    "metrics.js" "text/javascript; charset=utf-8",
    "console.js" "text/javascript; charset=utf-8",
    "vendor/xterm.mjs" "text/javascript; charset=utf-8",
    "vendor/xterm-addon-fit.mjs" "text/javascript; charset=utf-8",
    "vendor/xterm.css" "text/css; charset=utf-8",
    "vendor/uplot.js" "text/javascript; charset=utf-8",
    "vendor/uplot.css" "text/css; charset=utf-8",
}

/// All assets, ready to send.
#[derive(Debug)]
pub(super) struct Assets {
    base: String,
    all: Vec<Asset>,
}

#[derive(Debug)]
struct Asset {
    name: &'static str,
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
}

impl Assets {
    /// Compresses them, once. One hash over all of them is in the path of each, so that scripts find
    /// each other by relative names and browsers keep them for good.
    pub(super) fn load() -> Self {
        let mut hash = Sha256::new();
        let mut all = Vec::new();
        for (name, kind, content) in ALL {
            hash.update(name.as_bytes());
            hash.update(content);
            all.push(Asset { name, kind, plain: Bytes::from_static(content), gzip: gzip(content) });
        }
        let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { base: format!("/assets/{hash}"), all }
    }

    /// `/assets/<hash>`.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

fn gzip(content: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    match encoder.write_all(content).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed.into(),
        // A vector takes everything; none is sent as it is.
        Err(_) => Bytes::new(),
    }
}

/// An asset. That of another version of Staithe is not kept by browsers as this one's.
pub(super) async fn serve(
    State(dashboard): State<Dashboard>,
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let assets = &dashboard.0.assets;
    let current = assets.base.strip_prefix("/assets/") == Some(&hash);
    match assets.all.iter().find(|asset| asset.name == name) {
        Some(asset) => send(asset, &headers, current),
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}

/// Browsers ask for it by themselves.
pub(super) async fn favicon(State(dashboard): State<Dashboard>, headers: HeaderMap) -> Response {
    match dashboard.0.assets.all.iter().find(|asset| asset.name == "icon.svg") {
        Some(asset) => send(asset, &headers, false),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn send(asset: &Asset, headers: &HeaderMap, forever: bool) -> Response {
    let accepts = |name: &str| {
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        accepted.is_some_and(|text| text.split(',').any(|part| part.trim().starts_with(name)))
    };
    let cache = if forever { "public, max-age=31536000, immutable" } else { "no-cache" };
    let head = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-encoding"),
    ];
    let smaller = !asset.gzip.is_empty() && asset.gzip.len() < asset.plain.len();
    match accepts("gzip") && smaller {
        true => (head, [(header::CONTENT_ENCODING, "gzip")], asset.gzip.clone()).into_response(),
        false => (head, asset.plain.clone()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_small_and_named_by_their_content() {
        let assets = Assets::load();
        assert!(assets.base().starts_with("/assets/"));
        assert_eq!(assets.base().len(), "/assets/".len() + 16);
        for asset in &assets.all {
            assert!(!asset.plain.is_empty(), "{}", asset.name);
        }
    }
}
