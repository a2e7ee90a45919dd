//! Values by key, as given and as shown.

use super::*;

fn key(text: &str) -> ProxyKey {
    text.parse().unwrap()
}

fn set(name: &str, value: &str) -> Result<String, String> {
    let mut settings = ProxySettings::default();
    settings.set(key(name), Some(value)).map_err(|invalid| invalid.to_string())?;
    Ok(settings.get(key(name)).unwrap())
}

#[test]
fn every_key_is_set_shown_and_removed() {
    for (name, value, shown) in [
        ("https-redirect", "off", "false"),
        ("hsts", "true", "true"),
        ("hsts-max-age", "31536000", "31536000"),
        ("hsts-include-subdomains", "yes", "true"),
        ("hsts-preload", "no", "false"),
        ("canonical-host", "WWW.Example.org", "www.example.org"),
        ("allow", "10.0.0.0/8, ::1", "10.0.0.0/8,::1"),
        ("deny", "192.0.2.1", "192.0.2.1"),
        ("trusted-proxies", "10.1.2.3/16", "10.1.0.0/16"),
        ("max-open-requests", "100", "100"),
        ("client-max-body-size", "10m", "10m"),
        ("client-max-header-size", "16k", "16k"),
        ("proxy-read-timeout", "90", "90s"),
        ("body-idle-timeout", "5m", "5m"),
        ("websocket-idle-timeout", "24h", "24h"),
        ("upstream-protocol", "h2c", "h2c"),
        ("access-log", "combined", "combined"),
    ] {
        let mut settings = ProxySettings::default();
        settings.set(key(name), Some(value)).unwrap();
        assert_eq!(settings.get(key(name)).as_deref(), Some(shown), "{name}");
        assert_ne!(settings, ProxySettings::default(), "{name}");
        // What is shown is taken back, and survives the database.
        let mut again = ProxySettings::default();
        again.set(key(name), Some(shown)).unwrap();
        assert_eq!(again, settings, "{name}");
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<ProxySettings>(&json).unwrap(), settings, "{json}");
        settings.set(key(name), None).unwrap();
        assert_eq!(settings, ProxySettings::default(), "{name}");
    }
}

#[test]
fn keys_have_names_that_users_of_nginx_guess() {
    assert_eq!(key("client_max_body_size"), ProxyKey::ClientMaxBodySize);
    assert_eq!(key("proxy-send-timeout"), ProxyKey::BodyIdleTimeout);
    let error = "proxy-buffers".parse::<ProxyKey>().unwrap_err().to_string();
    assert!(error.contains("does not exist; there are https-redirect, hsts,"), "{error}");
    for key in ProxyKey::ALL {
        assert_eq!(key.as_str().parse::<ProxyKey>().unwrap(), key);
    }
}

#[test]
fn wrong_values_are_refused_with_the_rule() {
    for (name, value, why) in [
        ("hsts", "1", "`true` or `false`"),
        ("hsts-max-age", "-1", "seconds"),
        ("canonical-host", "*.example.org", "without a wildcard"),
        ("canonical-host", "http://x", "without scheme"),
        ("allow", "", "networks"),
        ("deny", "10.0.0.0/40", "network"),
        ("max-open-requests", "0", "from 1"),
        ("client-max-body-size", "10", "with its unit"),
        ("client-max-body-size", "much", "with its unit"),
        ("client-max-header-size", "64k", "from 1k to 32k"),
        ("proxy-read-timeout", "0", "up to 7 days"),
        ("proxy-read-timeout", "8d", "up to 7 days"),
        ("proxy-read-timeout", "99999999999999999d", "up to 7 days"),
        ("upstream-protocol", "h3", "`http1` or `h2c`"),
        ("access-log", "apache", "`combined`"),
    ] {
        let error = set(name, value).unwrap_err();
        assert!(error.contains(why), "{name} {value}: {error}");
    }
    let many = vec!["10.0.0.1"; MAX_RANGES + 1].join(",");
    assert!(set("allow", &many).unwrap_err().contains("at most"));
}

#[test]
fn no_limit_on_bodies_is_a_value() {
    assert_eq!(set("client-max-body-size", "0").unwrap(), "unlimited");
    assert_eq!(set("max-body", "unlimited").unwrap(), "unlimited");
}

#[test]
fn an_apps_own_settings_come_first_then_those_of_all_then_the_defaults() {
    let (mut own, mut global) = (ProxySettings::default(), ProxySettings::default());
    own.set(ProxyKey::HttpsRedirect, Some("false")).unwrap();
    global.set(ProxyKey::HttpsRedirect, Some("true")).unwrap();
    global.set(ProxyKey::ClientMaxBodySize, Some("1g")).unwrap();
    let all = own.or(global).or(ProxySettings::defaults());
    assert_eq!(all.https_redirect, Some(false));
    assert_eq!(all.max_body, Some(Bytes(1 << 30)));
    assert_eq!(all.hsts_include_subdomains, Some(false));
    assert_eq!(all.allow, None);
}

#[test]
fn a_wish_that_no_preload_list_grants_is_refused() {
    let mut settings = ProxySettings::defaults();
    settings.check_preload().unwrap();
    settings.hsts_preload = Some(true);
    settings.check_preload().unwrap_err();
    settings.hsts_include_subdomains = Some(true);
    settings.hsts_max_age = Some(MIN_PRELOAD_AGE);
    settings.check_preload().unwrap();
}
