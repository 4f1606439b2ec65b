//! The command `farend`: arguments, log, signals, exit code.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use farend::config::{self, Refusal, Settings};
use farend::{Gateway, log};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// A configuration that is refused.
const REFUSED: u8 = 2;
/// How long running calls may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(3600);
/// How long what is left may take at the end.
const GOODBYE: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(name = "farend", version, about = "Teleworker gateway: desk phones at home on the company PBX")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway. SIGHUP reloads the configuration, SIGTERM drains, a second SIGTERM ends at once.
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Judge a configuration and say everything that is wrong with it. Nothing is started.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Play a whole site on loopback: phones boot, register, call each other. Needs no root.
    #[cfg(feature = "demo")]
    Demo {
        /// Disable one part, which must then fail: "tag routing", relay, tunnel, certificate, file or re-homing.
        #[arg(long, value_name = "STEP")]
        r#break: Option<String>,
        /// Leave the site running and print how to attach a real client.
        #[arg(long)]
        stay: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { file } => match load(&file) {
            Ok((_, warnings)) => {
                for warning in warnings {
                    eprintln!("{}: warning: {warning}", file.display());
                }
                println!("{}: the configuration is good", file.display());
                ExitCode::SUCCESS
            }
            Err(code) => code,
        },
        #[cfg(feature = "demo")]
        Command::Demo { r#break, stay } => farend::demo::run(r#break.as_deref(), stay),
    }
}

/// Loads a configuration; what is wrong with it goes to standard error.
fn load(path: &Path) -> Result<(Settings, Vec<Refusal>), ExitCode> {
    config::load(path).map_err(|invalid| {
        eprintln!("{invalid}");
        ExitCode::from(REFUSED)
    })
}

fn run(path: &Path) -> ExitCode {
    let (settings, warnings) = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let _log = log::install(&settings.log);
    for warning in warnings {
        warn!(%warning, "configuration");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime can't be started");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match Gateway::start(settings).await {
            Ok(gateway) => serve(gateway, path).await,
            Err(error) => {
                error!(%error, "the gateway can't be started");
                ExitCode::FAILURE
            }
        }
    });
    // A thread that does not end must not keep the process from ending.
    runtime.shutdown_timeout(GOODBYE);
    code
}

/// Waits for signals until the gateway shall end.
async fn serve(mut gateway: Gateway, path: &Path) -> ExitCode {
    let signals =
        (signal(SignalKind::hangup()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)) = signals else {
        error!("signals can't be received");
        return ExitCode::FAILURE;
    };
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(&mut gateway, path).await,
            _ = interrupt.recv() => break,
            part = gateway.failed() => {
                error!(part, "a part of the gateway has ended by itself: this is a fault of the program, please report it");
                gateway.stop().await;
                return ExitCode::FAILURE;
            }
            _ = terminate.recv() => {
                info!("draining: no new calls or registrations; running calls may end");
                tokio::select! {
                    () = gateway.drain(DRAIN) => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                break;
            }
        }
    }
    gateway.stop().await;
    info!("stopped");
    ExitCode::SUCCESS
}

async fn reload(gateway: &mut Gateway, path: &Path) {
    match config::load(path) {
        Ok((settings, warnings)) => {
            for warning in warnings {
                warn!(%warning, "configuration");
            }
            match gateway.reload(settings).await {
                Ok(()) => info!("the new configuration is in force"),
                Err(error) => error!(%error, "the new configuration can't be taken; the old one stays"),
            }
        }
        Err(invalid) => {
            for refusal in &invalid.refusals {
                error!(path = %invalid.path.display(), %refusal, "the new configuration is refused; the old one stays");
            }
        }
    }
}
