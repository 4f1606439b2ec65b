//! Golden descriptions: what real stacks offer, and what leaves here with each of several settings, byte for byte; and what two
//! other parsers read in the same bytes. Where they come from is told by `README.md` beside this file.

mod accepted;
mod differential;
mod kinds;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sdp_core::policy::{Codecs, Policy, Rules, Transport};
use sdp_core::rewrite::{Credentials, Offered, Orders, Part, Placement, rewrite_by};
use sdp_core::sdp::{Direction, Limits, Sdp};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Names and bytes of all descriptions, in order.
fn descriptions() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sdp"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    all.sort();
    all
}

fn parse<'b>(name: &str, bytes: &'b [u8]) -> Sdp<'b> {
    Sdp::parse(bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A way to write a description.
struct Setting {
    name: &'static str,
    address: &'static str,
    rules: Rules,
    answer: bool,
    dtmf: Option<u8>,
    /// RTCP stands that far from RTP.
    apart: u16,
    ice: bool,
    direct: bool,
}

fn settings() -> [Setting; 6] {
    let plain = || Setting {
        name: "relayed",
        address: "203.0.113.9",
        rules: Rules::default(),
        answer: false,
        dtmf: None,
        apart: 1,
        ice: true,
        direct: false,
    };
    let codecs = Codecs::parse(&["PCMU", "PCMA", "H264", "telephone-event"]).ok();
    let strip_lines = ["b=", "a=ssrc", "a=silenceSupp"].map(str::to_owned).to_vec();
    [
        plain(),
        Setting { name: "ipv6", address: "2001:db8::9", apart: 20_001, ice: false, ..plain() },
        Setting {
            name: "limited",
            rules: Rules { codecs, strip_lines, force_ptime: Some(30), strip_ice: true, ..Rules::default() },
            dtmf: Some(101),
            ..plain()
        },
        Setting {
            name: "answer",
            rules: Rules {
                hold_force_3264: true,
                hold_rfc2543: true,
                rtcp_attribute: false,
                ..Rules::default()
            },
            answer: true,
            ..plain()
        },
        Setting {
            name: "unheld",
            rules: Rules {
                inhibit_hold: true,
                add_ice_candidate: false,
                pass_transports: vec!["TCP/MSRP".to_owned()],
                ..Rules::default()
            },
            ..plain()
        },
        Setting { name: "direct", direct: true, ..plain() },
    ]
}

impl Setting {
    fn address(&self) -> IpAddr {
        self.address.parse().unwrap()
    }

    /// Two lines at one port are alternatives and share ours (SDP-02), unless it is the one that names none.
    fn placements(&self, sdp: &Sdp<'_>) -> Vec<Placement> {
        let policy = Policy { rules: self.rules.clone(), ..Policy::default() };
        let port = |at: usize| {
            let same = sdp.media.iter().position(|other| other.port == sdp.media[at].port && other.port != 9);
            let same = same.unwrap_or(at);
            20_000 + 2 * u16::try_from(same).unwrap()
        };
        let place = |at: usize| {
            let media = &sdp.media[at];
            let rtp = port(at);
            match Transport::parse(media.transport) {
                None if policy.passes(media) => Placement::Pass,
                None => Placement::Decline,
                Some(_) if media.port_count != 1 => Placement::Decline,
                Some(_) if self.direct => {
                    let phone: IpAddr = [192, 168, 7, 8].into();
                    Placement::Direct { rtp: (phone, rtp).into(), rtcp: (phone, rtp + 1).into() }
                }
                Some(_) => {
                    let ice = self.ice.then(|| Credentials::new([7; 32]));
                    Placement::Relay { rtp, rtcp: rtp + self.apart, ice }
                }
            }
        };
        (0..sdp.media.len()).map(place).collect()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Vec<u8> {
        let sdp = parse(name, bytes);
        let placements = self.placements(&sdp);
        let offered = [Offered { direction: Direction::SendOnly, dtmf: None }; 16];
        let part = if self.answer { Part::Answer(&offered) } else { Part::Offer { dtmf: self.dtmf } };
        let orders =
            Orders { address: self.address(), placements: &placements, part, srtp: &[], rules: &self.rules };
        let out = rewrite_by(&sdp, &orders, &mut Vec::new());
        let again = parse(name, &out);
        assert_eq!(
            rewrite_by(&again, &orders, &mut Vec::new()),
            out,
            "{name} {}: twice is not once",
            self.name
        );
        out.to_vec()
    }
}

#[test]
fn each_leaves_as_expected() {
    let bless = std::env::var_os("FAREND_BLESS").is_some();
    let all = descriptions();
    assert!(all.len() >= 200, "{} descriptions", all.len());
    let mut wrong = Vec::new();
    for (name, bytes) in &all {
        let mut found = Vec::new();
        for setting in settings() {
            let out = setting.write(name, bytes);
            found.extend_from_slice(format!("=== {} {}\n", setting.name, out.len()).as_bytes());
            found.extend_from_slice(&out);
            found.push(b'\n');
        }
        let path = folder().join(format!("{name}.expected"));
        if bless {
            fs::write(&path, &found).unwrap();
        } else if fs::read(&path).ok().as_ref() != Some(&found) {
            wrong.push(format!("{name}\n{}", String::from_utf8_lossy(&found)));
        }
    }
    assert!(wrong.is_empty(), "{} differ; the first is now: {}", wrong.len(), wrong[0]);
}

/// Without the crate's own view: what addresses a description named, and whether any is left where a relay stands between.
#[test]
fn no_address_of_the_author_is_left_of_what_is_relayed() {
    for (name, bytes) in descriptions() {
        let text = String::from_utf8_lossy(&bytes);
        let mut named: Vec<&str> = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if line.starts_with("o=") || line.starts_with("c=") {
                named.extend(fields.last());
            } else if line.starts_with("a=candidate:") {
                named.extend(fields.get(4));
            } else if line.starts_with("a=rtcp:") && fields.len() == 4 {
                named.extend(fields.last());
            }
        }
        for setting in settings().iter().filter(|setting| !setting.direct && setting.name != "unheld") {
            let out = setting.write(&name, &bytes);
            let out = String::from_utf8_lossy(&out);
            for line in out.lines() {
                // A name of the author that RTCP says as well, and the clock that all share (RFC 7273 §4.3).
                if ["a=ssrc:", "a=ts-refclk:"].iter().any(|start| line.starts_with(start)) {
                    continue;
                }
                let zero = |address: &str| matches!(address, "0.0.0.0" | "::");
                let part_of_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
                let mut words = line.split_ascii_whitespace().chain(line.split(|c| !part_of_address(c)));
                let told = words.find(|word| named.contains(word) && !zero(word));
                assert_eq!(told, None, "{name} {}: {line}", setting.name);
            }
        }
    }
}

/// Lines that no setting may touch stand in their order.
#[test]
fn lines_nobody_reads_are_the_same() {
    let ours = [
        "o=",
        "c=",
        "m=",
        "a=rtcp:",
        "a=candidate:",
        "a=ice-",
        "a=remote-candidates:",
        "a=end-of-candidates",
        "a=path:",
        "a=alt:",
        "a=altc:",
        "a=oldcip:",
        "a=oldoip:",
        "a=source-filter:",
        "a=x-candidate-ipv6:",
    ];
    for (name, bytes) in descriptions() {
        let out = settings()[1].write(&name, &bytes);
        let rest = |bytes: &[u8]| -> Vec<String> {
            let lines = bytes.split(|b| *b == b'\n').map(|line| line.escape_ascii().to_string());
            let touched = |line: &String| {
                let value = line.strip_prefix("a=").unwrap_or_default().trim_end_matches("\\r");
                let direction = Direction::parse(value.as_bytes()).is_some();
                direction || line.is_empty() || ours.iter().any(|start| line.starts_with(start))
            };
            lines.filter(|line| !touched(line)).collect()
        };
        assert_eq!(rest(&bytes), rest(&out), "{name}");
    }
}
