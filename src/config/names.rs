//! Names that are no settings: which to pass over, and which was meant.

use std::net::IpAddr;

use super::PREFIX;

/// Whether Kubernetes, or Docker's links, put this variable there for a service whose name begins with ours: nobody wrote it, and
/// its value is an address.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = value.parse::<IpAddr>().is_ok();
    let is_port = value.parse::<u16>().is_ok();
    let is_endpoint = value
        .split_once("://")
        .is_some_and(|(protocol, _)| is_protocol(protocol));
    if name.ends_with("_SERVICE_HOST") {
        return is_address;
    }
    if let Some((_, port)) = name.split_once("_SERVICE_PORT") {
        return is_port && (port.is_empty() || port.starts_with('_'));
    }
    if name.ends_with("_PORT") && !name.contains("_PORT_") {
        return is_endpoint;
    }
    let Some((_, port)) = name.split_once("_PORT_") else {
        return false;
    };
    let mut words = port.split('_');
    let is_numbered = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let is_named = words.next().is_some_and(is_protocol);
    is_numbered
        && is_named
        && match words.next() {
            None => is_endpoint,
            Some("PROTO") => is_protocol(value),
            Some("PORT") => is_port,
            Some("ADDR") => is_address,
            Some(_) => false,
        }
}

fn is_protocol(word: &str) -> bool {
    ["tcp", "udp", "sctp"]
        .iter()
        .any(|protocol| word.eq_ignore_ascii_case(protocol))
}

/// What to do about an unknown name.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known
        .map(|candidate| (likeness(name, candidate), candidate))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((likeness, candidate)) if likeness >= 0.6 => {
            format!("did you mean {candidate}? otherwise remove it")
        }
        _ => "remove it; `wxnotify run --help` lists every setting".to_owned(),
    }
}

/// 0 to 1, leaving out what would make all names look alike or different: the prefix and the appid.
fn likeness(name: &str, candidate: &str) -> f64 {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let candidate = candidate.strip_prefix(PREFIX).unwrap_or(candidate);
    match (candidate.strip_suffix("_<appid>"), name.rsplit_once('_')) {
        (Some(candidate), Some((name, _))) => {
            strsim::normalized_damerau_levenshtein(name, candidate)
        }
        _ => strsim::normalized_damerau_levenshtein(name, candidate),
    }
}
