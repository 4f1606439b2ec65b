//! `[sdp]` and `sip.interop.add_dtmf_pt`: what is taken, what is refused, what is warned of.

use sip_core::edge::interop::{MediaPorts, Sdp};

use super::changed;
use super::rules::{added, adding_is_refused};

fn sdp(lines: &str) -> String {
    format!("[sdp]\n{lines}")
}

fn read(lines: &str) -> Sdp {
    added(&sdp(lines)).sip.interop.sdp
}

fn warned(lines: &str, says: &str) {
    let (_, warnings) = changed("[media]", &format!("{lines}\n[media]")).unwrap();
    assert!(warnings.iter().any(|warning| warning.to_string().contains(says)), "{lines}: {warnings:?}");
}

#[test]
fn flags_are_read() {
    for name in
        ["hold_rfc2543", "hold_force_3264", "inhibit_hold", "hold_inactive", "strip_ice", "use_codec_limit"]
    {
        assert_ne!(read(&format!("{name} = true")), Sdp::default(), "{name}");
        adding_is_refused(&sdp(&format!("{name} = 1")), &format!("sdp.{name}"), "true or false");
    }
    assert!(
        !read("add_ice_candidate = false").add_ice_candidate
            && !read("rtcp_attribute = false").rtcp_attribute
    );
    let both = sdp("inhibit_hold = true\nhold_inactive = true");
    adding_is_refused(&both, "sdp.hold_inactive", "one of inhibit_hold and hold_inactive");
    added(&sdp("inhibit_hold = true\nhold_inactive = false"));
}

#[test]
fn numbers_have_their_ranges() {
    assert_eq!(read("force_ptime = \"\"").force_ptime, None);
    for ptime in [10, 30, 120] {
        assert_eq!(read(&format!("force_ptime = {ptime}")).force_ptime, Some(ptime));
    }
    for ptime in ["0", "5", "25", "130", "-10", "\"20\""] {
        adding_is_refused(&sdp(&format!("force_ptime = {ptime}")), "sdp.force_ptime", "10, 20, 30");
    }
    assert_eq!((read("max_streams = 1").max_streams, read("max_streams = 32").max_streams), (1, 32));
    for streams in ["0", "33", "\"\""] {
        adding_is_refused(&sdp(&format!("max_streams = {streams}")), "sdp.max_streams", "1 to 32");
    }
}

#[test]
fn a_codec_that_nobody_has_is_doubted() {
    let listed =
        |codecs: &str| sdp(&format!("use_codec_limit = true\ncodec_limit = \"listed\"\ncodecs = [{codecs}]"));
    warned(&listed("\"PCMU\", \"g711u\""), "sdp.codecs: \"g711u\"");
    warned(&listed("\"PCMU\", \"!telephone-events\""), "did you mean \"telephone-event\"?");
    let known = listed("\"pcmu\", \"L16/44100\", \"!telephone-event\", \"opus\"");
    let (_, warnings) = changed("[media]", &format!("{known}\n[media]")).unwrap();
    assert!(!warnings.iter().any(|warning| warning.key == "sdp.codecs"), "{warnings:?}");
}

#[test]
fn ports_are_rows_that_merge() {
    let row = |transport: &str, lower: i64, upper: i64| {
        format!("{{ transport = \"{transport}\", lower = {lower}, upper = {upper} }}")
    };
    let rows = |rows: &[String]| format!("allowed_ports = [{}]", rows.join(", "));
    let udp = |first, last| MediaPorts { tcp: false, first, last };
    let all =
        [row("udp", 2000, 3000), row("tcp", 9000, 9000), row("udp", 1500, 1999), row("udp", 2500, 4000)];
    assert_eq!(
        read(&rows(&all)).allowed_ports,
        [udp(1500, 4000), MediaPorts { tcp: true, first: 9000, last: 9000 }]
    );
    assert_eq!(read("allowed_ports = []").allowed_ports, Sdp::default().allowed_ports);
    // The temporary exception of the teleworker guide.
    assert_eq!(read(&rows(&[row("udp", 1, 65535)])).allowed_ports, [udp(1, 65535)]);
    warned(&sdp(&rows(&[row("udp", 1, 65535)])), "UDP 1 to 65535");
    for (bad, says) in [
        (row("udp", 0, 5000), "1 to 65535"),
        (row("udp", 5000, 65536), "1 to 65535"),
        (row("udp", 5000, 4000), "lower is above upper"),
        (row("sctp", 4000, 5000), "udp"),
        ("\"udp 1-5\"".to_owned(), "transport ="),
        ("{ transport = \"udp\", lower = 4000 }".to_owned(), "transport ="),
        ("{ transport = \"udp\", lower = 4000, upper = 5000, x = 1 }".to_owned(), "transport ="),
    ] {
        adding_is_refused(&sdp(&rows(&[bad])), "sdp.allowed_ports", says);
    }
    adding_is_refused(&sdp("allowed_ports = 4000"), "sdp.allowed_ports", "rows of transport");
}

#[test]
fn a_list_of_codecs_counts_when_both_switches_say_so() {
    let listed =
        "use_codec_limit = true\ncodec_limit = \"listed\"\ncodecs = [\"PCMU\", \"L16/44100\", \"!CN\"]";
    assert_eq!(read(listed).codecs, ["PCMU", "L16/44100", "!CN"]);
    assert!(read(&listed.replace("\"listed\"", "\"all\"")).codecs.is_empty());
    warned(&sdp(&listed.replace("\"listed\"", "\"all\"")), "not looked at");
    warned(&sdp("use_codec_limit = true"), "limits nothing");
    warned(&sdp(&listed.replace("use_codec_limit = true", "use_codec_limit = false")), "limits nothing");
    adding_is_refused(&sdp("codec_limit = \"listed\""), "sdp.codec_limit", "the list is empty");
    adding_is_refused(&sdp("codec_limit = \"some\""), "sdp.codec_limit", "\"all\" or \"listed\"");
    adding_is_refused(&sdp("codecs = [\"PCMU/\"]"), "sdp.codecs", "is not a codec");
    adding_is_refused(&sdp("codecs = \"PCMU\""), "sdp.codecs", "a list of texts");
}

#[test]
fn lines_that_every_description_needs_are_not_stripped() {
    assert_eq!(read("strip_lines = [\"b=\", \"a=silenceSupp\"]").strip_lines, ["b=", "a=silenceSupp"]);
    for letter in ["v", "o", "s", "t", "m", "c"] {
        adding_is_refused(&sdp(&format!("strip_lines = [\"{letter}=\"]")), "sdp.strip_lines", "stay");
    }
    for bad in ["", "b", "a=", "A=x", "=x", "silence"] {
        adding_is_refused(&sdp(&format!("strip_lines = [\"{bad}\"]")), "sdp.strip_lines", "begins no line");
    }
}

#[test]
fn transports_that_pass_are_those_without_a_relay() {
    assert_eq!(read("pass_transports = [\"TCP/MSRP\"]").pass_transports, ["TCP/MSRP"]);
    warned(&sdp("pass_transports = [\"TCP/MSRP\"]"), "addresses of the other");
    adding_is_refused(&sdp("pass_transports = [\"RTP/AVP\"]"), "sdp.pass_transports", "is relayed");
    adding_is_refused(&sdp("pass_transports = [\"UDPTL\"]"), "sdp.pass_transports", "is relayed");
    adding_is_refused(&sdp("pass_transports = [\"TCP MSRP\"]"), "sdp.pass_transports", "no transport");
}

#[test]
fn file_transfer_is_refused_with_the_reason() {
    added(&sdp("port_6891 = false"));
    adding_is_refused(&sdp("port_6891 = true"), "sdp.port_6891", "Messenger is no more");
}

#[test]
fn digits_go_to_listed_peers() {
    let interop = |lines: &str| format!("[sip.interop]\n{lines}");
    let settings = added(&interop("add_dtmf_pt = 101\nadd_dtmf_pt_for = [\"mitel-hq\"]"));
    let sdp = settings.sip.interop.sdp;
    assert!(sdp.add_dtmf_pt == Some(101) && sdp.add_dtmf_pt_for.holds("10.0.1.10".parse().unwrap()));
    assert_eq!(added(&interop("add_dtmf_pt = \"\"")).sip.interop.sdp.add_dtmf_pt, None);
    warned(&interop("add_dtmf_pt = 101"), "nobody gets it");
    for bad in ["0", "95", "128", "\"101\""] {
        adding_is_refused(&interop(&format!("add_dtmf_pt = {bad}")), "sip.interop.add_dtmf_pt", "96 to 127");
    }
}
