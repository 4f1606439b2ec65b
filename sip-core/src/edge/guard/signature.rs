//! Literal signatures of scanners (SEC-04): no expression is ever compiled from what a peer or an operator wrote.

/// The octets of a User-Agent that are looked at.
const LOOKED_AT: usize = 256;

/// What scanners call themselves; part of the User-Agent, in any case.
pub const SCANNERS: &[&str] = &[
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli/",
    "sip-scan",
    "sipscan",
    "sundayddr",
    "csipsimple-scan",
    "vaxsipuseragent",
    "vaxasip",
    "pplsip",
    "siparmyknife",
    "sivus",
    "warvox",
    "voipsec",
    "nmap",
    "masscan",
    "zgrab",
];

/// What no user part has and statements of SQL begin or end with, in lower case.
const STATEMENTS: &[&[u8]] = &[
    b"'--",
    b"' --",
    b"';",
    b"' ;",
    b"'#",
    b"'=",
    b"'||",
    b"' or ",
    b"'or'",
    b"' and ",
    b"'and'",
    b"' union ",
    b"'union",
    b"union select",
    b"union all",
    b"drop table",
    b"insert into",
    b"'/*",
    b"or 1=1",
];

/// Whether a User-Agent contains one of `literals`.
pub fn is_scanner(user_agent: &[u8], literals: &[String]) -> bool {
    let shown = user_agent.get(..LOOKED_AT).unwrap_or(user_agent);
    literals.iter().any(|literal| contains(shown, literal.as_bytes()))
}

/// Whether a user part, escapes undone, contains SQL. A single quote is legal in a user, and O'Brien has one.
pub fn is_injection(user: &[u8]) -> bool {
    let shown = user.get(..LOOKED_AT).unwrap_or(user);
    STATEMENTS.iter().any(|statement| contains(shown, statement))
}

/// Whether `literal` is part of `text`, in any case.
fn contains(text: &[u8], literal: &[u8]) -> bool {
    !literal.is_empty() && text.windows(literal.len()).any(|window| window.eq_ignore_ascii_case(literal))
}
