//! The media half.

use std::num::NonZeroU8;

use super::Judge;
use crate::config::file;
use crate::config::settings::{MediaSettings, RouteSettings, SenderLimit};

/// The kernel hands out ports from here on to whoever asks (ip_local_port_range).
const EPHEMERAL: i64 = 32768;

pub(super) fn settings(media: &file::Media, judge: &mut Judge<'_>) -> Option<MediaSettings> {
    if media.process {
        judge.refuse(&["media", "process"], "a media process of its own is not built yet: expected false");
    }
    if media.workers > 1 || media.workers < 0 {
        judge.refuse(&["media", "workers"], "several media workers are not built yet: expected 0 or 1");
    }
    let sources = [("signalling-address", true), ("any", false)];
    let signalling_address_only = judge.one_of(&["media", "source"], &media.source, &sources);
    let limits =
        [("lock", SenderLimit::Lock), ("lock-ip", SenderLimit::LockIp), ("multiple", SenderLimit::Multiple)];
    let sender_limit = judge.one_of(&["media", "sender_limit"], &media.sender_limit, &limits);
    let max_senders = judge.number::<u8>(&["media", "max_senders"], media.max_senders, (1, 64));
    let port_range = port_range(media.port_range, judge);
    let ttl = ttl(&media.ttl, judge);
    Some(MediaSettings {
        relay: true,
        port_range: port_range?,
        ttl: ttl?,
        signalling_address_only: signalling_address_only?,
        sender_limit: sender_limit?,
        max_senders: max_senders?,
        route: RouteSettings::default(),
    })
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
    if high >= EPHEMERAL {
        judge.warn(&key, format!("ports from {EPHEMERAL} on are usually handed out by the kernel to others"));
    }
    Some((first, last))
}

/// `Some(None)` is "keep".
fn ttl(value: &toml::Value, judge: &mut Judge<'_>) -> Option<Option<NonZeroU8>> {
    match value {
        toml::Value::String(text) if text == "keep" => Some(None),
        toml::Value::Integer(number) => {
            judge.number::<u8>(&["media", "ttl"], *number, (1, 255)).map(NonZeroU8::new)
        }
        other => {
            judge.refuse(&["media", "ttl"], format!("{other} is not known: expected \"keep\" or 1 to 255"));
            None
        }
    }
}
