//! The interoperability profile: every switch of the administrator's pages "Interoperability" and "Sessions and
//! Media" as one typed value.
//!
//! [`InteropProfile::default`] is what a gateway does that nobody has told anything;
//! [`InteropProfile::teleworker`] is what remote desk phones that all register as one user need. The profile is the
//! field [`Config::interop`] and the only place where these settings stand: encoding, user matching, tag routing and
//! Path are parts of it. Of "Sessions and Media", the timers and ceilings that the transaction layer and the proxy
//! own stay with them ([`Config::timers`], [`Config::transactions`], [`Config::max_forwards`],
//! [`message::Limits`]).
//!
//! The switches of [`Sdp`], [`MediaSwitches`] and [`B2bua`] are read by the media half and by the B2BUA; until
//! those exist, a configuration that sets one is refused by name.
//!
//! [`Config::interop`]: super::Config::interop
//! [`Config::timers`]: super::Config::timers
//! [`Config::transactions`]: super::Config::transactions
//! [`Config::max_forwards`]: super::Config::max_forwards
//! [`message::Limits`]: crate::message::Limits

mod b2bua;
mod media;

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

pub use b2bua::{B2bua, CodecChange, RingTone};
pub use media::{MediaPorts, MediaProxy, MediaSwitches, Sdp, SenderLimit};

use super::config::{TagRouting, UserMatching};
use crate::resolve::Networks;

/// All switches, grouped by what they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InteropProfile {
    /// How phones and switches are named to each other, and what a REGISTER gets.
    pub contacts: Contacts,
    /// Record-Route, Route, Via, and which addresses are rewritten.
    pub routes: Routes,
    /// Other headers of requests.
    pub headers: Headers,
    /// Responses, redirection, CANCEL and ACK.
    pub answers: Answers,
    /// What transports take.
    pub transports: Transports,
    /// Bounds of sessions and streams.
    pub sessions: Sessions,
    /// Session descriptions.
    pub sdp: Sdp,
    /// The relay.
    pub media: MediaSwitches,
    /// The B2BUA.
    pub b2bua: B2bua,
}

impl InteropProfile {
    /// What teleworker phones need: tags tell phones apart, user names stay readable and match without their domain,
    /// media may come from several senders and leaves with a fresh hop count.
    pub fn teleworker() -> Self {
        let mut profile = Self::default();
        profile.contacts.uri_encoding = UriEncoding::KeepUsername;
        profile.contacts.user_matching = UserMatching::Username;
        profile.contacts.tag_routing.enabled = true;
        profile.media.sender_limit = SenderLimit::Multiple;
        profile.media.ttl = NonZeroU8::new(64);
        profile.b2bua.codec_change_detection = CodecChange::Static;
        profile
    }
}

/// The peers that a table names: by address, or by host name where a row takes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// By address.
    pub networks: Networks,
    /// By host name, in lower case; `example.com` also means every name under it.
    pub domains: Vec<String>,
}

impl Peers {
    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.domains.is_empty()
    }

    /// Whether a host may be in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let under = |one: &String, two: &String| {
            crate::resolve::is_under(one, two) || crate::resolve::is_under(two, one)
        };
        self.networks.overlaps(&other.networks)
            || self.domains.iter().any(|one| other.domains.iter().any(|two| under(one, two)))
    }

    /// Whether the address is one of them.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    /// Whether a host as it stands in a URI (IPv6 in brackets or bare, a name in any case) is one of them.
    pub fn holds_host(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return self.networks.contains(address);
        }
        let name = bare.strip_suffix('.').unwrap_or(bare);
        self.domains.iter().any(|domain| crate::resolve::is_under(name, domain))
    }
}

/// How phones and switches are named to each other, and what a REGISTER gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contacts {
    /// INT-04: the address of one side that the other side is handed. `sip.uri_encoding`.
    pub uri_encoding: UriEncoding,
    /// SIP-20: Contacts outside of REGISTER are the URI of the phone's registration. `sip.uri_encoding_use_registration`.
    pub use_registration: bool,
    /// INT-07: how users are compared when nothing better names the phone. `sip.user_matching`.
    pub user_matching: UserMatching,
    /// INT-06: `@domain` is cut from a digest user name before it is compared. `sip.auth.loose_username`.
    pub loose_username: bool,
    /// INT-54: ContactRouteTag based routing. `sip.tag_routing`.
    pub tag_routing: TagRouting,
    /// INT-03: an `Expires` header equal to the Contact's parameter. `sip.interop.add_expires`.
    pub add_expires: AddExpires,
    /// INT-31: the To user goes into a registered Contact that has none. `sip.interop.force_contact_user`.
    pub force_contact_user: bool,
    /// INT-41: GRUUs of the registrar reach the phone. `sip.interop.gruu_passthrough`.
    pub gruu_passthrough: bool,
    /// INT-42: REGISTERs get our Path (RFC 3327). `sip.interop.add_path`.
    pub add_path: bool,
    /// INT-64: the least time between two REGISTERs to one registrar. `sip.interop.register_delay`.
    pub register_delay: Option<Duration>,
    /// INT-66: URI parameters of a registered Contact that survive. `sip.interop.contact_uri_params_keep`.
    pub uri_params_keep: Vec<String>,
}

/// The address of one side that the other side is handed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UriEncoding {
    /// Nothing of the original is readable.
    #[default]
    AlwaysEncrypt,
    /// A short handle.
    Shorter,
    /// The original, escaped into the user part.
    Escape,
    /// The original's user; everything else is ours.
    KeepUsername,
    /// A GRUU of our own making (RFC 5627).
    Gruu,
}

/// When an `Expires` header is added to REGISTERs and their 2xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddExpires {
    /// Never.
    #[default]
    Never,
    /// When there is none.
    WhenMissing,
    /// Always; an old value is replaced.
    Always,
}

/// Record-Route, Route, Via, and which addresses are rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// INT-01: `;lr=true` instead of `;lr` in what we write. `sip.interop.lr_true`.
    pub lr_true: bool,
    /// INT-08: Record-Route in every request that forms a dialog and leaves to the outside. `sip.interop.rr_outbound`.
    pub rr_outbound: bool,
    /// INT-09: Record-Route in every request that forms a dialog. `sip.interop.rr_always`.
    pub rr_always: bool,
    /// INT-32: a BYE whose Routes disagree with the dialog gets the dialog's. `sip.interop.fix_bye_routes`.
    pub fix_bye_routes: bool,
    /// INT-33: the same for every request inside of a dialog. `sip.interop.fix_routes`.
    pub fix_routes: bool,
    /// INT-61: peers that don't see our Record-Route. `sip.interop.hide_rr`.
    pub hide_rr: Peers,
    /// INT-62: no switch sees our Record-Route. `sip.interop.hide_rr_all`.
    pub hide_rr_all: bool,
    /// INT-55: peers that see no Via but ours. `sip.interop.remove_via`.
    pub remove_via: Peers,
    /// INT-56: no switch sees a Via but ours. `sip.interop.remove_via_all`.
    pub remove_via_all: bool,
    /// INT-57: hosts whose addresses cross the sides unchanged. `sip.interop.translate_except`.
    pub translate_except: Peers,
    /// INT-58: hosts whose addresses are rewritten on their own side too. `sip.interop.translate_force`.
    pub translate_force: Peers,
    /// INT-45: a URI with `maddr` means the default port there. `sip.interop.ignore_port_with_maddr`.
    pub ignore_port_with_maddr: bool,
    /// INT-47: the dial plan compares ports too. `dialplan.match_port`. For the B2BUA.
    pub match_port: bool,
}

/// Other headers of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// INT-02: `Refer-To: sip:x@y?Replaces=…` without brackets is taken. `sip.interop.relaxed_refer_to`.
    pub relaxed_refer_to: bool,
    /// INT-51: the URIs in Refer-To and Referred-By are translated. `sip.interop.translate_refer_to`.
    pub translate_refer_to: bool,
    /// INT-44: escaped blanks in Refer-To and Request-URI go away. `sip.interop.unescape_ws`.
    pub unescape_ws: bool,
    /// INT-49: the user of a B2BUA dialog follows Refer-To. `sip.interop.refer_updates_user`. For the B2BUA.
    pub refer_updates_user: bool,
    /// INT-24: To stays as it came when routing changes the Request-URI. `sip.interop.keep_to`.
    pub keep_to: bool,
    /// INT-30: `Proxy-Require: privacy` is taken as if we did it. `sip.interop.pretend_privacy`.
    pub pretend_privacy: bool,
    /// INT-28: digest answers without qop, as in RFC 2069. `sip.interop.rfc2069`.
    pub rfc2069: bool,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            relaxed_refer_to: false,
            translate_refer_to: true,
            unescape_ws: false,
            refer_updates_user: false,
            keep_to: false,
            pretend_privacy: false,
            rfc2069: false,
        }
    }
}

/// Responses, redirection, CANCEL and ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// INT-52: 5xx towards the asker become 503. `sip.interop.to_503`.
    pub to_503: bool,
    /// INT-12: no Contact and Record-Route in 180. `sip.interop.strip_180`.
    pub strip_180: bool,
    /// INT-13: the body of a CANCEL is forwarded. `sip.interop.cancel_body_forward`.
    pub cancel_body_forward: bool,
    /// INT-14: the ACK to the 487 carries it. `sip.interop.cancel_body_in_ack`.
    pub cancel_body_in_ack: bool,
    /// INT-25: requests to a second-choice server say so. `sip.interop.add_failover_header`.
    pub add_failover_header: bool,
    /// INT-26: the DNS override holds for targets of a followed 3xx. `sip.interop.dns_override_on_3xx`.
    pub dns_override_on_3xx: bool,
    /// INT-65: headers of a followed 3xx that the new request gets. `sip.interop.forward_3xx_headers`.
    pub forward_3xx_headers: Vec<String>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            to_503: false,
            strip_180: false,
            cancel_body_forward: false,
            cancel_body_in_ack: false,
            add_failover_header: false,
            dns_override_on_3xx: true,
            forward_3xx_headers: Vec::new(),
        }
    }
}

/// What transports take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transports {
    /// INT-10: messages over TCP that say TLS are taken. `sip.interop.tcp_marked_tls`.
    pub tcp_marked_tls: bool,
    /// INT-10: from whom; others get 400. `sip.interop.tcp_marked_tls_from`.
    pub tcp_marked_tls_from: Peers,
    /// INT-11: requests of any size stay on UDP. `sip.interop.large_udp`.
    pub large_udp: bool,
    /// INT-59: peers that are reached only over the connection they made. `sip.interop.tls_reuse`.
    pub tls_reuse: Peers,
}

/// Bounds of sessions and streams; further rows of the same page are [`Config`](super::Config)'s own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// SAM-15: the longest session without a refresh. `sip.session_timer`, from 90 s.
    pub session_timer: Duration,
    /// SAM-16: how long a stream may stay of no use. `sip.stream_idle`, 1 to 86,400 s.
    pub stream_idle: Duration,
    /// SAM-17: calls at once. `sip.max_sessions`.
    pub max_sessions: Option<u32>,
    /// SAM-17: users whom a call reaches however many there are. `sip.emergency_numbers`.
    pub emergency_numbers: Vec<String>,
    /// SAM-30: how long a peer that failed is not asked; 0 is never. `sip.blacklist`.
    pub blacklist: Duration,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            session_timer: Duration::from_secs(14_400),
            stream_idle: Duration::from_secs(90),
            max_sessions: None,
            emergency_numbers: Vec::new(),
            blacklist: Duration::from_secs(41),
        }
    }
}
