//! Front doors of all kinds, as the proxy is told of them.

use super::*;
use crate::domain::{Millis, PageOccasion, UNLIMITED};

fn door(mappings: &[&str], domains: &[&str], paths: &[(&str, &str)]) -> FrontDoor {
    let path = |(address, process_type): &(&str, &str)| PathRoute {
        address: address.parse().unwrap(),
        process_type: process_type.parse().unwrap(),
        strip: true,
    };
    FrontDoor {
        domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
        paths: paths.iter().map(path).collect(),
        mappings: mappings.iter().map(|mapping| mapping.parse().unwrap()).collect(),
        port: 5000,
        front: FrontSettings::default(),
        proxy: ProxySettings::defaults(),
    }
}

/// `web $PORT http1: shop.test/ http https`.
fn shown(door: &FrontDoor) -> Vec<String> {
    let target = |(target, bindings): (Target, Vec<Binding>)| {
        let port = target.port.map_or("$PORT".to_owned(), |port| port.to_string());
        let bindings: Vec<_> = bindings
            .iter()
            .map(|binding| {
                let listeners: Vec<_> = binding
                    .listeners
                    .iter()
                    .map(|listener| match listener {
                        ListenerName::Http => "http".to_owned(),
                        ListenerName::Https => "https".to_owned(),
                        ListenerName::Port(port) => port.to_string(),
                    })
                    .collect();
                format!("{}{} {}", binding.domain, binding.path, listeners.join(" "))
            })
            .collect();
        let protocol = target.protocol.as_str();
        format!("{} {port} {protocol}: {}", target.process_type, bindings.join(", "))
    };
    door.targets().into_iter().map(target).collect()
}

#[test]
fn both_listeners_lead_to_the_apps_port() {
    let door = door(&["http:80:5000", "https:443:5000"], &["a.test", "b.test"], &[]);
    assert_eq!(shown(&door), ["web $PORT http1: a.test/ http https, b.test/ http https"]);
    assert_eq!(door.ports(&ProcessType::web()), [None]);
    assert_eq!(door.ports(&"worker".parse().unwrap()), []);
}

#[test]
fn each_container_port_and_protocol_is_a_target() {
    let door = door(
        &["http:80:5000", "http:8080:6000", "grpc:9090:5000", "http:81:5000"],
        &["a.test"],
        &[],
    );
    let expected = [
        "web $PORT http1: a.test/ http 81",
        "web 6000 http1: a.test/ 8080",
        "web $PORT h2c: a.test/ 9090",
    ];
    assert_eq!(shown(&door), expected);
    assert_eq!(door.ports(&ProcessType::web()), [None, Some(6000)]);
    let at = "10.0.0.2:4000".parse().unwrap();
    let expected = ["10.0.0.2:4000", "10.0.0.2:6000"].map(|address| address.parse().unwrap());
    assert_eq!(addresses(at, &door.ports(&ProcessType::web())), expected);
}

#[test]
fn the_first_mapping_leads_to_what_instances_were_told() {
    // Instances that run were told another port than those to come.
    let mut door = door(&["http:80:3000", "http:8080:8000"], &["a.test"], &[]);
    door.port = 3000;
    assert_eq!(shown(&door), ["web $PORT http1: a.test/ http", "web 8000 http1: a.test/ 8080"]);
    // A config var says what they are told.
    door.port = 8000;
    assert_eq!(shown(&door), ["web $PORT http1: a.test/ http 8080"]);
}

#[test]
fn paths_lead_to_process_types_and_make_them_listen() {
    let door = door(
        &["http:80:5000", "https:443:5000"],
        &["a.test"],
        &[("a.test/api", "api"), ("other.test/x", "web")],
    );
    let expected = [
        "web $PORT http1: a.test/ http https",
        "api $PORT http1: a.test/api http https",
        "web $PORT http1: other.test/x http https",
    ];
    assert_eq!(shown(&door), expected);
    assert_eq!(door.ports(&"api".parse().unwrap()), [None]);
}

#[test]
fn a_canonical_host_is_one_the_app_has_and_is_for_its_own_domains() {
    let mut door = door(&["http:80:5000"], &["a.test", "b.test"], &[("other.test/x", "web")]);
    let canonical = |door: &FrontDoor| -> Vec<Option<String>> {
        let settings = |(target, _): &(Target, Vec<Binding>)| {
            door.settings(target).canonical_host.map(|host| host.to_string())
        };
        door.targets().iter().map(settings).collect()
    };
    door.proxy.canonical_host = Some("a.test".parse().unwrap());
    assert_eq!(canonical(&door), [Some("a.test".to_owned()), None]);
    door.proxy.canonical_host = Some("lost.test".parse().unwrap());
    assert_eq!(canonical(&door), [None, None]);
}

#[test]
fn a_redirect_to_https_needs_the_tls_port() {
    let redirects = |door: &FrontDoor| door.settings(&door.targets()[0].0).https_redirect;
    let mut door = door(&["http:80:5000", "https:443:5000"], &["a.test"], &[]);
    assert!(redirects(&door));
    door.proxy.https_redirect = Some(false);
    assert!(!redirects(&door));
    door.proxy.https_redirect = Some(true);
    door.mappings.pop();
    assert!(!redirects(&door));
}

#[test]
fn settings_are_told_in_the_proxys_words() {
    let mut door = door(&["http:80:5000", "https:443:5000"], &["a.test"], &[]);
    let target = door.targets()[0].0.clone();
    let settings = door.settings(&target);
    let hsts = Hsts { max_age_s: 15_724_800, include_subdomains: false, preload: false };
    assert_eq!(settings.hsts, Some(hsts));
    assert_eq!(settings.body_idle_timeout, None);
    door.proxy.read_timeout = Some(Millis(300_000));
    door.proxy.max_body = Some(UNLIMITED);
    door.proxy.hsts = Some(false);
    door.front.maintenance = true;
    let id = "ab".repeat(32);
    door.front.pages.insert(PageOccasion::Error, id.parse().unwrap());
    let settings = door.settings(&target);
    assert_eq!(settings.response_head_timeout, Some(Millis(300_000)));
    assert_eq!(settings.body_idle_timeout, Some(Millis(300_000)));
    assert_eq!(settings.max_body, Some(UNLIMITED));
    assert_eq!((settings.hsts, settings.maintenance), (None, true));
    assert_eq!(settings.pages, [CustomPage { when: PageOccasion::Error, id }]);
}

#[test]
fn urls_name_the_scheme_and_the_port_that_answer() {
    let url = |mappings: &[&str], certificate: bool, http: u16| {
        let standard = |scheme| Some(if scheme == Scheme::Http { http } else { 443 });
        door(mappings, &[], &[]).url(&"a.test".parse().unwrap(), certificate, standard)
    };
    let both = ["http:80:5000", "https:443:5000"];
    assert_eq!(url(&both, false, 80).unwrap(), "http://a.test");
    assert_eq!(url(&both, false, 8000).unwrap(), "http://a.test:8000");
    assert_eq!(url(&both, true, 8000).unwrap(), "https://a.test");
    assert_eq!(url(&["http:8080:5000", "http:80:5000"], true, 80).unwrap(), "http://a.test");
    assert_eq!(url(&["https:8443:5000"], true, 80).unwrap(), "https://a.test:8443");
    assert_eq!(url(&["https:8443:5000"], false, 80), None);
    let route = &door(&[], &[], &[("a.test/api", "web")]).paths[0];
    assert_eq!(route_url(route, false, |_| Some(8000)), "http://a.test:8000/api");
    assert_eq!(route_url(route, true, |_| Some(443)), "https://a.test/api");
}
