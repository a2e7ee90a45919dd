//! The pages of one app, below `/apps/{app}`.

mod overview;

use axum::routing::get;

use super::Dashboard;
use crate::domain::access::*;
use crate::web::Routes;

/// Every page of an app, one line each; the tabs above them are in `layout::TABS`.
pub(super) fn pages() -> Routes<Dashboard> {
    Routes::new().page(APPS_INFO, "/", get(overview::show))
}
