//! `letsencrypt:*`: automatic certificates, switched on and off, ordered now, revoked, told about.

use std::sync::Arc;

use super::acme::Wanted;
use super::{Error, Journal, Kind, Operation, Platform, Result, clock};
use crate::build::Output;
use crate::certificate::acme::Authority;
use crate::domain::{
    AcmeSettings, Actor, App, AppName, ChallengeKind, Hostname, Invalid, Timestamp,
};
use crate::support::report;
use crate::wire::{AcmeChange, AcmeDomain, AcmeOutcome, AcmeReport};

/// The longest value of a setting: a path.
const MAX_VALUE: usize = 4096;

/// Which domains an operation orders for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those without a certificate of the authority in force, and those to be renewed.
    Due,
    /// All.
    All,
}

impl Platform {
    /// Has certificates for all domains of the app, now and from now on.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` without an e-mail address; the operation fails with `Failed` if a
    /// domain got none.
    pub async fn enable_acme(
        &self,
        actor: &Actor,
        name: &AppName,
    ) -> Result<Operation<AcmeOutcome>> {
        let app = self.find_app(name)?;
        if self.authority(&self.acme_in_force(Some(app.id))?).is_none() {
            return Err(no_email());
        }
        let own = self.store.acme_settings(app.id)?;
        self.store.set_acme_settings(app.id, &AcmeSettings { enabled: Some(true), ..own })?;
        self.note(app.id, "certificate.automatic", "automatic certificates switched on", actor);
        let apps = vec![app];
        Ok(self.operate(Journal::new(), move |platform, output, _| async move {
            platform.order_all(&apps, Which::Due, &output).await
        }))
    }

    /// Renews what is due; of all apps if no app is named.
    ///
    /// # Errors
    /// As [`Platform::enable_acme`].
    pub async fn renew_acme(
        &self,
        name: Option<&AppName>,
        force: bool,
    ) -> Result<Operation<AcmeOutcome>> {
        let mut apps = Vec::new();
        match name {
            Some(name) => {
                let app = self.find_app(name)?;
                if self.authority_of(&app)?.is_none() {
                    let message = format!("app `{name}` has no automatic certificates");
                    let hint = format!("switch them on: `staithe letsencrypt:enable {name}`");
                    return Err(Error::new(Kind::Conflict, message).hint(hint));
                }
                apps.push(app);
            }
            None => {
                for app in self.store.apps()? {
                    if self.authority_of(&app)?.is_some() {
                        apps.push(app);
                    }
                }
            }
        }
        let which = if force { Which::All } else { Which::Due };
        Ok(self.operate(Journal::new(), move |platform, output, _| async move {
            platform.order_all(&apps, which, &output).await
        }))
    }

    async fn order_all(
        &self,
        apps: &[App],
        which: Which,
        output: &Arc<Output>,
    ) -> Result<AcmeOutcome> {
        let (mut outcome, mut failed) = (AcmeOutcome::default(), Vec::new());
        for app in apps {
            let Some((authority, settings)) = self.authority_of(app)? else { continue };
            self.tell_skipped(app, &authority, output)?;
            let all = self.wanted_certificates(app, &authority, &settings)?;
            if all.is_empty() && apps.len() == 1 {
                let message =
                    format!("app `{}` has no domain that a certificate can be had for", app.name);
                let hint = format!("add one: `staithe domains:add {} shop.example.com`", app.name);
                return Err(Error::new(Kind::Conflict, message).hint(hint));
            }
            for Wanted { domain, .. } in all {
                let turn = self.order_turn(app, &domain).await?;
                // Looked at anew: whoever had the turn before may have got one.
                let all = self.wanted_certificates(app, &authority, &settings)?;
                if let Some(wanted) = all.into_iter().find(|wanted| wanted.domain == domain) {
                    let told = (&mut outcome, &mut failed);
                    self.order_one(app, wanted, (which, &authority), output, told).await?;
                }
                drop(turn);
            }
        }
        // The keeper waits for what was next before.
        self.0.desk.wake();
        if failed.is_empty() {
            let (new, kept) = (outcome.done.len(), outcome.kept.len());
            output.step(&format!("{new} new, {kept} as before"));
            return Ok(outcome);
        }
        let names: Vec<_> = failed.iter().map(|domain| format!("`{domain}`")).collect();
        let message = format!("no certificate for {}", names.join(", "));
        Err(Error::new(Kind::Failed, message).hint(
            "it is tried again by itself, less and less often; `staithe letsencrypt:report` tells when",
        ))
    }

    fn tell_skipped(&self, app: &App, authority: &Authority, output: &Output) -> Result<()> {
        let domains = self.domains_of(app)?;
        for domain in &domains {
            if let Some(why) = self.skipped(app, &domains, domain, authority)? {
                output.detail(&format!("{domain}: not asked for: {why}"));
            }
        }
        Ok(())
    }

    async fn order_one(
        &self,
        app: &App,
        wanted: Wanted,
        (which, authority): (Which, &Authority),
        output: &Arc<Output>,
        (outcome, failed): (&mut AcmeOutcome, &mut Vec<Hostname>),
    ) -> Result<()> {
        let domain = wanted.domain.clone();
        let now = clock::now();
        let certificate = wanted.certificate.as_ref();
        let same = certificate
            .is_some_and(|one| one.server.as_deref() == Some(authority.directory_url.as_str()));
        if which == Which::Due && same && !wanted.needs_order(now) {
            let end = certificate.map_or(now, |one| one.facts.not_after);
            output.detail(&format!("{domain}: has a certificate until {}", day(end)));
            outcome.kept.push(domain);
            return Ok(());
        }
        output.step(&format!("Ordering a certificate for {domain}"));
        if let Some(until) = wanted.progress.locked_until(now) {
            let minutes = until.since(now).as_secs().div_ceil(60);
            output.notice(&format!(
                "{domain}: the authority has refused several times within the hour, and stops listening at the fifth; try again in {minutes} min"
            ));
            failed.push(domain);
            return Ok(());
        }
        let told = Arc::clone(output);
        let say = move |line: &str| told.detail(line);
        match self.order_certificate(app, wanted, authority, &say).await? {
            Ok(facts) => {
                output.detail(&format!("{domain}: valid until {}", day(facts.not_after)));
                outcome.done.push(domain);
            }
            Err(failure) => {
                output.notice(&format!("{domain}: {failure}"));
                failed.push(domain);
            }
        }
        Ok(())
    }

    /// Ends automatic certificates of the app, and removes those it has.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn disable_acme(&self, actor: &Actor, name: &AppName) -> Result<AcmeReport> {
        let app = self.find_app(name)?;
        self.switch_off(&app)?;
        for one in self.certificates_of(app.id)?.iter() {
            if let Some(domain) = &one.domain {
                self.store.remove_certificate(app.id, Some(domain))?;
            }
        }
        self.certificates_changed(app.id).await?;
        self.note(app.id, "certificate.automatic", "automatic certificates switched off", actor);
        self.acme_report(Some(name)).await
    }

    fn switch_off(&self, app: &App) -> Result<()> {
        let own = self.store.acme_settings(app.id)?;
        self.store.set_acme_settings(app.id, &AcmeSettings { enabled: Some(false), ..own })?;
        Ok(self.store.forget_acme_progress(app.id, &[])?)
    }

    /// Has the app's automatic certificates declared void, and ends them.
    ///
    /// # Errors
    /// `NotFound`, also if there is none; the operation fails if an authority cannot be told, and
    /// that certificate stays.
    pub async fn revoke_acme(
        &self,
        actor: &Actor,
        name: &AppName,
    ) -> Result<Operation<AcmeOutcome>> {
        let app = self.find_app(name)?;
        let certificates = self.certificates_of(app.id)?;
        if !certificates.iter().any(|one| one.domain.is_some()) {
            let message = format!("app `{name}` has no automatic certificate");
            return Err(Error::new(Kind::NotFound, message));
        }
        let settings = self.acme_in_force(Some(app.id))?;
        let authority = self.authority(&settings).ok_or_else(no_email)?;
        self.switch_off(&app)?;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, _| async move {
            platform.revoke_all(&app, &authority, &actor, &output).await
        }))
    }

    async fn revoke_all(
        &self,
        app: &App,
        authority: &Authority,
        actor: &Actor,
        output: &Output,
    ) -> Result<AcmeOutcome> {
        let (mut outcome, mut failed) = (AcmeOutcome::default(), Vec::new());
        for one in self.certificates_of(app.id)?.iter() {
            let Some(domain) = &one.domain else { continue };
            output.step(&format!("Revoking the certificate for {domain}"));
            let server = one.server.clone().unwrap_or_else(|| authority.directory_url.clone());
            let issuer = Authority { directory_url: server, ..authority.clone() };
            let trust = &self.certificates.trust;
            let pair = self.certificates.files.read(&one.facts.id, clock::now(), trust)?;
            match self.certificates.acme.revoke(&issuer, &pair).await {
                Ok(()) => {
                    self.store.remove_certificate(app.id, Some(domain))?;
                    self.note(
                        app.id,
                        "certificate.revoked",
                        &format!("certificate for {domain} revoked"),
                        actor,
                    );
                    outcome.done.push(domain.clone());
                }
                Err(failure) => {
                    output.notice(&format!("{domain}: {failure}"));
                    failed.push(format!("`{domain}`"));
                }
            }
        }
        self.certificates_changed(app.id).await?;
        match failed.is_empty() {
            true => Ok(outcome),
            false => {
                let message = format!("not revoked: {}", failed.join(", "));
                let hint = "automatic certificates are off; try again once the authority answers";
                Err(Error::new(Kind::Failed, message).hint(hint))
            }
        }
    }

    /// Sets what one app, or all without own settings, do about automatic certificates.
    ///
    /// # Errors
    /// `NotFound`; `Invalid`; `Denied` for files and programs of the machine, which only root on it
    /// may name.
    pub async fn set_acme(
        &self,
        actor: &Actor,
        name: Option<&AppName>,
        change: &AcmeChange,
    ) -> Result<AcmeReport> {
        if ["ca-bundle", "dns-hook"].contains(&change.key.as_str())
            && change.value.is_some()
            && actor.via != "local"
        {
            let message =
                format!("`{}` names a file of the server; only root on it may", change.key);
            return Err(Error::new(Kind::Denied, message)
                .hint("run the command on the server, or set it in the operator's file"));
        }
        match name {
            Some(name) => {
                let app = self.find_app(name)?;
                let mut settings = self.store.acme_settings(app.id)?;
                apply(&mut settings, change)?;
                self.store.set_acme_settings(app.id, &settings)?;
                self.note(app.id, "certificate.settings", &told(change), actor);
            }
            None => {
                let mut settings = self.store.global_acme()?;
                apply(&mut settings, change)?;
                self.store.set_global_acme(&settings)?;
                self.note_named(None, "certificate.settings", &told(change), actor);
            }
        }
        self.0.desk.wake();
        self.acme_report(name).await
    }

    /// What is in force for an app and how its domains stand; without an app, for all.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn acme_report(&self, name: Option<&AppName>) -> Result<AcmeReport> {
        let app = name.map(|name| self.find_app(name)).transpose()?;
        let settings = self.acme_in_force(app.as_ref().map(|app| app.id))?;
        let authority = self.authority(&settings);
        let own = app.as_ref().map(|app| self.store.acme_settings(app.id)).transpose()?;
        let domains = match &app {
            Some(app) => self.acme_domains(app, authority.as_ref(), &settings)?,
            None => Vec::new(),
        };
        Ok(AcmeReport {
            enabled: authority.is_some() && settings.enabled != Some(false),
            app: own.unwrap_or_default(),
            global: self.store.global_acme()?,
            email: settings.email,
            server: settings.server.unwrap_or_default(),
            challenge: settings.challenge.unwrap_or(ChallengeKind::Http01),
            domains,
        })
    }

    /// The automatic certificates of all apps.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn acme_list(&self) -> Result<Vec<AcmeDomain>> {
        let mut all = Vec::new();
        for app in self.store.apps()? {
            if let Some((authority, settings)) = self.authority_of(&app)? {
                let domains = self.acme_domains(&app, Some(&authority), &settings)?;
                all.extend(domains.into_iter().filter(|domain| domain.skipped.is_none()));
            }
        }
        Ok(all)
    }

    fn acme_domains(
        &self,
        app: &App,
        authority: Option<&Authority>,
        settings: &AcmeSettings,
    ) -> Result<Vec<AcmeDomain>> {
        let Some(authority) = authority.filter(|_| settings.enabled != Some(false)) else {
            return Ok(Vec::new());
        };
        let now = clock::now();
        let until = |at: Option<Timestamp>| at.map(|at| at.0 - now.0);
        let mut domains = Vec::new();
        for wanted in self.wanted_certificates(app, authority, settings)? {
            let not_after = wanted.certificate.as_ref().map(|one| one.facts.not_after);
            domains.push(AcmeDomain {
                app: app.name.clone(),
                domain: wanted.domain,
                not_after,
                renew_at: wanted.renew_at,
                expires_in_ms: until(not_after),
                renewed_in_ms: until(wanted.renew_at),
                failures: wanted.progress.failures,
                last_failure: wanted.progress.last_failure,
                next_attempt: wanted.progress.next_attempt,
                skipped: None,
            });
        }
        let all = self.domains_of(app)?;
        for domain in &all {
            if let Some(why) = self.skipped(app, &all, domain, authority)? {
                domains.push(AcmeDomain {
                    app: app.name.clone(),
                    domain: domain.clone(),
                    not_after: None,
                    renew_at: None,
                    expires_in_ms: None,
                    renewed_in_ms: None,
                    failures: 0,
                    last_failure: None,
                    next_attempt: None,
                    skipped: Some(why),
                });
            }
        }
        Ok(domains)
    }
}

fn no_email() -> Error {
    Error::new(Kind::Conflict, "there is no e-mail address for the certificate authority").hint(
        "set one, which agrees to the authority's terms of service: `staithe letsencrypt:set --global email ops@example.com`",
    )
}

fn told(change: &AcmeChange) -> String {
    match &change.value {
        Some(value) => format!("{} of automatic certificates set to {value}", change.key),
        None => format!("{} of automatic certificates unset", change.key),
    }
}

/// `2026-01-02`.
fn day(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0);
    time.map_or_else(|_| "an unknown day".into(), |time| time.to_string()[..10].to_owned())
}

fn apply(settings: &mut AcmeSettings, change: &AcmeChange) -> Result<()> {
    let value = change.value.as_deref();
    if value.is_some_and(|value| value.len() > MAX_VALUE || value.chars().any(char::is_control)) {
        return Err(Invalid::new("value", "", "must be at most 4096 printable characters").into());
    }
    match change.key.as_str() {
        "email" => settings.email = value.map(email).transpose()?,
        "server" => settings.server = value.map(server).transpose()?,
        "ca-bundle" => settings.ca_bundle = value.map(bundle).transpose()?,
        "challenge" => settings.challenge = value.map(str::parse).transpose()?,
        "dns-hook" => settings.dns_hook = value.map(program).transpose()?,
        "graceperiod" => settings.grace_s = value.map(grace).transpose()?,
        other => {
            let why =
                "must be `email`, `server`, `ca-bundle`, `challenge`, `dns-hook` or `graceperiod`";
            return Err(Invalid::new("property", other, why).into());
        }
    }
    Ok(())
}

fn email(text: &str) -> Result<String> {
    let (user, host) = text.rsplit_once('@').unwrap_or_default();
    let plain = text.bytes().all(|c| c.is_ascii_graphic() && !b",?<>".contains(&c));
    match !user.is_empty() && plain && host.parse::<Hostname>().is_ok() {
        true => Ok(text.to_owned()),
        false => {
            Err(Invalid::new("e-mail address", text, "must look like `ops@example.com`").into())
        }
    }
}

/// A directory's URL, or Dokku's words for those of Let's Encrypt.
fn server(text: &str) -> Result<String> {
    let url = match text {
        "default" | "production" => crate::certificate::LETS_ENCRYPT,
        "staging" => "https://acme-staging-v02.api.letsencrypt.org/directory",
        url => url,
    };
    let plain = url.bytes().all(|c| c.is_ascii_graphic());
    match plain && url.strip_prefix("https://").is_some_and(|rest| !rest.starts_with('/')) {
        true => Ok(url.to_owned()),
        false => Err(Invalid::new(
            "server",
            text,
            "must be `production`, `staging` or an https URL of an ACME directory",
        )
        .into()),
    }
}

fn bundle(text: &str) -> Result<std::path::PathBuf> {
    let path = std::path::PathBuf::from(text);
    crate::certificate::Trust::from_file(&path)
        .map(|_| path)
        .map_err(|error| Error::new(Kind::Invalid, report(&error)))
}

/// A program that root has put there: one that others may change would be theirs to run.
fn program(text: &str) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let path = std::path::PathBuf::from(text);
    let facts = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
    let good = facts.is_some_and(|facts| {
        let mode = facts.permissions().mode();
        facts.uid() == 0 && mode & 0o111 != 0 && mode & 0o022 == 0
    });
    match good && path.is_absolute() {
        true => Ok(path),
        false => Err(Invalid::new(
            "DNS program",
            text,
            "must be the whole path of an executable that belongs to root and that nobody else may write",
        )
        .into()),
    }
}

/// Seconds, as Dokku has it, or days: `2592000`, `30d`.
fn grace(text: &str) -> Result<u64> {
    let seconds = match text.strip_suffix('d') {
        Some(days) => days.parse::<u64>().ok().and_then(|days| days.checked_mul(24 * 3600)),
        None => text.parse().ok(),
    };
    seconds.filter(|seconds| (1..=10 * 365 * 24 * 3600).contains(seconds)).ok_or_else(|| {
        Invalid::new("graceperiod", text, "must be seconds or days, such as `2592000` or `30d`")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> std::result::Result<AcmeSettings, String> {
        let mut settings = AcmeSettings::default();
        let change = AcmeChange { key: key.into(), value: Some(value.into()) };
        apply(&mut settings, &change).map(|()| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_parsed_at_the_edge() {
        assert_eq!(set("graceperiod", "30d").unwrap().grace_s, Some(2_592_000));
        assert!(set("server", "staging").unwrap().server.unwrap().contains("staging"));
        assert_eq!(set("email", "a@b.c").unwrap().email.as_deref(), Some("a@b.c"));
        for (key, value) in [
            ("email", "nobody"),
            ("email", "a@b.c,d@e.f"),
            ("server", "http://plain.example.com/"),
            ("challenge", "http-02"),
            ("dns-hook", "relative"),
            ("dns-hook", "/etc/passwd"),
            ("graceperiod", "soon"),
            ("color", "red"),
        ] {
            set(key, value).unwrap_err();
        }
    }
}
