//! Answers as text for a terminal.

use std::fmt::Write as _;

use sdp_core::relay::LegStatistics;

use super::{CallStatus, Calls, EndStatus, Past, StreamStatus, Summary};

/// Characters of a Call-ID that are shown.
const CALL_ID: usize = 16;

/// The running calls, one block each, and those that ended in trouble.
pub fn calls(calls: &Calls) -> String {
    let mut text = String::new();
    let troubled = calls.calls.iter().filter(|call| call.is_troubled()).count();
    let all = calls.calls.len() + calls.left_out;
    let _ = writeln!(text, "{all} {}, {troubled} with trouble", if all == 1 { "call" } else { "calls" });
    for one in &calls.calls {
        call(&mut text, one);
    }
    if calls.left_out > 0 {
        let _ = writeln!(text, "\n{} more calls are not shown", calls.left_out);
    }
    if !calls.past.is_empty() {
        let _ = writeln!(text, "\nEnded in trouble:");
    }
    for Past { session, call_id, phone, phone_address, ago, sentence, .. } in &calls.past {
        let _ = writeln!(
            text,
            "  {} ago, {}, phone {} at {}, session {session}: {sentence}",
            span(*ago),
            short(call_id.as_deref()),
            phone.as_deref().unwrap_or("-"),
            or_dash(phone_address.as_ref()),
        );
    }
    text
}

fn call(text: &mut String, call: &CallStatus) {
    let state = if call.answered { "answered" } else { "offered" };
    let _ = writeln!(
        text,
        "\n{}  phone {} at {}  switch {}  {state} {} ago  session {}",
        short(call.call_id.as_deref()),
        call.phone.as_deref().unwrap_or("-"),
        or_dash(call.phone_address.as_ref()),
        or_dash(call.switch.as_ref()),
        span(call.seconds),
        call.session,
    );
    for one in &call.streams {
        stream(text, one);
    }
    if let Some(reported) = &call.reported {
        let figures = [
            ("MOS listening", reported.mos_listening),
            ("MOS conversational", reported.mos_conversational),
            ("lost %", reported.lost_percent),
            ("too late %", reported.discarded_percent),
            ("jitter ms", reported.jitter_ms),
            ("round trip ms", reported.round_trip_ms.map(f64::from)),
        ];
        let told = figures.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?)));
        let _ = writeln!(text, "  the phone reports {}", told.collect::<Vec<_>>().join(", "));
    }
}

fn stream(text: &mut String, stream: &StreamStatus) {
    let line = stream.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
    let codecs = stream.codecs.as_deref().unwrap_or("codecs not known");
    let age =
        stream.age.map_or_else(|| "no counters yet".to_owned(), |age| format!("counters of {age} s ago"));
    let _ = writeln!(text, "  line {line}: {}, {codecs}; {age}", stream.media);
    end(text, "phone", &stream.phone);
    end(text, if stream.media == "joined" { "other phone" } else { "switch" }, &stream.other);
    if stream.trouble {
        let _ = writeln!(text, "  ! {}", stream.sentence);
    } else if stream.verdict != "healthy" {
        let _ = writeln!(text, "  {}", stream.sentence);
    }
}

fn end(text: &mut String, name: &str, end: &EndStatus) {
    let ours = or_dash(end.ours.as_ref());
    let Some(counters) = &end.counters else {
        let _ = writeln!(text, "    {name:<11} sends to {ours}, says {}", or_dash(end.says.as_ref()));
        return;
    };
    let ttl = counters.hop_limit_received;
    let ttl = match ttl.average() {
        Some(average) => format!("{}/{average}", ttl.minimum),
        None => "-".to_owned(),
    };
    let drops: Vec<String> = end.drops().iter().map(|(why, count)| format!("{why} {count}")).collect();
    let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
    let _ = writeln!(
        text,
        "    {name:<11} sends to {ours}: {} RTP, {} RTCP, TTL min/avg {ttl}, sources {}, dropped {drops}",
        counters.received_rtp, counters.received_rtcp, counters.senders,
    );
    if let Some(quality) = quality(counters) {
        let _ = writeln!(text, "    {:<11} {quality}", "");
    }
    let _ = writeln!(
        text,
        "    {:<11} gets {} packets at {} (its description says {})",
        "",
        counters.sent,
        or_dash(counters.receiver.as_ref()),
        or_dash(end.says.as_ref()),
    );
}

/// Loss and jitter of what came, where some was measured, and how far away it is.
fn quality(counters: &LegStatistics) -> Option<String> {
    let reception = &counters.reception;
    if reception.expected == 0 {
        return None;
    }
    let mut text = format!(
        "lost {} of {}, jitter {:.1} ms mean, {:.1} ms at most",
        reception.lost(),
        reception.expected,
        f64::from(reception.jitter_mean_us) / 1000.0,
        f64::from(reception.jitter_max_us) / 1000.0,
    );
    if let Some(mos) = counters.mos_hundredths {
        let _ = write!(text, ", MOS {:.2}", f64::from(mos) / 100.0);
    }
    if let Some(round_trip) = counters.round_trip_us {
        let _ = write!(text, ", round trip {:.0} ms", f64::from(round_trip) / 1000.0);
    }
    if let Some(reported) = counters.reported {
        let _ = write!(
            text,
            "; reports {} % lost of what it gets",
            u32::from(reported.fraction_lost) * 100 / 256
        );
    }
    let sources: Vec<String> = counters.sources.iter().flatten().map(ToString::to_string).collect();
    if !sources.is_empty() {
        let _ = write!(text, "; from {}", sources.join(", "));
    }
    Some(text)
}

/// The state in numbers.
pub fn summary(state: &Summary) -> String {
    let mut text = String::new();
    let Summary { program, process, seconds, phones, connected, calls, troubled, answered, .. } = state;
    let draining = if state.draining { ", draining: takes nothing new" } else { "" };
    let _ = writeln!(text, "farend {program}, process {process}, up {}{draining}", span(*seconds));
    let _ = writeln!(text, "phones    {phones} registered, {connected} connected");
    let _ = writeln!(
        text,
        "calls     {calls} now, {troubled} with trouble; {answered} answered since the start, {} ended in trouble",
        state.ended_in_trouble
    );
    let _ = writeln!(
        text,
        "requests  {} refused, {} messages dropped, {} peers blocked now",
        state.refused, state.dropped, state.blocked
    );
    for switch in &state.switches {
        let _ = write!(text, "switch    {} {}", switch.remote, switch.health);
        if switch.blacklisted > 0 {
            let _ = write!(text, ", asked nothing for {} s", switch.blacklisted);
        }
        text.push('\n');
    }
    text
}

fn short(call_id: Option<&str>) -> String {
    // A peer made it: nothing in it may act on the terminal.
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    match call_id {
        Some(id) if id.chars().count() > CALL_ID => {
            id.chars().take(CALL_ID).map(plain).chain(['…']).collect()
        }
        Some(id) => id.chars().map(plain).collect(),
        None => "-".to_owned(),
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn or_dash<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), T::to_string)
}

#[cfg(test)]
mod tests {
    use sdp_core::relay::{Dropped, Reception, Reported};

    use super::*;

    fn troubled() -> CallStatus {
        let counters = LegStatistics {
            dropped: Dropped { stranger: 480, ..Dropped::default() },
            sent: 3,
            receiver: Some("198.51.100.2:61000".parse().unwrap()),
            ..LegStatistics::default()
        };
        let phone = EndStatus {
            ours: Some("203.0.113.10:16384".parse().unwrap()),
            says: Some("192.168.1.7:40002".parse().unwrap()),
            counters: Some(counters),
        };
        CallStatus {
            session: 7,
            call_id: Some("a84b4c76e66710aa11@lab".into()),
            phone: Some("08000FA00001".into()),
            phone_address: Some("198.51.100.2".parse().unwrap()),
            switch: Some("10.0.1.51".parse().unwrap()),
            answered: true,
            seconds: 12,
            reported: Some(super::super::Reported { mos_listening: Some(4.2), ..Default::default() }),
            streams: vec![StreamStatus {
                line: Some(0),
                media: "relayed".into(),
                codecs: Some("PCMU/8000".into()),
                verdict: "wrong-source".into(),
                trouble: true,
                sentence: "the sentence".into(),
                age: Some(2),
                phone,
                other: EndStatus::default(),
            }],
        }
    }

    #[test]
    fn a_troubled_call_has_its_sentence() {
        let past = Past {
            session: 3,
            call_id: None,
            phone: None,
            phone_address: None,
            ago: 200,
            verdict: "silent".into(),
            sentence: "it was silent".into(),
        };
        let text = calls(&Calls { calls: vec![troubled()], left_out: 2, past: vec![past] });
        for words in [
            "3 calls, 1 with trouble",
            "a84b4c76e66710aa…  phone 08000FA00001 at 198.51.100.2  switch 10.0.1.51  answered 12 s ago  session 7",
            "line 0: relayed, PCMU/8000; counters of 2 s ago",
            "sends to 203.0.113.10:16384: 0 RTP, 0 RTCP, TTL min/avg -, sources 0, dropped stranger 480",
            "gets 3 packets at 198.51.100.2:61000 (its description says 192.168.1.7:40002)",
            "  ! the sentence\n",
            "  the phone reports MOS listening 4.2\n",
            "2 more calls",
            "3 min ago, -, phone - at -, session 3: it was silent",
        ] {
            assert!(text.contains(words), "{words} in:\n{text}");
        }
    }

    #[test]
    fn a_healthy_call_has_none() {
        let mut call = troubled();
        call.streams[0].trouble = false;
        call.streams[0].verdict = "healthy".into();
        let text = calls(&Calls { calls: vec![call.clone()], left_out: 0, past: Vec::new() });
        assert!(text.starts_with("1 call, 0 with trouble") && !text.contains("the sentence"), "{text}");
        call.streams[0].verdict = "not-enough-data".into();
        let text = calls(&Calls { calls: vec![call], left_out: 0, past: Vec::new() });
        assert!(text.contains("\n  the sentence\n") && !text.contains('!'), "{text}");
        assert!(!text.contains("Ended in trouble"), "{text}");
    }

    #[test]
    fn loss_and_jitter_are_told_where_they_were_measured() {
        assert_eq!(quality(&LegStatistics::default()), None);
        let counters = LegStatistics {
            reception: Reception {
                received: 990,
                expected: 1000,
                jitter_mean_us: 1250,
                jitter_max_us: 20_040,
                ..Reception::default()
            },
            mos_hundredths: Some(423),
            round_trip_us: Some(43_700),
            reported: Some(Reported { fraction_lost: 26, lost: 100, jitter: 3 }),
            sources: [Some("198.51.100.2:61000".parse().unwrap()), None, None, None],
            ..LegStatistics::default()
        };
        assert_eq!(
            quality(&counters).unwrap(),
            "lost 10 of 1000, jitter 1.2 ms mean, 20.0 ms at most, MOS 4.23, round trip 44 ms; reports 10 % lost of what \
             it gets; from 198.51.100.2:61000"
        );
    }

    #[test]
    fn a_call_id_does_not_act_on_the_terminal() {
        assert_eq!(short(Some("a\u{1b}[2J\u{9b}b")), "a?[2J?b");
    }

    #[test]
    fn a_summary_says_what_is_wrong() {
        let switch = super::super::SwitchStatus {
            remote: "10.0.1.50:5061".parse().unwrap(),
            health: "down".into(),
            blacklisted: 41,
        };
        let state = Summary {
            program: "0.1.0".into(),
            seconds: 7261,
            draining: true,
            switches: vec![switch],
            ..Summary::default()
        };
        let text = summary(&state);
        assert!(text.contains("up 2 h 1 min, draining"), "{text}");
        assert!(text.contains("switch    10.0.1.50:5061 down, asked nothing for 41 s\n"), "{text}");
    }
}
