//! The schema, as the steps that lead to it. Steps are only ever added.

use std::path::Path;

use rusqlite::Connection;

use super::{Error, Result};

/// Step `n` leads from schema `n` to `n + 1`; `user_version` holds the schema of a file.
const STEPS: &[&str] = &[
    "
create table apps (
    id integer primary key,
    name text not null unique,
    created_at integer not null,
    deploy_branch text,
    stack text not null,
    run_state text not null,
    restarts integer not null default 0,
    current_release integer,
    config text not null default '{}',
    formation text not null default '{}',
    resources text not null default '{}',
    checks text not null default '{}',
    custom_domains integer not null default 0
) strict;
create table domains (
    hostname text primary key,
    app integer not null references apps (id) on delete cascade
) strict;
create table releases (
    app integer not null references apps (id) on delete cascade,
    version integer not null,
    body text not null,
    status text not null,
    failure text,
    primary key (app, version)
) strict;
create table builds (
    id integer primary key autoincrement,
    app integer not null references apps (id) on delete cascade,
    commit_id text not null,
    actor text not null,
    status text not null,
    failure text,
    created_at integer not null,
    finished_at integer,
    release integer
) strict;
create index builds_by_app on builds (app, id);
create table pushes (
    id text primary key,
    at integer not null,
    outcome text not null
) strict;
create table events (
    id integer primary key autoincrement,
    at integer not null,
    app text,
    kind text not null,
    message text not null,
    actor text not null
) strict;
create index events_by_app on events (app, id);
create table ssh_keys (
    name text primary key,
    fingerprint text not null unique,
    public_key text not null,
    added_at integer not null
) strict;
create table stacks (
    name text primary key,
    body text not null
) strict;
create table settings (
    key text primary key,
    value text not null
) strict;
",
    "
alter table apps add column front text not null default '{}';
create table routes (
    domain text not null,
    path text not null,
    app integer not null references apps (id) on delete cascade,
    process_type text not null,
    strip integer not null,
    primary key (domain, path)
) strict;
create index routes_by_app on routes (app);
",
    "
alter table apps add column acme text not null default '{}';
create table certificates (
    app integer not null references apps (id) on delete cascade,
    domain text not null,
    id text not null,
    body text not null,
    primary key (app, domain)
) strict;
create table acme_progress (
    app integer not null references apps (id) on delete cascade,
    domain text not null,
    body text not null,
    primary key (app, domain)
) strict;
",
    "
create table services (
    id integer primary key,
    kind text not null,
    name text not null,
    body text not null,
    unique (kind, name)
) strict;
create table service_links (
    service integer not null references services (id) on delete cascade,
    app integer not null references apps (id) on delete cascade,
    body text not null,
    primary key (service, app)
) strict;
create index service_links_by_app on service_links (app);
",
    "
create table plugins (
    name text primary key,
    body text not null
) strict;
create table plugin_settings (
    plugin text not null,
    app integer references apps (id) on delete cascade,
    key text not null,
    value text not null,
    unique (plugin, app, key)
) strict;
create table plugin_routes (
    plugin text not null,
    app integer not null references apps (id) on delete cascade,
    body text not null,
    primary key (plugin, app)
) strict;
",
    "
alter table apps add column mounts text not null default '[]';
alter table apps add column cron text not null default '{}';
create table volumes (
    id text primary key,
    name text not null unique,
    body text not null
) strict;
create table timers (
    key text primary key,
    handled_until integer not null,
    missed integer not null
) strict;
create table cron_runs (
    id integer primary key autoincrement,
    app integer not null references apps (id) on delete cascade,
    task text not null,
    body text not null
) strict;
create index cron_runs_by_task on cron_runs (app, task, id);
",
    "
create table backups (
    id text primary key,
    kind text not null,
    service text not null,
    running integer not null,
    body text not null
) strict;
create index backups_by_service on backups (kind, service, id);
create table backup_settings (
    kind text not null,
    service text not null,
    body text not null,
    primary key (kind, service)
) strict;
",
    // Whoever had a key could do everything, and still can; an admin takes away what is too much.
    "
create table users (
    id integer primary key autoincrement,
    name text not null unique,
    role text,
    created_at integer not null
) strict;
create table grants (
    user integer not null references users (id) on delete cascade,
    app integer not null references apps (id) on delete cascade,
    role text not null,
    primary key (user, app)
) strict;
insert into users (name, role, created_at) select name, 'admin', added_at from ssh_keys;
alter table ssh_keys add column user integer references users (id) on delete cascade;
update ssh_keys set user = (select id from users where users.name = ssh_keys.name);
",
    "
create table build_details (
    build integer primary key references builds (id) on delete cascade,
    subject text not null,
    stages text not null,
    hint text
) strict;
",
    // Whoever reads this file can sign in as nobody: only hashes of the secrets are here.
    "
create table sessions (
    id integer primary key autoincrement,
    hash blob not null unique,
    user integer not null references users (id) on delete cascade,
    token text,
    created_at integer not null,
    seen_at integer not null,
    address text,
    agent text not null
) strict;
create index sessions_by_user on sessions (user, id);
create table login_codes (
    hash blob primary key,
    user integer not null references users (id) on delete cascade,
    expires_at integer not null
) strict;
",
    "
alter table users add column password text;
alter table users add column disabled integer not null default 0;
create table tokens (
    id text primary key,
    user integer not null references users (id) on delete cascade,
    parent text references tokens (id) on delete cascade,
    name text not null,
    hash blob not null,
    narrowed integer not null,
    verbs text,
    created_at integer not null,
    expires_at integer,
    used_at integer,
    used_from text,
    unique (user, name)
) strict;
create table token_apps (
    token text not null references tokens (id) on delete cascade,
    app integer not null references apps (id) on delete cascade,
    primary key (token, app)
) strict;
alter table events add column before text;
alter table events add column after text;
create index events_by_time on events (at);
",
    "
create table log_settings (
    app integer primary key references apps (id) on delete cascade,
    body text not null
) strict;
",
];

/// Brings the schema up to date, each step in a transaction of its own.
pub(super) fn run(connection: &Connection, path: &Path) -> Result<()> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
        .map_err(|source| Error::Open { path: path.into(), source })?;
    if found > STEPS.len() {
        return Err(Error::TooNew { path: path.into(), found, known: STEPS.len() });
    }
    for (index, step) in STEPS.iter().enumerate().skip(found) {
        let version = index + 1;
        let sql = format!("begin immediate; {step} pragma user_version = {version}; commit;");
        connection.execute_batch(&sql).map_err(|source| Error::Migrate { version, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AppId, FrontSettings};
    use crate::store::Store;

    #[test]
    fn a_database_of_the_first_schema_keeps_its_apps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("staithe.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "insert into apps (id, name, created_at, stack, run_state)
             values (7, 'shop', 1, 'debian-13', 'running');
             pragma user_version = 1;",
        )
        .unwrap();
        drop(old);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.apps().unwrap()[0].name.as_str(), "shop");
        assert_eq!(store.front(AppId(7)).unwrap(), FrontSettings::default());
        assert_eq!(store.path_routes().unwrap(), []);
    }
}
