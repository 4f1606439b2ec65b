//! Session descriptions as the phone writes and reads them.

use std::net::{IpAddr, SocketAddr};

/// The phone's offer: two audio lines on one port, plain and encrypted, as the 6900 family sends them.
pub fn offer(ip: IpAddr, port: u16, session: u32) -> String {
    format!(
        "v=0\r\n\
         o=- {session} 1 IN IP4 {ip}\r\n\
         s=-\r\n\
         c=IN IP4 {ip}\r\n\
         t=0 0\r\n\
         m=audio {port} RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-15\r\n\
         a=ptime:20\r\n\
         a=sendrecv\r\n\
         m=audio {port} RTP/SAVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj UNAUTHENTICATED_SRTP\r\n\
         a=sendrecv\r\n"
    )
}

/// The phone's answer: the first audio line in plain RTP, every other line of the offer refused with port 0
/// (RFC 3264 §6).
pub fn answer(offer: &str, ip: IpAddr, port: u16, session: u32) -> String {
    let mut text = format!("v=0\r\no=- {session} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n");
    let mut taken = false;
    for line in offer.lines().filter_map(|line| line.trim_end().strip_prefix("m=")) {
        if !taken && plain_audio(line).is_some() {
            taken = true;
            text.push_str(&format!(
                "m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
                 a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
            ));
        } else {
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or("audio");
            let rest: Vec<&str> = words.skip(1).collect();
            text.push_str(&format!("m={kind} 0 {}\r\n", rest.join(" ")));
        }
    }
    text
}

/// Where the other side wants its plain audio.
pub fn audio(sdp: &str) -> Option<SocketAddr> {
    let (mut session, mut media, mut port) = (None, None, None);
    let mut in_media = false;
    for line in sdp.lines().map(str::trim_end) {
        if let Some(line) = line.strip_prefix("m=") {
            if port.is_some() {
                break;
            }
            in_media = true;
            port = plain_audio(line);
            media = None;
        } else if let Some(line) = line.strip_prefix("c=IN ") {
            let ip = line.split(' ').nth(1).and_then(|ip| ip.parse::<IpAddr>().ok());
            if in_media { media = ip } else { session = ip }
        }
    }
    Some(SocketAddr::new(media.or(session)?, port?))
}

fn plain_audio(line: &str) -> Option<u16> {
    let mut words = line.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("audio"), Some(port), Some("RTP/AVP")) => port.parse().ok().filter(|port| *port != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_and_answer_agree() {
        let (a, b) = (IpAddr::from([127, 40, 1, 11]), IpAddr::from([127, 40, 2, 11]));
        let offer = offer(a, 20_000, 7);
        assert_eq!(audio(&offer), Some(SocketAddr::new(a, 20_000)));
        let answer = answer(&offer, b, 30_000, 8);
        assert_eq!(audio(&answer), Some(SocketAddr::new(b, 30_000)));
        assert!(answer.contains("m=audio 0 RTP/SAVP 0 101\r\n"), "{answer}");
    }

    #[test]
    fn reads_media_level_addresses_and_other_orders() {
        let sdp = "v=0\nc=IN IP4 127.0.0.1\nm=video 4 RTP/AVP 9\nc=IN IP4 127.0.0.2\n\
                   m=audio 6 RTP/SAVP 0\nm=audio 8 RTP/AVP 0\nc=IN IP4 127.0.0.3\nm=audio 9 RTP/AVP 0\n";
        assert_eq!(audio(sdp), Some(SocketAddr::from(([127, 0, 0, 3], 8))));
        assert_eq!(audio("v=0\nm=audio 8 RTP/AVP 0\n"), None);
        assert_eq!(audio("v=0\nc=IN IP4 127.0.0.1\nm=audio 0 RTP/AVP 0\n"), None);
    }
}
