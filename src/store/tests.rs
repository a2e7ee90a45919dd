//! The store against real files.

use super::*;
use crate::domain::{
    Actor, App, BuildStatus, FrontSettings, PageOccasion, PathRoute, ProcessType, ProxyKey,
    ProxySettings, Release, ReleaseStatus, ReleaseVersion, Timestamp,
};

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("staithe.db")).unwrap();
    (directory, store)
}

fn create(store: &Store, name: &str) -> App {
    let name = name.parse().unwrap();
    store.create_app(&NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) }).unwrap()
}

fn release(app: &App) -> NewRelease {
    NewRelease {
        release: Release {
            app: app.id,
            version: ReleaseVersion(0),
            image: "sha256:00".into(),
            build: None,
            commit: None,
            processes: Default::default(),
            checks: Default::default(),
            config: Default::default(),
            injected: Default::default(),
            formation: Default::default(),
            resources: Default::default(),
            mounts: Default::default(),
            cron: Default::default(),
            description: "Deploy".into(),
            actor: Actor::platform(),
            created_at: Timestamp(2),
            status: ReleaseStatus::Failed,
            failure: None,
        },
    }
}

#[test]
fn apps_keep_their_id_when_renamed_and_free_it_when_removed() {
    let (_directory, store) = store();
    let (shop, blog) = (create(&store, "shop"), create(&store, "blog"));
    assert_eq!((shop.id.0, blog.id.0), (1, 2));
    store.rename_app(shop.id, &"store".parse().unwrap()).unwrap();
    assert_eq!(store.app(&"store".parse().unwrap()).unwrap().unwrap().id, shop.id);
    store.remove_app(shop.id).unwrap();
    assert_eq!(create(&store, "third").id, shop.id);
}

#[test]
fn a_taken_name_is_refused_by_name() {
    let (_directory, store) = store();
    create(&store, "shop");
    let name = "shop".parse().unwrap();
    let error = store
        .create_app(&NewApp { name: &name, stack: "debian-13", created_at: Timestamp(1) })
        .unwrap_err();
    assert_eq!(error.to_string(), "app `shop` exists already");
}

#[test]
fn a_domain_belongs_to_one_app_and_a_refused_change_changes_nothing() {
    let (_directory, store) = store();
    let (shop, blog) = (create(&store, "shop"), create(&store, "blog"));
    let domain = |text: &str| text.parse().unwrap();
    store.set_domains(shop.id, Some(&[domain("a.example")])).unwrap();
    store.set_domains(blog.id, Some(&[domain("b.example")])).unwrap();
    let error =
        store.set_domains(blog.id, Some(&[domain("c.example"), domain("a.example")])).unwrap_err();
    assert_eq!(error.to_string(), "domain `a.example` exists already");
    assert_eq!(store.domains(blog.id).unwrap(), Some(vec![domain("b.example")]));
    store.set_domains(blog.id, None).unwrap();
    assert_eq!(store.domains(blog.id).unwrap(), None);
}

#[test]
fn releases_count_up_and_a_failed_one_never_overwrites_success() {
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let first = store.add_release(release(&app)).unwrap();
    assert_eq!((first.version, first.status), (ReleaseVersion(1), ReleaseStatus::Deploying));
    assert_eq!(store.interrupted_releases().unwrap().len(), 1);
    store.set_current_release(&app, first.version, None).unwrap();
    store.fail_release(app.id, first.version, "too late").unwrap();
    let read = store.release(app.id, first.version).unwrap().unwrap();
    assert_eq!((read.status, read.failure), (ReleaseStatus::Succeeded, None));
    assert_eq!(store.app_by_id(app.id).unwrap().unwrap().current_release, Some(first.version));
    assert_eq!(store.add_release(release(&app)).unwrap().version, ReleaseVersion(2));
}

#[test]
fn a_release_is_switched_to_together_with_its_settings() {
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let mut settings = store.settings(app.id).unwrap();
    settings.formation.set("worker".parse().unwrap(), 3).unwrap();
    let first = store.add_release(release(&app)).unwrap();
    store.set_current_release(&app, first.version, Some(&settings)).unwrap();
    assert_eq!(store.settings(app.id).unwrap().formation, settings.formation);
    // A release that is started anew says nothing about settings that wait for the next one.
    store.set_current_release(&app, first.version, None).unwrap();
    assert_eq!(store.settings(app.id).unwrap().formation, settings.formation);
}

#[test]
fn pruning_keeps_the_newest_and_the_current_release() {
    let (_directory, store) = store();
    let app = create(&store, "shop");
    for _ in 0..5 {
        store.add_release(release(&app)).unwrap();
    }
    store.set_current_release(&app, ReleaseVersion(1), None).unwrap();
    store.prune_releases(app.id, 2).unwrap();
    let kept: Vec<u32> =
        store.releases(app.id, 10).unwrap().iter().map(|release| release.version.0).collect();
    assert_eq!(kept, [5, 4, 1]);
}

#[test]
fn builds_that_never_ended_are_found_again() {
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let new = NewBuild {
        app: app.id,
        commit: "c0ffee",
        actor: &Actor::platform(),
        created_at: Timestamp(3),
    };
    let (first, second) = (store.add_build(&new).unwrap(), store.add_build(&new).unwrap());
    store.start_build(first.id).unwrap();
    store
        .finish_build(second.id, BuildStatus::Canceled, Some("newer push"), None, Timestamp(4))
        .unwrap();
    let interrupted = store.interrupted_builds().unwrap();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0].id, first.id);
    assert_eq!(store.prune_builds(app.id, 0).unwrap(), [second.id]);
}

#[test]
fn settings_survive_reopening() {
    let (directory, store) = store();
    let app = create(&store, "shop");
    let mut settings = store.settings(app.id).unwrap();
    settings.config.set("KEY".parse().unwrap(), crate::domain::Secret::new("v")).unwrap();
    settings.formation.set("worker".parse().unwrap(), 3).unwrap();
    store.set_settings(app.id, &settings).unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("staithe.db")).unwrap();
    let read = store.settings(app.id).unwrap();
    assert_eq!(read.config, settings.config);
    assert_eq!(read.formation, settings.formation);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let (directory, store) = store();
    store.lock().pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = Store::open(&directory.path().join("staithe.db")).unwrap_err().to_string();
    assert!(error.contains("use a newer Staithe"), "{error}");
}

#[test]
fn push_outcomes_are_kept_for_a_day() {
    let (_directory, store) = store();
    store.set_push_outcome("p1", &"accepted", Timestamp(0)).unwrap();
    assert_eq!(store.push_outcome::<String>("p1").unwrap().as_deref(), Some("accepted"));
    store.set_push_outcome("p2", &"rejected", Timestamp(90_000_000)).unwrap();
    assert_eq!(store.push_outcome::<String>("p1").unwrap(), None);
}

#[test]
fn a_front_door_is_kept_with_its_app_and_one_for_all() {
    let (_directory, store) = store();
    let shop = create(&store, "shop");
    assert_eq!(store.front(shop.id).unwrap(), FrontSettings::default());
    let mut front = FrontSettings { maintenance: true, ..FrontSettings::default() };
    front.ports.set(&["http:8080:6000".parse().unwrap()]).unwrap();
    front.proxy.set(ProxyKey::Allow, Some("10.0.0.0/8")).unwrap();
    front.pages.insert(PageOccasion::Error, "ab".repeat(32).parse().unwrap());
    store.set_front(shop.id, &front).unwrap();
    assert_eq!(store.front(shop.id).unwrap(), front);
    assert_eq!(store.global_proxy().unwrap(), ProxySettings::default());
    store.set_global_proxy(&front.proxy).unwrap();
    assert_eq!(store.global_proxy().unwrap(), front.proxy);
}

#[test]
fn an_address_leads_to_one_app_and_is_free_when_that_is_gone() {
    let (_directory, store) = store();
    let (shop, blog) = (create(&store, "shop"), create(&store, "blog"));
    let route = |process_type: &str| PathRoute {
        address: "a.example/api".parse().unwrap(),
        process_type: process_type.parse().unwrap(),
        strip: true,
    };
    store.set_path_route(shop.id, &route("web")).unwrap();
    let error = store.set_path_route(blog.id, &route("web")).unwrap_err();
    assert_eq!(error.to_string(), "route `a.example/api` exists already");
    store.set_path_route(shop.id, &route("api")).unwrap();
    assert_eq!(store.path_routes().unwrap(), [(shop.id, route("api"))]);
    assert!(!store.remove_path_route(blog.id, &route("api").address).unwrap());
    store.remove_app(shop.id).unwrap();
    store.set_path_route(blog.id, &route("web")).unwrap();
    assert!(store.remove_path_route(blog.id, &route("web").address).unwrap());
}

#[test]
fn a_domain_given_to_an_app_or_routed_as_a_whole_is_known() {
    let (_directory, store) = store();
    let (shop, blog) = (create(&store, "shop"), create(&store, "blog"));
    let domain = |text: &str| text.parse().unwrap();
    store.set_domains(shop.id, Some(&[domain("a.example")])).unwrap();
    for address in ["b.example", "c.example/api"] {
        let address = address.parse().unwrap();
        let route = PathRoute { address, process_type: ProcessType::web(), strip: false };
        store.set_path_route(shop.id, &route).unwrap();
    }
    let given = |to: &App, text: &str| store.is_given_to_another(to.id, &domain(text)).unwrap();
    assert_eq!(["a", "b", "c"].map(|n| given(&blog, &format!("{n}.example"))), [true, true, false]);
    assert!(!given(&shop, "a.example"));
}

#[test]
fn a_certificate_replaces_that_of_the_same_domain_and_goes_with_its_app() {
    use crate::domain::{
        AcmeProgress, AcmeSettings, CertificateFacts, CertificateSource, Hostname,
    };
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let host = |name: &str| name.parse::<Hostname>().unwrap();
    let certificate = |domain: Option<&str>, digit: &str| StoredCertificate {
        source: CertificateSource::Acme,
        domain: domain.map(host),
        facts: CertificateFacts {
            id: digit.repeat(64).parse().unwrap(),
            subject: "CN=x".into(),
            issuer: "CN=y".into(),
            names: vec![host("x.test")],
            not_before: Timestamp(1),
            not_after: Timestamp(2),
            key: "EC P-256".into(),
            verified: true,
        },
        added_at: Timestamp(3),
        server: None,
    };
    for (domain, digit) in [(None, "1"), (Some("x.test"), "2"), (Some("x.test"), "3")] {
        store.set_certificate(app.id, &certificate(domain, digit)).unwrap();
    }
    let kept = [certificate(None, "1"), certificate(Some("x.test"), "3")];
    assert_eq!(store.certificates(app.id).unwrap(), kept);
    assert!(store.remove_certificate(app.id, None).unwrap());
    assert!(!store.remove_certificate(app.id, None).unwrap());

    let progress = AcmeProgress { failures: 3, ..AcmeProgress::default() };
    for name in ["x.test", "y.test"] {
        store.set_acme_progress(app.id, &host(name), &progress).unwrap();
    }
    store.forget_acme_progress(app.id, &[host("y.test")]).unwrap();
    let left: Vec<_> = store.acme_progress(app.id).unwrap().into_iter().collect();
    assert_eq!(left, [(host("y.test"), progress)]);
    let settings = AcmeSettings { enabled: Some(true), ..AcmeSettings::default() };
    store.set_acme_settings(app.id, &settings).unwrap();
    assert_eq!(store.acme_settings(app.id).unwrap(), settings);

    store.remove_app(app.id).unwrap();
    assert_eq!(store.certificate_ids().unwrap(), []);
    assert_eq!(store.acme_progress(app.id).unwrap().len(), 0);
}

#[test]
fn a_volumes_name_is_given_once_and_who_mounts_it_is_known() {
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let volume = |id: &str| crate::domain::Volume {
        id: id.parse().unwrap(),
        name: "uploads".parse().unwrap(),
        size: Some(crate::domain::Bytes(16 << 20)),
        mode: Default::default(),
        host_dir: None,
        created_at: Timestamp(1),
    };
    store.add_volume(&volume("0a1b2c3d4e5f")).unwrap();
    let error = store.add_volume(&volume("ffffffffffff")).unwrap_err().to_string();
    assert_eq!(error, "volume `uploads` exists already");
    let mut settings = store.settings(app.id).unwrap();
    let mount = r#"{"source": "uploads", "container_dir": "/data"}"#;
    settings.mounts.add(serde_json::from_str(mount).unwrap()).unwrap();
    store.set_settings(app.id, &settings).unwrap();
    assert_eq!(store.settings(app.id).unwrap().mounts, settings.mounts);
    let [next, current] = &store.mounts().unwrap()[..] else { panic!("not one app") };
    assert_eq!((next.1.iter().count(), current.1.iter().count()), (1, 0));
    // What a release has is found as well, until another serves.
    let mut new = release(&app);
    new.release.mounts = settings.mounts.clone();
    let version = store.add_release(new).unwrap().version;
    settings.mounts = Default::default();
    store.set_current_release(&app, version, Some(&settings)).unwrap();
    let [next, current] = &store.mounts().unwrap()[..] else { panic!("not one app") };
    assert_eq!((next.1.iter().count(), current.1.iter().count()), (0, 1));
    store.remove_volume(&volume("0a1b2c3d4e5f").id).unwrap();
    assert_eq!(store.volumes().unwrap(), []);
}

#[test]
fn runs_of_a_task_are_kept_up_to_a_number_and_found_if_they_never_ended() {
    use crate::domain::{CronOutcome, CronRun, CronTrigger};
    let (_directory, store) = store();
    let app = create(&store, "shop");
    let run = CronRun {
        id: 0,
        app: app.id,
        task: "0a1b2c3d".parse().unwrap(),
        command: "true".into(),
        trigger: CronTrigger::Schedule,
        release: ReleaseVersion(1),
        due_at: Timestamp(1),
        started_at: Timestamp(2),
        finished_at: None,
        outcome: CronOutcome::Running,
        exit_code: None,
        message: None,
        output: Vec::new(),
    };
    for _ in 0..5 {
        let begun = store.add_cron_run(&run).unwrap();
        assert_eq!(store.unfinished_cron_runs().unwrap(), std::slice::from_ref(&begun));
        let ended = CronRun { outcome: CronOutcome::Succeeded, ..begun };
        store.finish_cron_run(&ended, 3).unwrap();
    }
    assert_eq!(store.unfinished_cron_runs().unwrap(), []);
    let kept = store.cron_runs(app.id, Some(&run.task), 10).unwrap();
    assert_eq!(kept.iter().map(|run| run.id).collect::<Vec<_>>(), [5, 4, 3]);
    let state = TimerState { handled_until: Timestamp(7), missed: 2 };
    store.set_timer("cron/1/0a1b2c3d", state).unwrap();
    assert_eq!(store.timer("cron/1/0a1b2c3d").unwrap(), Some(state));
    store.remove_timer("cron/1/0a1b2c3d").unwrap();
    assert_eq!(store.timers().unwrap(), []);
    store.remove_app(app.id).unwrap();
    assert_eq!(store.cron_runs(app.id, None, 10).unwrap(), []);
}
