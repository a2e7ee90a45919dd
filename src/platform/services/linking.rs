//! Links between apps and services: a config var, a name in /etc/hosts, and an edge in the firewall.

use std::collections::BTreeMap;

use super::ServiceType;
use super::verbs::service_json;
use crate::domain::{
    Actor, App, AppId, AppName, ConfigVars, EnvKey, PluginName, Secret, Service, ServiceLink,
    ServiceName, link_variable, spare_variable, url_variable, variables_of,
};
use crate::network::Addresses;
use crate::platform::changes::{Change, Session};
use crate::platform::{Error, Journal, Kind, Operation, Platform, Result};
use crate::plugin::Hook;
use crate::store::Settings;
use crate::wire::{LinkReport, LinkService};

/// What may follow the `?` of an address.
const MAX_QUERY: usize = 256;

/// The two ends of a link, and what the service's type says.
struct Ends {
    kind: ServiceType,
    service: Service,
    app: App,
}

impl Ends {
    fn url(&self) -> String {
        self.kind.url(&self.service)
    }
}

impl Platform {
    /// Lets an app reach a service and tells it how. Outcome: the config var.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is linked already or the alias is taken; `Denied` by a plugin;
    /// the operation fails with `Failed` where the app does not start with it, and there is no
    /// link then.
    pub async fn link_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        wanted: LinkService,
    ) -> Result<Operation<EnvKey>> {
        let ends = self.ends(kind, name, &wanted.app)?;
        check_query(wanted.query.as_deref())?;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let data = service_json(&ends.service);
            let answers = platform.ask(Hook::PreServiceLink, Some(&ends.app.name), data).await?;
            answers.show(&output);
            let variable = platform.add_link(&ends, &wanted).await?;
            let value = with_query(&ends.url(), wanted.query.as_deref());
            let about = Change {
                no_restart: wanted.no_restart,
                ..Change::new("config.changed", format!("Set {variable}"), &actor)
            };
            output.step(&format!("Setting {variable} on {}", ends.app.name));
            let key = variable.clone();
            let edit = |settings: &mut Settings| {
                // Somebody may have set it meanwhile.
                match settings.config.get(&key) {
                    Some(_) => Err(Error::new(Kind::Conflict, format!("{key} is set already"))),
                    None => Ok(settings.config.set(key, Secret::new(value))?),
                }
            };
            let session: Session<'_> = (&output, &cancel);
            let name = ends.app.name.clone();
            if let Err(error) = platform.change_settings(name, about, edit, session).await {
                platform.drop_link(&ends).await?;
                return Err(error);
            }
            let title = ends.service.title();
            let message = format!("{title} linked to app `{}` as {variable}", ends.app.name);
            platform.note(ends.app.id, "service.linked", &message, &actor);
            let data = service_json(&ends.service);
            platform.notify(Hook::PostServiceLink, Some(&ends.app.name), data);
            Ok(variable)
        }))
    }

    /// Records a link and opens its edges.
    async fn add_link(&self, ends: &Ends, wanted: &LinkService) -> Result<EnvKey> {
        let _turn = self.0.services.edges.lock().await;
        if let Some(link) = self.find_link(ends)? {
            let message = format!(
                "{} is already linked to app `{}` as {}",
                ends.service.title(),
                ends.app.name,
                link.variable
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        let config = self.store.settings(ends.app.id)?.config;
        let default = ends.kind.service().variable.as_str();
        let alias = wanted.alias.as_deref();
        let variable = link_variable(&ends.service.kind, default, alias, &config)?;
        self.store.add_service_link(&ServiceLink {
            service: ends.service.id,
            app: ends.app.id,
            variable: variable.clone(),
            query: wanted.query.clone(),
        })?;
        drop(_turn);
        self.refresh_edges().await?;
        Ok(variable)
    }

    async fn drop_link(&self, ends: &Ends) -> Result<()> {
        self.store.remove_service_link(ends.service.id, ends.app.id)?;
        self.refresh_edges().await
    }

    /// Takes a service from an app. Outcome: the config vars that are gone.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not linked; the operation fails with `Failed` where the app
    /// does not start without it, and the link stays then.
    pub async fn unlink_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        app: &AppName,
        no_restart: bool,
    ) -> Result<Operation<Vec<EnvKey>>> {
        let ends = self.ends(kind, name, app)?;
        self.linked_or_refused(&ends)?;
        let actor = actor.clone();
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let config = platform.store.settings(ends.app.id)?.config;
            let url = ends.url();
            let keys = variables_of(&url, &config);
            if !keys.is_empty() {
                let shown = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                output.step(&format!("Unsetting {shown} on {}", ends.app.name));
                let about = Change {
                    no_restart,
                    ..Change::new("config.changed", format!("Unset {shown}"), &actor)
                };
                let edit = |settings: &mut Settings| {
                    for key in variables_of(&url, &settings.config) {
                        settings.config.unset(&key);
                    }
                    Ok(())
                };
                let session: Session<'_> = (&output, &cancel);
                let changed =
                    platform.change_settings(ends.app.name.clone(), about, edit, session).await;
                changed.map_err(|error| match error.kind() {
                    Kind::Failed => error.hint(
                        "the app does not start without it, so the link stays; --no-restart takes it away all the same",
                    ),
                    _ => error,
                })?;
            }
            platform.drop_link(&ends).await?;
            let message =
                format!("{} unlinked from app `{}`", ends.service.title(), ends.app.name);
            platform.note(ends.app.id, "service.unlinked", &message, &actor);
            let data = service_json(&ends.service);
            platform.notify(Hook::PostServiceUnlink, Some(&ends.app.name), data);
            Ok(keys)
        }))
    }

    /// Makes a linked service the one that the type's own var names. Outcome: that var.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not linked, or is the one already.
    pub async fn promote_service(
        &self,
        actor: &Actor,
        kind: &PluginName,
        name: &ServiceName,
        app: &AppName,
    ) -> Result<Operation<EnvKey>> {
        let ends = self.ends(kind, name, app)?;
        let link = self.linked_or_refused(&ends)?;
        let variable = url_variable(ends.kind.service().variable.as_str())?;
        let url = ends.url();
        let config = self.store.settings(ends.app.id)?.config;
        if variables_of(&url, &config).contains(&variable) {
            let message = format!("{} is already promoted as {variable}", ends.service.title());
            return Err(Error::new(Kind::Conflict, message));
        }
        let actor = actor.clone();
        let value = with_query(&url, link.query.as_deref());
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let description = format!("Promote {} as {variable}", ends.service.title());
            output.step(&description);
            let about = Change::new("config.changed", description, &actor);
            let key = variable.clone();
            let plugin = ends.service.kind.clone();
            let edit = |settings: &mut Settings| {
                promote(&mut settings.config, &plugin, &key, Secret::new(value))
            };
            let session: Session<'_> = (&output, &cancel);
            platform.change_settings(ends.app.name.clone(), about, edit, session).await?;
            let message = format!("{} promoted as {variable}", ends.service.title());
            platform.note(ends.app.id, "service.promoted", &message, &actor);
            Ok(variable)
        }))
    }

    /// The services that an app is linked to.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn app_services(&self, app: &AppName) -> Result<Vec<LinkReport>> {
        let app = self.find_app(app)?;
        let mut links = Vec::new();
        for (link, service) in self.services_of_app(app.id)? {
            links.push(LinkReport {
                kind: service.kind,
                service: service.name,
                app: app.name.clone(),
                variable: link.variable,
            });
        }
        Ok(links)
    }

    fn services_of_app(&self, app: AppId) -> Result<Vec<(ServiceLink, Service)>> {
        let mut found = Vec::new();
        for link in self.store.service_links()?.into_iter().filter(|link| link.app == app) {
            if let Some(service) = self.store.service_by_id(link.service)? {
                found.push((link, service));
            }
        }
        Ok(found)
    }

    /// Settings for a copy of an app: without the vars of its links, which are not copied. Answers
    /// the services that are missed.
    pub(in crate::platform) fn without_links(
        &self,
        app: AppId,
        settings: &mut Settings,
    ) -> Result<Vec<String>> {
        let mut missed = Vec::new();
        for (_, service) in self.services_of_app(app)? {
            let url = self.service_type(&service.kind)?.url(&service);
            for key in variables_of(&url, &settings.config) {
                settings.config.unset(&key);
            }
            missed.push(service.title());
        }
        Ok(missed)
    }

    /// Whether an app has links.
    pub(in crate::platform) fn has_services(&self, app: AppId) -> bool {
        self.store.service_links().is_ok_and(|links| links.iter().any(|link| link.app == app))
    }

    /// The names of what an app may reach, for its containers' hosts file.
    pub(in crate::platform) fn service_hosts(
        &self,
        app: AppId,
    ) -> Result<Vec<(String, Addresses)>> {
        let services = self.services_of_app(app)?.into_iter();
        Ok(services.map(|(_, service)| (service.host(), service.addresses())).collect())
    }

    /// Opens the edges of a container that has just been joined to the network, before anything
    /// runs in it.
    pub(in crate::platform) async fn open_edges(&self, container: &str) -> Result<()> {
        let state = self.runtime.state(container).await?;
        match app_of(&state.labels) {
            Some(app) if self.has_services(app) => self.refresh_edges().await,
            _ => Ok(()),
        }
    }

    /// Opens exactly the edges that links ask for: from each container of a linked app.
    pub(in crate::platform) async fn refresh_edges(&self) -> Result<()> {
        let mut set_before = self.0.services.edges.lock().await;
        let links = self.store.service_links()?;
        if links.is_empty() && !*set_before && self.network.links().await?.is_empty() {
            return Ok(());
        }
        let mut pairs = Vec::new();
        if !links.is_empty() {
            let services: BTreeMap<_, _> =
                self.store.services()?.into_iter().map(|service| (service.id, service)).collect();
            for container in self.runtime.list().await? {
                let Some(app) = app_of(&container.labels) else { continue };
                let Some(from) = addresses_of(&container.labels) else { continue };
                for link in links.iter().filter(|link| link.app == app) {
                    pairs.extend(services.get(&link.service).map(|to| (from, to.addresses())));
                }
            }
        }
        self.network.set_links(&pairs).await?;
        *set_before = true;
        Ok(())
    }

    fn ends(&self, kind: &PluginName, name: &ServiceName, app: &AppName) -> Result<Ends> {
        let service = self.find_service(kind, name)?;
        let app = self.find_app(app)?;
        Ok(Ends { kind: self.service_type(kind)?, service, app })
    }

    fn find_link(&self, ends: &Ends) -> Result<Option<ServiceLink>> {
        let links = self.store.service_links()?;
        let is_it = |link: &ServiceLink| link.service == ends.service.id && link.app == ends.app.id;
        Ok(links.into_iter().find(is_it))
    }

    fn linked_or_refused(&self, ends: &Ends) -> Result<ServiceLink> {
        self.find_link(ends)?.ok_or_else(|| {
            let (title, app) = (ends.service.title(), &ends.app.name);
            let message = format!("{title} is not linked to app `{app}`");
            let (kind, name) = (&ends.service.kind, &ends.service.name);
            Error::new(Kind::Conflict, message)
                .hint(format!("run `staithe {kind}:links {name}` to see what is"))
        })
    }
}

fn app_of(labels: &BTreeMap<String, String>) -> Option<AppId> {
    labels.get("app")?.parse().ok().map(AppId)
}

fn addresses_of(labels: &BTreeMap<String, String>) -> Option<Addresses> {
    Some(Addresses { v4: labels.get("v4")?.parse().ok()?, v6: labels.get("v6")?.parse().ok()? })
}

fn with_query(url: &str, query: Option<&str>) -> String {
    query.map_or_else(|| url.to_owned(), |query| format!("{url}?{query}"))
}

fn check_query(query: Option<&str>) -> Result<()> {
    let good = |text: &str| {
        text.len() <= MAX_QUERY && text.bytes().all(|c| c.is_ascii_graphic() && c != b'#')
    };
    match query {
        Some(query) if !good(query) => {
            let message = "what follows the `?` of an address must be at most 256 printable characters without spaces and `#`";
            Err(Error::new(Kind::Invalid, message))
        }
        _ => Ok(()),
    }
}

/// `key` gets `value`; what it was is kept under a colored name, unless it has another already.
fn promote(config: &mut ConfigVars, kind: &PluginName, key: &EnvKey, value: Secret) -> Result<()> {
    if let Some(before) = config.get(key).cloned() {
        let has_other_name =
            config.iter().any(|(other, kept)| other != key && kept.expose() == before.expose());
        if !has_other_name {
            config.set(spare_variable(kind, config)?, before)?;
        }
    }
    Ok(config.set(key.clone(), value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_keeps_a_name() {
        let kind: PluginName = "postgres".parse().unwrap();
        let key: EnvKey = "DATABASE_URL".parse().unwrap();
        let mut config = ConfigVars::default();
        let shown = |config: &ConfigVars| {
            config.iter().map(|(k, v)| format!("{k}={}", v.expose())).collect::<Vec<_>>().join(" ")
        };
        promote(&mut config, &kind, &key, Secret::new("a")).unwrap();
        promote(&mut config, &kind, &key, Secret::new("b")).unwrap();
        assert_eq!(shown(&config), "DATABASE_URL=b DOKKU_POSTGRES_AQUA_URL=a");
        promote(&mut config, &kind, &key, Secret::new("a")).unwrap();
        promote(&mut config, &kind, &key, Secret::new("b")).unwrap();
        assert_eq!(
            shown(&config),
            "DATABASE_URL=b DOKKU_POSTGRES_AQUA_URL=a DOKKU_POSTGRES_BLACK_URL=b"
        );
    }

    #[test]
    fn a_query_cannot_break_a_url() {
        assert!(check_query(Some("sslmode=disable&x=1")).is_ok());
        for bad in ["a b", "a#b", "a\nb"] {
            assert!(check_query(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
