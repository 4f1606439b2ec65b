//! Helpers shared by the load generators: command-line arguments, CPU accounting of another
//! process tree, percentiles, and a very small SIP message reader.

use std::collections::HashMap;

/// `--name value` and bare `--flag` arguments.
pub struct Args {
    map: HashMap<String, String>,
}

impl Args {
    pub fn parse(argv: impl Iterator<Item = String>) -> Args {
        let mut map = HashMap::new();
        let v: Vec<String> = argv.collect();
        let mut i = 0;
        while i < v.len() {
            let k = v[i].strip_prefix("--").unwrap_or_else(|| panic!("unexpected argument {}", v[i]));
            if i + 1 < v.len() && !v[i + 1].starts_with("--") {
                map.insert(k.to_string(), v[i + 1].clone());
                i += 2;
            } else {
                map.insert(k.to_string(), "1".to_string());
                i += 1;
            }
        }
        Args { map }
    }
    pub fn opt(&self, k: &str) -> Option<&str> {
        self.map.get(k).map(|s| s.as_str())
    }
    pub fn get(&self, k: &str, default: &str) -> String {
        self.opt(k).unwrap_or(default).to_string()
    }
    pub fn num<T: std::str::FromStr>(&self, k: &str, default: T) -> T {
        match self.opt(k) {
            Some(s) => s.parse().unwrap_or_else(|_| panic!("bad number for --{k}: {s}")),
            None => default,
        }
    }
    pub fn has(&self, k: &str) -> bool {
        self.map.contains_key(k)
    }
}

/// User and system CPU seconds of some process trees.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    pub user: f64,
    pub sys: f64,
}

impl Cpu {
    pub fn total(&self) -> f64 {
        self.user + self.sys
    }
    pub fn since(&self, a: &Cpu) -> Cpu {
        Cpu { user: self.user - a.user, sys: self.sys - a.sys }
    }
}

/// CPU used so far by each process in `roots` and all their descendants.
pub fn cpu_of(roots: &[u32]) -> Cpu {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let hz = ticks.unwrap_or(100) as f64;
    let mut procs: HashMap<u32, (u32, f64, f64)> = HashMap::new();
    for e in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = e.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some(p) = stat.rfind(')') else { continue };
        let f: Vec<&str> = stat[p + 2..].split_whitespace().collect();
        let n = |i: usize| f[i].parse::<f64>().unwrap_or(0.0);
        procs.insert(pid, (n(1) as u32, n(11) / hz, n(12) / hz));
    }
    let mut c = Cpu::default();
    for (&pid, &(_, u, s)) in &procs {
        let mut p = pid;
        for _ in 0..32 {
            if roots.contains(&p) {
                c.user += u;
                c.sys += s;
                break;
            }
            match procs.get(&p) {
                Some(&(pp, _, _)) if pp > 1 => p = pp,
                _ => break,
            }
        }
    }
    c
}

pub fn pids(a: &Args) -> Vec<u32> {
    a.get("pid", "").split(',').filter(|s| !s.is_empty()).map(|s| s.parse().expect("--pid")).collect()
}

/// `p50 p90 p99 p999 max` of a set of microsecond samples.
pub fn percentiles(v: &mut [u32]) -> String {
    if v.is_empty() {
        return "n=0".into();
    }
    v.sort_unstable();
    let q = |p: f64| v[((v.len() - 1) as f64 * p) as usize];
    format!(
        "n={} p50={}us p90={}us p99={}us p99.9={}us max={}us",
        v.len(),
        q(0.5),
        q(0.9),
        q(0.99),
        q(0.999),
        v[v.len() - 1]
    )
}

pub fn loadavg() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(1).collect()
}

pub fn raise_nofile() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let want = 200_000.max(hard);
        if setrlimit(Resource::RLIMIT_NOFILE, want, want).is_err() {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }
}

// ---------------------------------------------------------------- SIP

/// Length of the first complete SIP message in `b` (stream framing by Content-Length).
/// Leading CR LF keepalives are reported as messages of their own length.
pub fn frame(b: &[u8]) -> Option<usize> {
    if b.len() >= 2 && &b[..2] == b"\r\n" {
        return Some(2);
    }
    let end = find(b, b"\r\n\r\n")? + 4;
    let cl = header(&b[..end], "Content-Length").or_else(|| header(&b[..end], "l"));
    let n: usize = cl.and_then(|s| s.trim().parse().ok()).unwrap_or(0);
    if b.len() >= end + n { Some(end + n) } else { None }
}

pub fn find(h: &[u8], n: &[u8]) -> Option<usize> {
    let mut i = 0;
    while i + n.len() <= h.len() {
        match h[i..].iter().position(|&c| c == n[0]) {
            None => return None,
            Some(p) => {
                i += p;
                if i + n.len() <= h.len() && &h[i..i + n.len()] == n {
                    return Some(i);
                }
                i += 1;
            }
        }
    }
    None
}

pub fn lines(m: &[u8]) -> impl Iterator<Item = &str> {
    let end = find(m, b"\r\n\r\n").unwrap_or(m.len());
    std::str::from_utf8(&m[..end]).unwrap_or("").split("\r\n")
}

pub fn headers<'a>(m: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a str> {
    lines(m).skip(1).filter_map(move |l| {
        let (n, v) = l.split_once(':')?;
        if n.trim_end().eq_ignore_ascii_case(name) { Some(v.trim()) } else { None }
    })
}

pub fn header<'a>(m: &'a [u8], name: &'a str) -> Option<&'a str> {
    headers(m, name).next()
}

/// Values of a header that may be a comma-separated list of `<uri>` entries.
pub fn list(m: &[u8], name: &str) -> Vec<String> {
    let mut out = Vec::new();
    for h in headers(m, name) {
        let (mut depth, mut start) = (0i32, 0usize);
        for (i, c) in h.char_indices() {
            match c {
                '<' => depth += 1,
                '>' => depth -= 1,
                ',' if depth == 0 => {
                    out.push(h[start..i].trim().to_string());
                    start = i + 1;
                }
                _ => {}
            }
        }
        out.push(h[start..].trim().to_string());
    }
    out
}

/// Status code of a response, or 0 for a request.
pub fn status(m: &[u8]) -> u32 {
    if m.starts_with(b"SIP/2.0 ") && m.len() > 11 {
        std::str::from_utf8(&m[8..11]).ok().and_then(|s| s.parse().ok()).unwrap_or(0)
    } else {
        0
    }
}

pub fn method(m: &[u8]) -> &str {
    lines(m).next().unwrap_or("").split(' ').next().unwrap_or("")
}

pub fn request_uri(m: &[u8]) -> &str {
    lines(m).next().unwrap_or("").split(' ').nth(1).unwrap_or("")
}

pub fn cseq_method(m: &[u8]) -> &str {
    header(m, "CSeq").and_then(|v| v.split_whitespace().nth(1)).unwrap_or("")
}

pub fn uri_in(v: &str) -> &str {
    match (v.find('<'), v.find('>')) {
        (Some(a), Some(b)) if b > a => &v[a + 1..b],
        _ => v.split(';').next().unwrap_or(v).trim(),
    }
}

pub fn user_of(uri: &str) -> &str {
    let u = uri.trim_start_matches("sips:").trim_start_matches("sip:");
    match u.find('@') {
        Some(p) => &u[..p],
        None => "",
    }
}

/// A response to `req`: Via, From, To (with tag), Call-ID, CSeq and Record-Route copied.
pub fn response(req: &[u8], code: u32, reason: &str, to_tag: &str, extra: &str, body: &str) -> Vec<u8> {
    use std::fmt::Write;
    let mut o = String::with_capacity(1024);
    let _ = write!(o, "SIP/2.0 {code} {reason}\r\n");
    for l in lines(req).skip(1) {
        let Some((n, _)) = l.split_once(':') else { continue };
        let n = n.trim_end();
        if n.eq_ignore_ascii_case("to") {
            o.push_str(l);
            if code > 100 && !l.contains(";tag=") {
                let _ = write!(o, ";tag={to_tag}");
            }
            o.push_str("\r\n");
        } else if ["via", "from", "call-id", "cseq"].iter().any(|h| n.eq_ignore_ascii_case(h))
            || (code > 100 && n.eq_ignore_ascii_case("record-route"))
        {
            o.push_str(l);
            o.push_str("\r\n");
        }
    }
    o.push_str(extra);
    if !body.is_empty() {
        // Of the kind that was asked for: what is no session description stays one on both ways.
        let _ = write!(o, "Content-Type: {}\r\n", header(req, "Content-Type").unwrap_or("application/sdp"));
    }
    let _ = write!(o, "Content-Length: {}\r\n\r\n{}", body.len(), body);
    o.into_bytes()
}

pub const SDP: &str = "v=0\r\no=- 20518 0 IN IP4 192.168.1.10\r\ns=-\r\nc=IN IP4 192.168.1.10\r\nt=0 0\r\n\
m=audio 54400 RTP/AVP 0 8 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";

pub const ALLOW: &str =
    "Allow: INVITE, ACK, CANCEL, BYE, NOTIFY, REFER, OPTIONS, UPDATE, INFO, SUBSCRIBE\r\n";
