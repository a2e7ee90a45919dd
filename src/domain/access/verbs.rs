//! All verbs, with the role that each needs.

use super::{On, Role, Verb};

macro_rules! verbs {
    ($($name:ident = $text:literal, $on:ident, $needs:ident;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: Verb = Verb { name: $text, needs: Role::$needs, on: On::$on };
        )*
        /// Every verb there is.
        pub const ALL: &[Verb] = &[$($name),*];
    };
}

verbs! {
    // On the machine.
    SYSTEM_VERSION = "system:version", Anybody, View;
    GC_RUN = "gc:run", Platform, Admin;
    EVENTS_LIST = "events:list", Anybody, View;
    METRICS_SHOW = "metrics:show", Platform, View;
    LOGS_DRAIN_PRIVATE = "logs:drain-private", Platform, Admin;
    APPS_LIST = "apps:list", Anybody, View;
    APPS_CREATE = "apps:create", Platform, Deploy;
    DOMAINS_REPORT_GLOBAL = "domains:report-global", Platform, View;
    DOMAINS_SET_GLOBAL = "domains:set-global", Platform, Admin;
    LETSENCRYPT_REPORT_GLOBAL = "letsencrypt:report-global", Platform, View;
    LETSENCRYPT_SET_GLOBAL = "letsencrypt:set-global", Platform, Admin;
    LETSENCRYPT_LIST = "letsencrypt:list", Platform, View;
    LETSENCRYPT_AUTO_RENEW = "letsencrypt:auto-renew", Platform, Operate;
    SSH_KEYS_LIST = "ssh-keys:list", Platform, Admin;
    SSH_KEYS_ADD = "ssh-keys:add", Platform, Admin;
    SSH_KEYS_REMOVE = "ssh-keys:remove", Platform, Admin;
    SSH_EXEC = "ssh:exec", Anybody, View;
    STACKS_LIST = "stacks:list", Platform, View;
    STACKS_BUILD = "stacks:build", Platform, Admin;
    STACKS_INFO = "stacks:info", Platform, View;
    STACKS_REMOVE = "stacks:remove", Platform, Admin;
    STORAGE_LIST = "storage:list", Platform, View;
    STORAGE_CREATE = "storage:create", Platform, Operate;
    STORAGE_INFO = "storage:info", Platform, View;
    STORAGE_DESTROY = "storage:destroy", Platform, Operate;
    STORAGE_RESIZE = "storage:resize", Platform, Operate;
    CRON_REPORT_GLOBAL = "cron:report-global", Platform, View;
    CRON_SET_GLOBAL = "cron:set-global", Platform, Admin;
    PROXY_REPORT_GLOBAL = "proxy:report-global", Platform, View;
    PROXY_SET_GLOBAL = "proxy:set-global", Platform, Admin;
    PROXY_UPGRADE = "proxy:upgrade", Platform, Admin;
    ROUTES_LIST = "routes:list", Platform, View;
    PLUGIN_LIST = "plugin:list", Platform, View;
    PLUGIN_INSTALL = "plugin:install", Platform, Admin;
    PLUGIN_INFO = "plugin:info", Platform, View;
    PLUGIN_UNINSTALL = "plugin:uninstall", Platform, Admin;
    PLUGIN_ENABLE = "plugin:enable", Platform, Admin;
    PLUGIN_DISABLE = "plugin:disable", Platform, Admin;
    PLUGIN_SETTINGS = "plugin:settings", Platform, Admin;
    PLUGIN_SET = "plugin:set", Platform, Admin;
    PLUGIN_COMMAND = "plugin:command", Platform, Admin;
    PLUGIN_TRIGGER = "plugin:trigger", Platform, Admin;
    // Services.
    SERVICES_LIST = "services:list", Platform, View;
    SERVICES_CREATE = "services:create", Platform, Operate;
    SERVICES_INFO = "services:info", Platform, Operate;
    SERVICES_DESTROY = "services:destroy", Platform, Operate;
    SERVICES_CLONE = "services:clone", Platform, Operate;
    SERVICES_LINKS = "services:links", Platform, View;
    SERVICES_LINK = "services:link", Platform, Operate;
    SERVICES_UNLINK = "services:unlink", Platform, Operate;
    SERVICES_PROMOTE = "services:promote", Platform, Operate;
    SERVICES_EXPOSE = "services:expose", Platform, Operate;
    SERVICES_UNEXPOSE = "services:unexpose", Platform, Operate;
    SERVICES_START = "services:start", Platform, Operate;
    SERVICES_STOP = "services:stop", Platform, Operate;
    SERVICES_RESTART = "services:restart", Platform, Operate;
    SERVICES_PAUSE = "services:pause", Platform, Operate;
    SERVICES_SET = "services:set", Platform, Operate;
    SERVICES_LOGS = "services:logs", Platform, View;
    SERVICES_CONNECT = "services:connect", Platform, Operate;
    SERVICES_ENTER = "services:enter", Platform, Operate;
    SERVICES_EXPORT = "services:export", Platform, Operate;
    SERVICES_IMPORT = "services:import", Platform, Operate;
    SERVICES_INSTALL_TYPE = "services:install-type", Platform, Admin;
    SERVICES_BACKUP_LIST = "services:backup-list", Platform, View;
    SERVICES_BACKUP = "services:backup", Platform, Operate;
    SERVICES_BACKUP_VERIFY = "services:backup-verify", Platform, Operate;
    SERVICES_BACKUP_INFO = "services:backup-info", Platform, View;
    SERVICES_BACKUP_REMOVE = "services:backup-remove", Platform, Operate;
    SERVICES_RESTORE = "services:restore", Platform, Operate;
    SERVICES_BACKUP_STATUS = "services:backup-status", Platform, View;
    SERVICES_BACKUP_SET = "services:backup-set", Platform, Operate;
    SERVICES_BACKUP_REPORT_GLOBAL = "services:backup-report-global", Platform, View;
    SERVICES_BACKUP_SET_GLOBAL = "services:backup-set-global", Platform, Admin;
    // On one app.
    APPS_INFO = "apps:info", App, View;
    APPS_DESTROY = "apps:destroy", App, Admin;
    APPS_RENAME = "apps:rename", App, Admin;
    APPS_CLONE = "apps:clone", App, Admin;
    APPS_SET_DEPLOY_BRANCH = "apps:set-deploy-branch", App, Operate;
    CONFIG_SHOW = "config:show", App, Operate;
    CONFIG_SET = "config:set", App, Operate;
    PS_REPORT = "ps:report", App, View;
    PS_SCALE = "ps:scale", App, Operate;
    PS_START = "ps:start", App, Operate;
    PS_STOP = "ps:stop", App, Operate;
    PS_RESTART = "ps:restart", App, Deploy;
    PS_REBUILD = "ps:rebuild", App, Deploy;
    RUN_START = "run:start", App, Operate;
    ENTER_START = "enter:start", App, Operate;
    LOGS_SHOW = "logs:show", App, View;
    LOGS_ACCESS = "logs:access", App, View;
    LOGS_REPORT = "logs:report", App, View;
    LOGS_SET = "logs:set", App, Operate;
    RELEASES_LIST = "releases:list", App, View;
    RELEASES_INFO = "releases:info", App, View;
    RELEASES_ROLLBACK = "releases:rollback", App, Deploy;
    BUILDS_LIST = "builds:list", App, View;
    BUILDS_CANCEL = "builds:cancel", App, Deploy;
    BUILDS_INFO = "builds:info", App, View;
    BUILDS_OUTPUT = "builds:output", App, View;
    DOMAINS_REPORT = "domains:report", App, View;
    DOMAINS_ADD = "domains:add", App, Operate;
    DOMAINS_REMOVE = "domains:remove", App, Operate;
    DOMAINS_SET = "domains:set", App, Operate;
    SERVICES_OF_APP = "services:of-app", App, View;
    RESOURCE_REPORT = "resource:report", App, View;
    RESOURCE_LIMIT = "resource:limit", App, Operate;
    RESOURCE_RESERVE = "resource:reserve", App, Operate;
    CHECKS_REPORT = "checks:report", App, View;
    CHECKS_SET = "checks:set", App, Operate;
    CHECKS_RUN = "checks:run", App, Deploy;
    STORAGE_REPORT = "storage:report", App, View;
    STORAGE_MOUNT = "storage:mount", App, Operate;
    STORAGE_UNMOUNT = "storage:unmount", App, Operate;
    CRON_REPORT = "cron:report", App, View;
    CRON_SET = "cron:set", App, Operate;
    CRON_RUNS = "cron:runs", App, View;
    CRON_RUN = "cron:run", App, Operate;
    CRON_SWITCH = "cron:switch", App, Operate;
    GIT_PUSH = "git:push", App, Deploy;
    GIT_FETCH = "git:fetch", App, View;
    GIT_PUSH_OUTCOME = "git:push-outcome", App, View;
    CERTS_REPORT = "certs:report", App, View;
    CERTS_ADD = "certs:add", App, Operate;
    CERTS_REMOVE = "certs:remove", App, Operate;
    CERTS_GENERATE = "certs:generate", App, Operate;
    CERTS_CHAIN = "certs:chain", App, View;
    CERTS_KEY = "certs:key", App, Admin;
    LETSENCRYPT_REPORT = "letsencrypt:report", App, View;
    LETSENCRYPT_SET = "letsencrypt:set", App, Operate;
    LETSENCRYPT_ENABLE = "letsencrypt:enable", App, Operate;
    LETSENCRYPT_DISABLE = "letsencrypt:disable", App, Operate;
    LETSENCRYPT_RENEW = "letsencrypt:renew", App, Operate;
    LETSENCRYPT_REVOKE = "letsencrypt:revoke", App, Operate;
    PROXY_REPORT = "proxy:report", App, View;
    PROXY_SET = "proxy:set", App, Operate;
    PROXY_SWITCH = "proxy:switch", App, Operate;
    PORTS_REPORT = "ports:report", App, View;
    PORTS_ADD = "ports:add", App, Operate;
    PORTS_SET = "ports:set", App, Operate;
    PORTS_REMOVE = "ports:remove", App, Operate;
    MAINTENANCE_REPORT = "maintenance:report", App, View;
    MAINTENANCE_SET = "maintenance:set", App, Operate;
    PAGES_LIST = "pages:list", App, View;
    PAGES_SET = "pages:set", App, Operate;
    PAGES_CLEAR = "pages:clear", App, Operate;
    ROUTES_OF_APP = "routes:of-app", App, View;
    ROUTES_ADD = "routes:add", App, Operate;
    ROUTES_REMOVE = "routes:remove", App, Operate;
}
