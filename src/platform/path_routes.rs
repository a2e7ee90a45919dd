//! Routes beside domains: a path of a domain, or a domain of a process type, that leads to an app.

use super::{Error, Kind, Platform, Result, RouteReport, changes};
use crate::domain::{Actor, App, AppName, Hostname, PathRoute, ProcessType, RouteAddress};

/// The most routes of one app: bounds the route table.
const MAX_ROUTES: usize = 256;

impl Platform {
    /// The routes of an app, or all.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn routes(&self, name: Option<&AppName>) -> Result<Vec<RouteReport>> {
        let only = name.map(|name| self.find_app(name)).transpose()?;
        let mut reports = Vec::new();
        for (id, route) in self.store.path_routes()? {
            if only.as_ref().is_some_and(|app| app.id != id) {
                continue;
            }
            // Gone since the list was read.
            let Some(app) = self.store.app_by_id(id)? else { continue };
            let domain_of = self.owner_of(&route.address.domain)?.map(|owner| owner.name);
            reports.push(RouteReport { app: app.name, route, domain_of });
        }
        Ok(reports)
    }

    /// The app that has a domain.
    ///
    /// # Errors
    /// `Internal`.
    pub fn app_of_domain(&self, domain: &Hostname) -> Result<Option<AppName>> {
        Ok(self.owner_of(domain)?.map(|owner| owner.name))
    }

    /// Leads a path of a domain to an app, or a domain that no app has to one of its process types.
    /// `force`: also where another app has the domain.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a process type that is not declared; `Conflict` if the address
    /// leads elsewhere already.
    pub async fn add_route(
        &self,
        actor: &Actor,
        name: &AppName,
        route: PathRoute,
        force: bool,
    ) -> Result<Vec<RouteReport>> {
        {
            // Held across the await on purpose: of two changes the second sees the first.
            let _lock = self.0.front.lock().await;
            let app = self.find_app(name)?;
            self.check_process_type(&app, &route.process_type)?;
            self.check_address(&app, &route.address, force)?;
            self.store.set_path_route(app.id, &route)?;
            let message = format!("route {} added to `{}`", route.address, route.process_type);
            self.note(app.id, "app.routes", &message, actor);
            self.publish_routes().await?;
        }
        self.routes(Some(name)).await
    }

    fn check_process_type(&self, app: &App, process_type: &ProcessType) -> Result<()> {
        if *process_type == ProcessType::release() {
            return Err(Error::new(Kind::Invalid, "`release` runs before a deploy and then ends")
                .hint("give a process type that listens on $PORT"));
        }
        match app.current_release {
            Some(_) => changes::declared(&self.current_release(app)?, process_type),
            None => Ok(()),
        }
    }

    fn check_address(&self, app: &App, address: &RouteAddress, force: bool) -> Result<()> {
        let conflict = |message: String| Error::new(Kind::Conflict, message);
        let known = self.store.path_routes()?;
        if let Some((id, _)) = known.iter().find(|(_, route)| route.address == *address)
            && *id != app.id
        {
            let holder = self.store.app_by_id(*id)?.map(|app| app.name.to_string());
            let holder = holder.unwrap_or_else(|| "another".into());
            return Err(conflict(format!("{address} leads to app `{holder}`")).hint(format!(
                "remove it there first: `staithe routes:remove {holder} {address}`"
            )));
        }
        if known.iter().filter(|(id, _)| *id == app.id).count() >= MAX_ROUTES {
            return Err(conflict(format!("an app has at most {MAX_ROUTES} routes"))
                .hint(format!("run `staithe routes:list {}` to see them", app.name)));
        }
        let domain = &address.domain;
        let Some(owner) = self.owner_of(domain)? else { return Ok(()) };
        if address.path.is_root() {
            let message = format!("domain `{domain}` belongs to app `{}`", owner.name);
            return Err(
                conflict(message).hint(format!("give a path of it, such as `{domain}/api`"))
            );
        }
        match owner.id == app.id || force {
            true => Ok(()),
            false => Err(conflict(format!("domain `{domain}` belongs to app `{}`", owner.name))
                .hint("`--force` routes a path of it all the same")),
        }
    }

    /// The app that has `domain`, as its own or by default.
    pub(super) fn owner_of(&self, domain: &Hostname) -> Result<Option<App>> {
        for app in self.store.apps()? {
            if self.domains_of(&app)?.contains(domain) {
                return Ok(Some(app));
            }
        }
        Ok(None)
    }

    /// Removes a route of an app.
    ///
    /// # Errors
    /// `NotFound`, also for a route that the app does not have.
    pub async fn remove_route(
        &self,
        actor: &Actor,
        name: &AppName,
        address: &RouteAddress,
    ) -> Result<Vec<RouteReport>> {
        let app = self.find_app(name)?;
        if !self.store.remove_path_route(app.id, address)? {
            let message = format!("app `{name}` has no route {address}");
            return Err(Error::new(Kind::NotFound, message)
                .hint(format!("run `staithe routes:list {name}` to see its routes")));
        }
        self.note(app.id, "app.routes", &format!("route {address} removed"), actor);
        self.publish_routes().await?;
        self.routes(Some(name)).await
    }
}
