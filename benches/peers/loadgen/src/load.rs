//! Registrations, calls and OPTIONS under load.

use sipload::*;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

use crate::conn::*;
use crate::figures::*;
use crate::phone::*;

pub(crate) async fn unit(
    what: &str,
    c: &mut Conn,
    ph: &mut Phone,
    regid: &str,
    e: &Env,
    st: &Stats,
) -> Result<(u32, Option<u32>), String> {
    let es = |x: io::Error| format!("{:?}", x.kind());
    let us = |t: Instant| t.elapsed().as_micros().min(u32::MAX as u128) as u32;
    let t = Instant::now();
    match what {
        "reg" => {
            let m = ph.register(regid, 3600);
            let r = c.transact(&m, regid, "REGISTER", st, e.timeout).await.map_err(es)?;
            if status(&r) == 200 { Ok((us(t), None)) } else { Err(format!("status {}", status(&r))) }
        }
        "options" => {
            let id = ph.callid();
            let m = ph.options(&id, e.addr);
            let r = c.transact(&m, &id, "OPTIONS", st, e.timeout).await.map_err(es)?;
            if status(&r) == 200 { Ok((us(t), None)) } else { Err(format!("status {}", status(&r))) }
        }
        "call" => {
            let id = ph.callid();
            let m = ph.invite(&id, "1000");
            let r = c.transact(&m, &id, "INVITE", st, e.timeout).await.map_err(es)?;
            if status(&r) != 200 {
                return Err(format!("INVITE status {}", status(&r)));
            }
            let l1 = us(t);
            let ack = ph.in_dialog("ACK", 1, &r);
            c.send(&ack).await.map_err(es)?;
            let bye = ph.in_dialog("BYE", 2, &r);
            let t2 = Instant::now();
            let b = c.transact(&bye, &id, "BYE", st, e.timeout).await.map_err(es)?;
            if status(&b) != 200 {
                return Err(format!("BYE status {}", status(&b)));
            }
            Ok((l1, Some(us(t2))))
        }
        _ => unreachable!(),
    }
}

pub(crate) async fn connect_all(
    a: &Args,
    e: &Arc<Env>,
    n: usize,
    register: bool,
    st: &Arc<Stats>,
) -> Vec<(Conn, Phone, String)> {
    let sem = Arc::new(Semaphore::new(a.num("connect-inflight", 32)));
    let mut hs = Vec::new();
    let t = Instant::now();
    let fixed = a.opt("user").map(|s| s.to_string());
    for i in 0..n {
        let (e, sem, st, fixed) = (e.clone(), sem.clone(), st.clone(), fixed.clone());
        hs.push(tokio::spawn(async move {
            let _p = sem.acquire().await.unwrap();
            let mut c = match e.connect(i, 0).await {
                Ok(c) => c,
                Err(x) => {
                    eprintln!("phone {i}: connect {x}");
                    return None;
                }
            };
            let mut ph = Phone::new(&e, i, &c, fixed.as_deref());
            let id = ph.callid();
            if register {
                let m = ph.register(&id, 3600);
                match c.transact(&m, &id, "REGISTER", &st, e.timeout).await {
                    Ok(r) if status(&r) == 200 => {}
                    Ok(r) => eprintln!("phone {i}: REGISTER status {}", status(&r)),
                    Err(x) => {
                        eprintln!("phone {i}: REGISTER {x}");
                        return None;
                    }
                }
            }
            Some((c, ph, id))
        }));
    }
    let mut out = Vec::new();
    for h in hs {
        if let Some(x) = h.await.unwrap() {
            out.push(x);
        }
    }
    eprintln!("{} of {n} phones connected in {:.1}s", out.len(), t.elapsed().as_secs_f64());
    out
}

pub(crate) async fn run_load(what: &'static str, a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let n: usize = a.num("phones", 100);
    let rate: f64 = a.num("rate", 0.0);
    let phones = connect_all(a, &e, n, !a.has("no-register") && what != "options", &st).await;
    let sem = Arc::new(Semaphore::new(a.num("inflight", 32)));
    let start = Instant::now() + Duration::from_millis(200);
    let live = phones.len();
    for (k, (mut c, mut ph, id)) in phones.into_iter().enumerate() {
        let (e, st, sem) = (e.clone(), st.clone(), sem.clone());
        tokio::spawn(async move {
            let step = Duration::from_secs_f64(if rate > 0.0 { live as f64 / rate } else { 0.0 });
            let mut i = 0u64;
            pause_until(start, step, 0).await;
            while !st.stopped() {
                let permit = if rate > 0.0 {
                    pause_until(start + step.mul_f64(k as f64 / live as f64), step, i).await;
                    None
                } else {
                    Some(sem.acquire().await.unwrap())
                };
                if st.stopped() {
                    break;
                }
                i += 1;
                match unit(what, &mut c, &mut ph, &id, &e, &st).await {
                    Ok((x, y)) => {
                        st.good();
                        if st.is_measuring() {
                            st.lat.lock().unwrap().push(x);
                            if let Some(y) = y {
                                st.lat2.lock().unwrap().push(y);
                            }
                        }
                    }
                    Err(w) => {
                        let dead =
                            !w.starts_with("status") && !w.contains("TimedOut") && !w.contains(" status");
                        st.bad(w);
                        if dead {
                            break;
                        }
                    }
                }
                drop(permit);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            c.close().await;
        });
    }
    tokio::time::sleep_until(start.into()).await;
    measure(a, what, &st).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
}
