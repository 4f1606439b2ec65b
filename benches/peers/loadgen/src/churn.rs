//! New connections, and idle ones.

use sipload::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::conn::*;
use crate::figures::*;
use crate::load::*;
use crate::phone::*;

pub(crate) async fn run_conn(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let then = a.get("then", "options");
    let rate: f64 = a.num("rate", 0.0);
    let workers: usize = a.num("inflight", 16);
    let start = Instant::now();
    for w in 0..workers {
        let (e, st, then) = (e.clone(), st.clone(), then.clone());
        tokio::spawn(async move {
            let mut i = 0usize;
            while !st.stopped() {
                if rate > 0.0 {
                    let step = Duration::from_secs_f64(workers as f64 / rate);
                    pause_until(start + step.mul_f64(w as f64 / workers as f64), step, i as u64).await;
                }
                i += 1;
                let t = Instant::now();
                let r: Result<u32, String> = async {
                    // A phone that comes back: the certificate and the device are the same one's.
                    let n = (w + i * 7) % e.phones;
                    let mut c = e.connect(n, 0).await.map_err(|x| format!("connect {:?} {x}", x.kind()))?;
                    let us = t.elapsed().as_micros() as u32;
                    let mut ph = Phone::new(&e, n, &c, None);
                    let id = ph.callid();
                    let what = if then == "register" { "reg" } else { "options" };
                    if then != "none" {
                        unit(what, &mut c, &mut ph, &id, &e, &st).await?;
                    }
                    let total = t.elapsed().as_micros() as u32;
                    if st.is_measuring() {
                        st.lat.lock().unwrap().push(us);
                        st.lat2.lock().unwrap().push(total);
                    }
                    c.close().await;
                    Ok(us)
                }
                .await;
                match r {
                    Ok(_) => st.good(),
                    Err(x) => {
                        st.bad(x);
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                }
            }
        });
    }
    measure(a, "conn", &st).await;
}

// ---------------------------------------------------------------- idle

pub(crate) async fn run_idle(a: &Args) {
    let e = Arc::new(Env::new(a));
    let st = Arc::new(Stats::default());
    let v = connect_all(a, &e, a.num("phones", 1000), true, &st).await;
    println!("READY {}", v.len());
    let hold = Duration::from_secs(a.num("hold", 10));
    let _ = tokio::time::timeout(hold, std::future::pending::<()>()).await;
    drop(v);
}
