//! The way of media between two phones (MED-03, MED-11).

use ipnet::IpNet;

use super::net::prefixes;
use super::{Judge, Names, nearest};
use crate::config::file;
use crate::config::settings::RouteSettings;

/// The value of `fent.media_route` that lets phones talk directly.
const DIRECT: &str = "direct-behind-same-nat";

pub(super) fn settings(
    media: &file::Media,
    fent: &file::Fent,
    names: &Names<'_>,
    judge: &mut Judge<'_>,
) -> Option<RouteSettings> {
    let routes = [("gateway", false), (DIRECT, true)];
    let direct = judge.one_of(&["fent", "media_route"], &fent.media_route, &routes);
    let deny = deny(&fent.direct_nets_deny, names, judge);
    // Another type than a boolean is refused where all switches are read.
    let always_relay = media.always_relay.as_ref().and_then(toml::Value::as_bool).unwrap_or(false);
    if always_relay && direct == Some(true) {
        judge.warn(
            &["media", "always_relay"],
            format!("always_relay = true wins over fent.media_route = \"{DIRECT}\": no phones talk directly"),
        );
    }
    if media.proxy.as_ref().and_then(toml::Value::as_str) == Some("always") && direct == Some(true) {
        let why =
            format!("proxy = \"always\" wins over fent.media_route = \"{DIRECT}\": no phones talk directly");
        judge.warn(&["media", "proxy"], why);
    }
    if media.srtp.outside != "pass" && direct == Some(true) {
        let why =
            format!("SRTP that ends here needs the relay: fent.media_route = \"{DIRECT}\" has no effect");
        judge.warn(&["media", "srtp", "outside"], why);
    }
    Some(RouteSettings { direct: direct?, always_relay, deny: deny? })
}

fn deny(written: &[String], names: &Names<'_>, judge: &mut Judge<'_>) -> Option<Vec<IpNet>> {
    let key = ["fent", "direct_nets_deny"];
    let mut all = Vec::new();
    let mut sound = true;
    for text in written {
        if let Some(nets) = names.networks.get(text) {
            all.extend(nets);
        } else if let Ok(nets) = prefixes(text) {
            all.extend(nets);
        } else {
            let near = nearest(text, names.networks.keys().map(String::as_str));
            let expected = "expected a network, an address, a prefix or a range";
            judge.refuse_by("CFG-03", &key, format!("\"{text}\" is not known: {expected}{near}"));
            sound = false;
        }
    }
    sound.then_some(all)
}
