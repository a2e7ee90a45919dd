//! What is said about the front door: proxy properties, ports, pages, routes.

use serde::{Deserialize, Serialize};

use crate::domain::{
    AppName, PageId, PageOccasion, PathRoute, PortMapping, PortSelector, ProxyKey, RouteAddress,
};

/// An app's proxy properties; without an app, those of all apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProxyReport {
    /// Whether the app is on the web at all.
    pub enabled: bool,
    /// Each property, in the order of [`ProxyKey::ALL`].
    pub properties: Vec<ProxyProperty>,
    /// The processes that serve clients; only where all apps are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProxyProcess>,
}

/// A process of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProxyProcess {
    /// Its number.
    pub pid: u32,
    /// The version of Staithe that it runs.
    pub version: String,
    /// Whether a successor has taken over: it serves what was open then, and takes nothing new.
    pub retiring: bool,
    /// Its client connections.
    pub connections: u64,
}

/// `POST /proxy/upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProxyUpgradeReport {
    /// The process that takes new clients.
    pub pid: u32,
    /// The process that it replaced.
    pub before: u32,
    /// All that serve clients.
    pub processes: Vec<ProxyProcess>,
}

/// One property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProxyProperty {
    /// Its name.
    pub key: ProxyKey,
    /// What is in force; none: what the operator's file says, or nothing.
    pub value: Option<String>,
    /// What is set for the app.
    pub app: Option<String>,
    /// What is set for all apps.
    pub global: Option<String>,
}

/// `PATCH /apps/{app}/proxy` and `PATCH /proxy`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyChange {
    /// The property.
    pub key: ProxyKey,
    /// Its value; none: the default.
    pub value: Option<String>,
}

/// `PUT /apps/{app}/proxy/enabled` and `PUT /apps/{app}/maintenance`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// On or off.
    pub enabled: bool,
}

/// An app's port mappings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PortReport {
    /// Those in force.
    pub mappings: Vec<PortMapping>,
    /// Whether they are the app's own, not the default ones.
    pub custom: bool,
    /// `$PORT` of the next instances.
    pub port: u16,
}

/// `POST` and `PUT` on `/apps/{app}/ports`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortList {
    /// The mappings.
    pub mappings: Vec<PortMapping>,
}

/// `DELETE /apps/{app}/ports`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortRemoval {
    /// Mappings, or host ports.
    pub mappings: Vec<PortSelector>,
}

/// Whether an app is in maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MaintenanceReport {
    /// Whether every request is answered by the maintenance page.
    pub enabled: bool,
    /// The app's own maintenance page; none: Staithe's.
    pub page: Option<PageId>,
}

/// An app's own pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PageReport {
    /// Those that replace Staithe's.
    pub pages: Vec<Page>,
}

/// A page of an app's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Page {
    /// When it is shown.
    pub when: PageOccasion,
    /// SHA-256 of its content.
    pub id: PageId,
}

/// `PUT /apps/{app}/pages/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageContent {
    /// The page.
    pub html: String,
}

/// A route beside the domains of apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RouteReport {
    /// Where it leads.
    pub app: AppName,
    /// The route.
    #[serde(flatten)]
    pub route: PathRoute,
    /// The app that has the domain; none if no app has.
    pub domain_of: Option<AppName>,
}

/// `POST /apps/{app}/routes`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoute {
    /// The route.
    pub route: PathRoute,
    /// Whether the domain may be another app's.
    #[serde(default)]
    pub force: bool,
}

/// `DELETE /apps/{app}/routes`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRemoval {
    /// Where it is found.
    pub address: RouteAddress,
}
