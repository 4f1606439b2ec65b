//! SIP load generator and test registrar for comparing edge proxies.
//!
//!   sipload uas      --listen udp:127.0.0.30:5080[,tls:127.0.0.30:5081]
//!   sipload reg      --target tls:HOST:PORT --phones N [--rate R | --inflight K] --secs S [--pid PROXYPID]
//!   sipload call     same arguments as reg; one INVITE..BYE call per unit of work
//!   sipload options  same; one OPTIONS answered by the proxy itself per unit of work
//!   sipload conn     --target tls:HOST:PORT --inflight K --secs S --then options|register|none
//!   sipload idle     --target tls:HOST:PORT --phones N --hold S
//!   sipload inbound  --target tls:HOST:PORT --inside-listen 127.0.0.30:5080 --phones N ...
//!                    phones register through the proxy, then the inside calls them by their Path
//!   sipload reuse    --target ... --inside-listen ...: is a call meant for phone A delivered to
//!                    phone B when B has taken over A's source address and port?
//!
//! TLS: --ca F --cert F --key F --sni NAME --tls 1.2|1.3 ; --no-cert connects without a client
//! certificate; --ca-key F makes a certificate for each phone (CN = its MAC), as gateways that count per certificate need.
//! --keep DIR keeps these certificates from one run to the next.
//! --src 127.1.0.1 --srcs 64 spreads phones over source addresses.

mod churn;
mod conn;
mod figures;
mod inside;
mod load;
mod phone;
mod tls;
mod uas;

use sipload::*;
use std::net::SocketAddr;

use crate::churn::*;
use crate::inside::*;
use crate::load::*;
use crate::uas::*;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Tp {
    Udp,
    Tcp,
    Tls,
}

pub(crate) fn parse_target(s: &str) -> (Tp, SocketAddr) {
    let (t, a) = s.split_once(':').expect("target is udp|tcp|tls:HOST:PORT");
    let tp = match t {
        "udp" => Tp::Udp,
        "tcp" => Tp::Tcp,
        "tls" => Tp::Tls,
        _ => panic!("target {s}"),
    };
    (tp, a.parse().expect("target address"))
}

fn main() {
    let mut argv = std::env::args().skip(1);
    let mode = argv.next().unwrap_or_else(|| "help".into());
    let a = Args::parse(argv);
    raise_nofile();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(a.num("workers", 2))
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async {
        match mode.as_str() {
            "uas" => run_uas(&a).await,
            "reg" => run_load("reg", &a).await,
            "call" => run_load("call", &a).await,
            "options" => run_load("options", &a).await,
            "conn" => run_conn(&a).await,
            "idle" => run_idle(&a).await,
            "inbound" => run_inbound(&a).await,
            "reuse" => run_reuse(&a).await,
            _ => eprintln!("see the top of sipload.rs for usage"),
        }
    });
    std::process::exit(0);
}
