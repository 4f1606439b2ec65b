//! What sdp-types and sdp-rs read in the same bytes. They differ where one of them is at fault or more narrow; each such case is in
//! the table, and one that is not fails the test.

use std::net::IpAddr;

use sdp_core::sdp::{Host, Limits, Sdp};

use super::{descriptions, settings};

/// What all three can tell of a description.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    origin: String,
    /// Kind, port, transport, formats, and the address that holds for the line.
    lines: Vec<(String, u16, String, String, Option<String>)>,
}

/// As an address is written; of a multicast one without its TTL (RFC 8866 §5.7), which sdp-rs does not tell.
fn ip(text: &str) -> String {
    let text = text.split('/').next().unwrap_or_default();
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_canonical().to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ours(bytes: &[u8]) -> Read {
    let sdp = Sdp::parse(bytes, &Limits::default()).unwrap();
    let host = |host: &Host<'_>| match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Other(name) => ip(&text(name)),
    };
    let lines = sdp.media.iter().map(|media| {
        let formats: Vec<String> =
            media.formats.split(|b| *b == b' ').filter(|format| !format.is_empty()).map(text).collect();
        let address = sdp.connection_of(media).map(|connection| host(&connection.host));
        (text(media.kind), media.port, text(media.transport), formats.join(" "), address)
    });
    Read { origin: host(&sdp.origin.host), lines: lines.collect() }
}

fn sdp_types(bytes: &[u8]) -> Result<Read, String> {
    let sdp = sdp_types::Session::parse(bytes).map_err(|error| error.to_string())?;
    let general = sdp.connection.as_ref();
    let lines = sdp.medias.iter().map(|media| {
        let address = media.connections.first().or(general);
        let address = address.map(|connection| ip(&connection.connection_address));
        (media.media.clone(), media.port, media.proto.clone(), media.fmt.trim().to_owned(), address)
    });
    Ok(Read { origin: ip(&sdp.origin.unicast_address), lines: lines.collect() })
}

fn sdp_rs(bytes: &[u8]) -> Result<Read, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    // It wants CRLF, behind the last line too; what comes after a line it can't place is lost in silence.
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let sdp = sdp_rs::SessionDescription::try_from(lines.join("\r\n") + "\r\n");
    let sdp = sdp.map_err(|error| error.to_string().chars().take(60).collect::<String>())?;
    let kept = sdp.to_string().lines().count();
    if kept != lines.len() {
        return Err(format!("keeps {kept} of {} lines", lines.len()));
    }
    let general = sdp.connection.as_ref().map(|connection| connection.connection_address.base);
    let read = sdp.media_descriptions.iter().map(|description| {
        let own = description.connections.first().map(|connection| connection.connection_address.base);
        let address = own.or(general).map(|ip| ip.to_canonical().to_string());
        let media = &description.media;
        (media.media.to_string(), media.port, media.proto.to_string(), media.fmt.trim().to_owned(), address)
    });
    Ok(Read { origin: sdp.origin.unicast_address.to_canonical().to_string(), lines: read.collect() })
}

/// Faults of the others: in which description, whose, and how what they say begins. sdp-rs takes no host name in `o=` and `c=`
/// (RFC 8866 §9 does), needs `s=` where it stands in the grammar, and refuses the whole for an rtpmap without a clock; both
/// count blanks and want UTF-8.
const KNOWN: &[(&str, &str, &str)] = &[
    ("cisco-null-options", "sdp-types", "Invalid field formatting in line 2 at Origin sess-version"),
    ("jsip-fax-answer", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("jsip-fax-gateway", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("jsip-p25", "sdp-rs", "keeps 4 of 7 lines"),
    ("jsip-pingtel", "sdp-rs", "could not parse part: failed to parse rtpmap attribute"),
    ("odd-blanks", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("odd-blanks", "sdp-types", "Invalid field formatting in line 6 at Media port"),
    ("odd-order-and-letters", "sdp-rs", "tokenizer error: failed to tokenize session name"),
    ("odd-utf8-and-bytes", "sdp-rs", "invalid utf-8 sequence"),
    ("odd-utf8-and-bytes", "sdp-types", "Invalid field encoding in line 7 at Media Title"),
    ("rfc4091-anat", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-2.1-answer", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-2.1-offer", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-2.2-answer", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-2.4-offer", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-3.1-hold", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-3.2-hold", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4317-4.3-deleted", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc4475-3.1.1.1", "sdp-rs", "could not parse part: failed to parse rtpmap attribute"),
    ("rfc4475-multipart", "sdp-rs", "could not parse part: failed to parse rtpmap attribute"),
    ("rfc5118-mixed", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("rfc5888-group", "sdp-rs", "could not parse part: failed to parse origin ip address"),
    ("sorcery-no-session-name", "sdp-rs", "tokenizer error: failed to tokenize session name"),
    ("transform-extmap-encrypt", "sdp-rs", "keeps 4 of 11 lines"),
    ("transform-invalid", "sdp-rs", "keeps 9 of 10 lines"),
    ("transform-normal", "sdp-rs", "keeps 4 of 38 lines"),
    ("transform-onvif", "sdp-rs", "tokenizer error: could not tokenize: m=audio 0 RTP/AVP 0"),
    ("transform-tcp-active", "sdp-rs", "tokenizer error: could not tokenize: m=image 9 TCP t38"),
    ("transform-tcp-passive", "sdp-rs", "tokenizer error: could not tokenize: m=image 54111 TCP t38"),
    ("yealink-t26-run-together", "sdp-rs", "could not parse part: failed to parse ptime attribute"),
];

fn check(name: &str, crate_name: &str, ours: &Read, theirs: Result<Read, String>, found: &mut Vec<String>) {
    let known = KNOWN.iter().find(|row| row.0 == name && row.1 == crate_name).map(|row| row.2);
    let differs = match theirs {
        Ok(theirs) if theirs == *ours => None,
        Ok(theirs) => Some(format!("{theirs:?}")),
        Err(why) => Some(why),
    };
    match (differs, known) {
        (None, Some(_)) => found.push(format!("{name}: {crate_name} is no longer at fault")),
        (Some(differs), known) if known.is_none_or(|known| !differs.starts_with(known)) => {
            found.push(format!("{name}: {crate_name}: {differs}\n    ours: {ours:?}"));
        }
        _ => {}
    }
}

#[test]
fn three_parsers_read_the_same_but_for_known_faults() {
    let mut found = Vec::new();
    for (name, bytes) in descriptions() {
        let read = ours(&bytes);
        check(&name, "sdp-types", &read, sdp_types(&bytes), &mut found);
        check(&name, "sdp-rs", &read, sdp_rs(&bytes), &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What we write is read by the others just as it is by us, wherever they could read what came in.
#[test]
fn what_leaves_reads_the_same() {
    for (name, bytes) in descriptions() {
        for setting in settings() {
            let out = setting.write(&name, &bytes);
            let read = ours(&out);
            for (read_in, read_out, which) in
                [(sdp_types(&bytes), sdp_types(&out), "sdp-types"), (sdp_rs(&bytes), sdp_rs(&out), "sdp-rs")]
            {
                if read_in.is_ok_and(|before| before == ours(&bytes)) {
                    assert_eq!(read_out.as_ref(), Ok(&read), "{name} {}: {which}", setting.name);
                }
            }
        }
    }
}
