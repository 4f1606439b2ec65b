//! The media half.

use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use super::{Judge, MAX_SOCKET};
use crate::config::file;
use crate::config::settings::{MediaSettings, RouteSettings, SenderLimit};
use sdp_core::net::MAX_WORKERS;
use sdp_core::policy::{Srtp, SrtpSides, Timeouts};

/// Fewer routers than may lie between us and a phone at home.
const FAR: u8 = 32;
/// The socket of the media process in the state folder.
const SOCKET: &str = "media.sock";
/// From which port to which the kernel hands out ports to whoever asks.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// What a kernel does that was not told otherwise.
const EPHEMERAL_DEFAULT: (i64, i64) = (32768, 60999);

pub(super) fn settings(
    media: &file::Media,
    state_dir: &Path,
    judge: &mut Judge<'_>,
) -> Option<MediaSettings> {
    let workers = judge.number::<usize>(&["media", "workers"], media.workers, (0, MAX_WORKERS as i64));
    let process = process(media, state_dir, judge);
    let sources = [("signalling-address", true), ("any", false)];
    let signalling_address_only = judge.one_of(&["media", "source"], &media.source, &sources);
    let limits =
        [("lock", SenderLimit::Lock), ("lock-ip", SenderLimit::LockIp), ("multiple", SenderLimit::Multiple)];
    let sender_limit = judge.one_of(&["media", "sender_limit"], &media.sender_limit, &limits);
    let max_senders = judge.number::<u8>(&["media", "max_senders"], media.max_senders, (1, 64));
    let port_range = port_range(media.port_range, judge);
    let ttl = ttl(&media.ttl, judge);
    let srtp = srtp(&media.srtp, judge);
    let dscp = judge.number::<u8>(&["media", "dscp"], media.dscp, (0, 63));
    let one_way = seconds("timeout_oneway", &media.timeout_oneway, 5, judge);
    let rtp = seconds("timeout_rtp", &media.timeout_rtp, 10, judge);
    let rtcp = seconds("timeout_rtcp", &media.timeout_rtcp, 10, judge);
    if media.teardown_on_timeout && rtp == Some(None) {
        let why = "needs a time after which a stream is dead: expected media.timeout_rtp too";
        judge.warn(&["media", "teardown_on_timeout"], why.to_owned());
    }
    let timeouts =
        Timeouts { one_way: one_way?, rtp: rtp?, rtcp: rtcp?, teardown: media.teardown_on_timeout };
    Some(MediaSettings {
        relay: true,
        process: process?,
        workers: workers?,
        port_range: port_range?,
        ttl: ttl?,
        signalling_address_only: signalling_address_only?,
        sender_limit: sender_limit?,
        max_senders: max_senders?,
        route: RouteSettings::default(),
        dscp: dscp?,
        late_relatch: media.late_relatch,
        early_rtp: media.early_rtp,
        timeouts,
        srtp: srtp?,
    })
}

/// `Some(None)`: SRTP passes unread. It passes on both sides or ends on both.
fn srtp(srtp: &file::Srtp, judge: &mut Judge<'_>) -> Option<Option<SrtpSides>> {
    let rules = [
        ("pass", None),
        ("off", Some(Srtp::Off)),
        ("required", Some(Srtp::Required)),
        ("preferred", Some(Srtp::Preferred)),
    ];
    let outside = judge.one_of(&["media", "srtp", "outside"], &srtp.outside, &rules);
    let inside = judge.one_of(&["media", "srtp", "inside"], &srtp.inside, &rules);
    match (outside?, inside?) {
        (None, None) => Some(None),
        (Some(outside), Some(inside)) => Some(Some(SrtpSides { outside, inside })),
        (None, Some(_)) => {
            judge.refuse(&["media", "srtp", "outside"], HALF);
            None
        }
        (Some(_), None) => {
            judge.refuse(&["media", "srtp", "inside"], HALF);
            None
        }
    }
}

/// Why one side alone can't pass.
const HALF: &str = "\"pass\" on one side alone is nothing: what ends on the other would have no key here: expected \"off\", \"required\" or \"preferred\"";

/// The socket of the media process. `Some(None)`: there is none.
fn process(media: &file::Media, state_dir: &Path, judge: &mut Judge<'_>) -> Option<Option<PathBuf>> {
    let path = media.socket.as_ref().map_or_else(|| state_dir.join(SOCKET), PathBuf::from);
    if let Some(socket) = &media.socket
        && !path.is_absolute()
    {
        judge.refuse(&["media", "socket"], format!("\"{socket}\" is not an absolute path: expected one"));
        return None;
    }
    if media.socket.is_some() && !media.process {
        judge.warn(&["media", "socket"], "is not looked at as long as media.process is false");
    }
    let octets = path.as_os_str().len();
    // One in a state_dir that is too long is refused with it.
    if media.process && media.socket.is_some() && octets > MAX_SOCKET {
        let path = path.display();
        let why = format!(
            "the socket {path} has {octets} octets, the kernel takes {MAX_SOCKET}: expected a shorter media.socket"
        );
        judge.refuse(&["media", "socket"], why);
        return None;
    }
    Some(media.process.then_some(path))
}

fn port_range([low, high]: [i64; 2], judge: &mut Judge<'_>) -> Option<(u16, u16)> {
    let key = ["media", "port_range"];
    let first = judge.number::<u16>(&key, low, (1024, 65535))?;
    let last = judge.number::<u16>(&key, high, (1024, 65535))?;
    if last < first || last - first < 99 {
        judge.refuse_by(
            "CFG-18",
            &key,
            format!("[{low}, {high}] holds fewer than 100 ports: expected [lowest, highest]"),
        );
        return None;
    }
    let (from, to) = ephemeral(std::fs::read_to_string(EPHEMERAL).ok().as_deref());
    if high >= from && low <= to {
        judge
            .warn(&key, format!("the kernel hands out ports {from} to {to} to others (ip_local_port_range)"));
    }
    Some((first, last))
}

/// The kernel's own range: two numbers.
fn ephemeral(text: Option<&str>) -> (i64, i64) {
    let mut numbers = text.unwrap_or_default().split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(from)), Some(Ok(to))) => (from, to),
        _ => EPHEMERAL_DEFAULT,
    }
}

/// Seconds of silence; `Some(None)` is blank, and off. Below `least` a pause between two words would be told.
fn seconds(
    name: &'static str,
    value: &toml::Value,
    least: i64,
    judge: &mut Judge<'_>,
) -> Option<Option<u16>> {
    let key = ["media", name];
    match value {
        toml::Value::String(text) if text.is_empty() => Some(None),
        toml::Value::Integer(number) => judge.number::<u16>(&key, *number, (least, 43_200)).map(Some),
        other => {
            judge.refuse(&key, format!("{other} is not known: expected \"\" or seconds from {least}"));
            None
        }
    }
}

/// `Some(None)` is "keep".
fn ttl(value: &toml::Value, judge: &mut Judge<'_>) -> Option<Option<NonZeroU8>> {
    match value {
        toml::Value::String(text) if text == "keep" => Some(None),
        toml::Value::Integer(number) => {
            let ttl = judge.number::<u8>(&["media", "ttl"], *number, (1, 255));
            if ttl.is_some_and(|ttl| ttl < FAR) {
                let why = format!("{number} routers away nobody hears anything; 64 reaches everybody");
                judge.warn(&["media", "ttl"], why);
            }
            ttl.map(NonZeroU8::new)
        }
        other => {
            judge.refuse(&["media", "ttl"], format!("{other} is not known: expected \"keep\" or 1 to 255"));
            None
        }
    }
}
