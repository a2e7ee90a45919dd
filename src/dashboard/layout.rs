//! What surrounds every page: the rail, the tabs of an app.

use serde_json::{Value, json};

use crate::domain::AppName;
use crate::domain::access::*;

/// An entry of the rail, shown to who may use it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// What a page names to be below it.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    pub(super) icon: &'static str,
    /// The verb of its page.
    pub(super) verb: Verb,
}

/// The rail.
pub(super) const RAIL: &[Entry] = &[
    Entry { key: "apps", title: "Apps", path: "/", icon: "apps", verb: APPS_LIST },
    Entry {
        key: "services",
        title: "Services",
        path: "/services",
        icon: "services",
        verb: SERVICES_LIST,
    },
    Entry { key: "access", title: "Access", path: "/access", icon: "access", verb: TOKENS_LIST },
    Entry { key: "events", title: "Events", path: "/events", icon: "events", verb: EVENTS_LIST },
    Entry { key: "host", title: "Host", path: "/host", icon: "host", verb: HOST_REPORT },
    Entry {
        key: "settings",
        title: "Settings",
        path: "/settings",
        icon: "settings",
        verb: USERS_ME,
    },
];

/// A tab of an app's pages, shown to who may use it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tab {
    /// What a page names to be below it.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// Below `/apps/{app}`.
    pub(super) path: &'static str,
    /// The verb of its page.
    pub(super) verb: Verb,
}

/// The tabs, in their order: Overview · Deployments · Releases · Logs · Metrics · Config · Scale ·
/// Domains · Services · Cron · Volumes · Console · Access · Settings. A tab is here once its page is.
pub(super) const TABS: &[Tab] = &[
    Tab { key: "overview", title: "Overview", path: "", verb: APPS_INFO },
    Tab { key: "deployments", title: "Deployments", path: "/deployments", verb: BUILDS_LIST },
    Tab { key: "releases", title: "Releases", path: "/releases", verb: RELEASES_LIST },
    Tab { key: "logs", title: "Logs", path: "/logs", verb: LOGS_SHOW },
    Tab { key: "metrics", title: "Metrics", path: "/metrics", verb: METRICS_REPORT },
    Tab { key: "config", title: "Config", path: "/config", verb: CONFIG_SHOW },
    Tab { key: "scale", title: "Scale", path: "/scale", verb: PS_REPORT },
    Tab { key: "domains", title: "Domains", path: "/domains", verb: DOMAINS_REPORT },
    Tab { key: "services", title: "Services", path: "/services", verb: SERVICES_OF_APP },
    Tab { key: "cron", title: "Cron", path: "/cron", verb: CRON_REPORT },
    Tab { key: "volumes", title: "Volumes", path: "/volumes", verb: STORAGE_REPORT },
    Tab { key: "console", title: "Console", path: "/console", verb: ENTER_START },
    Tab { key: "access", title: "Access", path: "/access", verb: ACCESS_LIST },
    Tab { key: "settings", title: "Settings", path: "/settings", verb: APPS_INFO },
];

/// The rail as `grants` has it.
pub(super) fn rail(grants: &Grants, current: &str) -> Value {
    let entries = RAIL.iter().filter(|entry| grants.allow(entry.verb, None).is_ok());
    let shown = |entry: &Entry| {
        let Entry { key, title, path, icon, .. } = *entry;
        json!({ "title": title, "href": path, "icon": icon, "current": key == current })
    };
    entries.map(shown).collect()
}

/// The tabs of `app` as `grants` has them.
pub(super) fn tabs(grants: &Grants, app: &AppName, current: &str) -> Value {
    let tabs = TABS.iter().filter(|tab| grants.allow(tab.verb, Some(app)).is_ok());
    let shown = |tab: &Tab| {
        let Tab { key, title, path, .. } = *tab;
        json!({ "title": title, "href": format!("/apps/{app}{path}"), "current": key == current })
    };
    tabs.map(shown).collect()
}

/// The title of a tab.
pub(super) fn tab_title(key: &str) -> &'static str {
    TABS.iter().find(|tab| tab.key == key).map_or("App", |tab| tab.title)
}
