//! Every template, one line each.

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        /// Names with their texts.
        pub(super) const ALL: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../templates/dashboard/", $name, ".hbs")))),*
        ];
    };
}

templates! {
    "layout",
    "bare",
    "csrf",
    "refusal",
    "problem",
    "sign-in",
    "sessions",
    "apps",
    "new-app",
    "events",
    "host",
    "access",
    "settings",
    "app/overview",
    "app/builds",
    "app/deployments",
    "app/deployment",
    "app/releases",
    "app/release",
    "app/logs",
    "app/metrics",
    "app/console",
    "app/access",
    "app/config",
    "app/config-review",
    "app/scale",
    "app/domains",
    "app/services",
    "app/cron",
    "app/volumes",
    "app/settings",
    "services",
    "service",
}
