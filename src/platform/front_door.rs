//! From settings to the words of the route table; pure.

use std::net::SocketAddr;

use crate::domain::{
    FrontSettings, Hostname, PathPrefix, PathRoute, PortMapping, ProcessType, ProxySettings,
    RouteAddress, Scheme, UpstreamProtocol,
};
use crate::proxy::{Binding, CustomPage, Hsts, ListenerName, RouteSettings};

/// What an app's front door is made of.
#[derive(Debug)]
pub(super) struct FrontDoor {
    /// The app's domains.
    pub(super) domains: Vec<Hostname>,
    /// Routes beside them.
    pub(super) paths: Vec<PathRoute>,
    /// Port mappings in force.
    pub(super) mappings: Vec<PortMapping>,
    /// `$PORT` of the next instances.
    pub(super) port: u16,
    /// The app's settings.
    pub(super) front: FrontSettings,
    /// Proxy properties in force.
    pub(super) proxy: ProxySettings,
}

/// A port of one of an app's process types, and what is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) process_type: ProcessType,
    /// None: each instance's `$PORT`, which may differ between old and new ones.
    pub(super) port: Option<u16>,
    pub(super) protocol: UpstreamProtocol,
    /// Whether it is reached under the app's own domains.
    pub(super) own: bool,
}

impl FrontDoor {
    /// What is reached from outside, and under which names.
    pub(super) fn targets(&self) -> Vec<(Target, Vec<Binding>)> {
        let mut targets = Vec::new();
        for mapping in &self.mappings {
            let target = Target {
                process_type: ProcessType::web(),
                port: self.fixed_port(*mapping),
                protocol: mapping.scheme.upstream().unwrap_or_else(|| self.protocol()),
                own: true,
            };
            for domain in &self.domains {
                let binding = binding(domain, PathPrefix::root(), false);
                add(&mut targets, &target, binding, listener(*mapping));
            }
        }
        for path in &self.paths {
            let address = &path.address;
            let target = Target {
                process_type: path.process_type.clone(),
                port: None,
                protocol: self.protocol(),
                own: self.domains.contains(&address.domain),
            };
            for listener in [ListenerName::Http, ListenerName::Https] {
                let binding = binding(&address.domain, address.path.clone(), path.strip);
                add(&mut targets, &target, binding, listener);
            }
        }
        targets
    }

    /// The ports that instances of `process_type` are reached at.
    pub(super) fn ports(&self, process_type: &ProcessType) -> Vec<Option<u16>> {
        let mut ports = Vec::new();
        if process_type.is_web() {
            ports.extend(self.mappings.iter().map(|mapping| self.fixed_port(*mapping)));
        }
        let routed = self.paths.iter().any(|path| path.process_type == *process_type);
        // A web process listens even where nobody is led to it: that is how it is known as ready.
        if routed || (process_type.is_web() && ports.is_empty()) {
            ports.push(None);
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// None for the port that instances are told as `$PORT`: the first mapping's, unless a config
    /// var says otherwise.
    fn fixed_port(&self, mapping: PortMapping) -> Option<u16> {
        let first = self.mappings.first().map(|first| first.container);
        let told = Some(mapping.container) == first || mapping.container == self.port;
        (!told).then_some(mapping.container)
    }

    fn protocol(&self) -> UpstreamProtocol {
        self.proxy.upstream_protocol.unwrap_or_default()
    }

    /// How requests to `target` are treated.
    pub(super) fn settings(&self, target: &Target) -> RouteSettings {
        let proxy = &self.proxy;
        let tls = self.mappings.iter().any(|mapping| listener(*mapping) == ListenerName::Https);
        let canonical_host = proxy.canonical_host.clone();
        RouteSettings {
            // Where the app does not answer on the TLS port, a redirect would lead nowhere.
            https_redirect: proxy.https_redirect == Some(true) && (tls || !target.own),
            hsts: self.hsts(),
            // Paths of other apps' domains are not redirected, nor is anything to a domain that
            // the app has lost.
            canonical_host: canonical_host.filter(|host| target.own && self.domains.contains(host)),
            allow: proxy.allow.clone().unwrap_or_default(),
            deny: proxy.deny.clone().unwrap_or_default(),
            // Of plugins, by `RouteSettings::narrow`.
            basic_auth: Vec::new(),
            basic_auth_bypass: Vec::new(),
            trusted_proxies: proxy.trusted_proxies.clone().unwrap_or_default(),
            max_open_requests: proxy.max_open_requests,
            max_body: proxy.max_body,
            max_head: proxy.max_head,
            response_head_timeout: proxy.read_timeout,
            // nginx's property of that name is about pauses within the answer as well.
            body_idle_timeout: proxy.body_idle_timeout.or(proxy.read_timeout),
            tunnel_idle_timeout: proxy.tunnel_idle_timeout,
            upstream_protocol: target.protocol,
            maintenance: self.front.maintenance,
            pages: self
                .front
                .pages
                .iter()
                .map(|(when, id)| CustomPage { when: *when, id: id.to_string() })
                .collect(),
            access_log: proxy.access_log.unwrap_or_default(),
        }
    }

    fn hsts(&self) -> Option<Hsts> {
        let proxy = &self.proxy;
        let wanted = proxy.hsts == Some(true);
        wanted.then(|| Hsts {
            max_age_s: proxy.hsts_max_age.unwrap_or_default(),
            include_subdomains: proxy.hsts_include_subdomains == Some(true),
            preload: proxy.hsts_preload == Some(true),
        })
    }

    /// Where a domain answers, given whether it has a certificate and where the proxy's configured
    /// listeners are. None where no port leads there.
    pub(super) fn url(
        &self,
        domain: &Hostname,
        certificate: bool,
        standard: impl Fn(Scheme) -> Option<u16>,
    ) -> Option<String> {
        let of = |scheme: Scheme| {
            let mut mappings: Vec<_> =
                self.mappings.iter().filter(|m| m.scheme.client() == scheme).collect();
            // The usual port first.
            mappings.sort_by_key(|mapping| !mapping.is_standard());
            mappings.first().map(|mapping| (scheme, **mapping))
        };
        let secure = certificate.then(|| of(Scheme::Https)).flatten();
        let (scheme, mapping) = secure.or_else(|| of(Scheme::Http))?;
        let port = match mapping.is_standard() {
            true => standard(scheme),
            false => Some(mapping.host),
        };
        Some(format!("{}://{domain}{}", scheme.as_str(), port_suffix(scheme, port)))
    }
}

/// Where a route answers; see [`FrontDoor::url`].
pub(super) fn route_url(
    route: &PathRoute,
    certificate: bool,
    standard: impl Fn(Scheme) -> Option<u16>,
) -> String {
    let scheme = if certificate { Scheme::Https } else { Scheme::Http };
    let RouteAddress { domain, path } = &route.address;
    let path = if path.is_root() { "" } else { path.as_str() };
    format!("{}://{domain}{}{path}", scheme.as_str(), port_suffix(scheme, standard(scheme)))
}

/// What a URL says of a port: nothing if it is the scheme's own.
fn port_suffix(scheme: Scheme, port: Option<u16>) -> String {
    match (scheme, port) {
        (_, None) | (Scheme::Http, Some(80)) | (Scheme::Https, Some(443)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    }
}

/// The listener of a mapping.
pub(super) fn listener(mapping: PortMapping) -> ListenerName {
    match (mapping.is_standard(), mapping.scheme.client()) {
        (false, _) => ListenerName::Port(mapping.host),
        (true, Scheme::Http) => ListenerName::Http,
        (true, Scheme::Https) => ListenerName::Https,
    }
}

/// Where an instance answers.
pub(super) fn addresses(at: SocketAddr, ports: &[Option<u16>]) -> Vec<SocketAddr> {
    ports.iter().map(|port| SocketAddr::new(at.ip(), port.unwrap_or(at.port()))).collect()
}

fn binding(domain: &Hostname, path: PathPrefix, strip_path: bool) -> Binding {
    Binding { domain: domain.clone(), path, strip_path, listeners: Vec::new(), certificate: None }
}

/// One target has one entry, and one binding for each domain and path.
fn add(
    targets: &mut Vec<(Target, Vec<Binding>)>,
    target: &Target,
    binding: Binding,
    listener: ListenerName,
) {
    let position = targets.iter().position(|(known, _)| known == target);
    let position = position.unwrap_or_else(|| {
        targets.push((target.clone(), Vec::new()));
        targets.len() - 1
    });
    let bindings = &mut targets[position].1;
    let same = |known: &&mut Binding| known.domain == binding.domain && known.path == binding.path;
    match bindings.iter_mut().find(same) {
        Some(known) => known.listeners.push(listener),
        None => bindings.push(Binding { listeners: vec![listener], ..binding }),
    }
}

#[cfg(test)]
mod tests;
