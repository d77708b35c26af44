//! The names under which the server may be asked.
//!
//! A web page can make a browser send requests to 127.0.0.1 under the page's own name (DNS rebinding). Such a request
//! names the page's host, so the `Host` field is compared with a list.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Uri, header};

/// The list of names.
#[derive(Debug, Clone)]
pub struct Hosts {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Bound to every address of the host: any address may be named, as an address cannot be rebound; a name cannot.
    is_any_address: bool,
    port: u16,
}

impl Hosts {
    /// The names of a server that listens at `address`: its address, `localhost` where that leads there, and `names`
    /// (host names without a port).
    #[must_use]
    pub fn new(address: SocketAddr, names: &[String]) -> Self {
        let ip = address.ip();
        let mut names = names.to_vec();
        let mut addresses = vec![ip];
        if ip.is_loopback() || ip.is_unspecified() {
            names.push("localhost".to_owned());
            addresses.extend([IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
        }
        Self { names, addresses, is_any_address: ip.is_unspecified(), port: address.port() }
    }

    /// Whether a request may be answered: exactly one `Host` field, and it, as well as the host in an absolute request
    /// target, names this server.
    #[must_use]
    pub fn allow(&self, target: &Uri, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(header::HOST).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return false };
        let is_target_ours = target.authority().is_none_or(|authority| self.is_ours(authority.as_str()));
        is_target_ours && field.to_str().is_ok_and(|host| self.is_ours(host))
    }

    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = split(host);
        let port = match port {
            Some(digits) => digits.parse().ok(),
            None => Some(80),
        };
        if port != Some(self.port) {
            return false;
        }
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) => self.is_any_address || self.addresses.contains(&ip),
            Err(_) => self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name)),
        }
    }
}

/// `name:port`, `[v6]:port`, or either without a port.
fn split(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(bound: &str, host: &str) -> bool {
        let hosts = Hosts::new(bound.parse().expect("an address"), &["station-7".to_owned()]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        hosts.allow(&Uri::from_static("/metrics"), &headers)
    }

    #[test]
    fn only_this_server_is_named() {
        for host in ["127.0.0.1:9464", "localhost:9464", "LOCALHOST:9464", "[::1]:9464", "station-7:9464"] {
            assert!(allowed("127.0.0.1:9464", host), "{host}");
        }
        for host in [
            "evil.example:9464",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost:9464.evil.example",
            "localhost",
            "192.168.1.7:9464",
            "[::1",
            "",
            ":9464",
        ] {
            assert!(!allowed("127.0.0.1:9464", host), "{host}");
        }
        assert!(allowed("127.0.0.1:80", "localhost"));
    }

    #[test]
    fn a_wildcard_answers_to_addresses_but_not_to_names() {
        assert!(allowed("0.0.0.0:9464", "192.168.1.7:9464"));
        assert!(allowed("[::]:9464", "[fe80::1]:9464"));
        assert!(!allowed("0.0.0.0:9464", "evil.example:9464"));
        assert!(!allowed("10.0.0.7:9464", "localhost:9464"));
        assert!(allowed("10.0.0.7:9464", "10.0.0.7:9464"));
    }

    #[test]
    fn two_names_or_another_target_are_refused() {
        let hosts = Hosts::new("127.0.0.1:9464".parse().expect("an address"), &[]);
        let mut headers = HeaderMap::new();
        assert!(!hosts.allow(&Uri::from_static("/"), &headers));
        headers.append(header::HOST, "localhost:9464".parse().expect("a header"));
        assert!(hosts.allow(&Uri::from_static("http://localhost:9464/"), &headers));
        assert!(!hosts.allow(&Uri::from_static("http://evil.example/"), &headers));
        headers.append(header::HOST, "localhost:9464".parse().expect("a header"));
        assert!(!hosts.allow(&Uri::from_static("/"), &headers));
    }
}
