use super::*;

#[test]
fn what_is_no_check_of_ours_costs_its_source_only() {
    let mut checks = Checks::default();
    let ice = IceLite { ufrag: "evtj".into(), password: "VOkJxbRl1RmTxUk/WvJxBt".into() };
    let mut answer = Answer::default();
    let now = Instant::now();
    let source = |port| SocketAddr::from(([198, 51, 100, 7], port));
    for port in 0..100 {
        for _ in 0..100 {
            assert_eq!(checks.answer(now, (&ice, None), source(port), b"\0\x01 no check", &mut answer), None);
        }
    }
    assert_eq!(answer.bytes(), b"");
    assert_eq!(
        checks.sources.iter().flatten().count(),
        SOURCES,
        "a flood from many ports is held in few places"
    );
}

#[test]
fn a_password_is_not_shown() {
    let ice = IceLite { ufrag: "evtj".into(), password: "VOkJxbRl1RmTxUk/WvJxBt".into() };
    let shown = format!("{ice:?}");
    assert!(shown.contains("evtj") && !shown.contains("VOkJ"), "{shown}");
}
