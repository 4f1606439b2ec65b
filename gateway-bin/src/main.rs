//! The command `farend`: arguments, log, signals, exit code.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use farend::config::{self, LogSettings, Refusal, Settings};
use farend::status::{Ask, Said, ask, calls_page, summary_page};
use farend::{Asked, Gateway, KeyError, Rotation, explain_sip, log, rotate_keys};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// A tenth fewer instructions a message than the system's, and less held by 10,000 phones at rest (`benches/peers`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A configuration that is refused.
const REFUSED: u8 = 2;
/// How long running calls may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(3600);
/// How often the keys of routing tokens are looked at.
const TEND: Duration = Duration::from_secs(3600);
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
    /// Run the gateway. SIGHUP reloads the configuration, SIGTERM drains, a second SIGTERM ends at once,
    /// SIGUSR1 makes a new key for routing tokens.
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run the media relay as a process of its own, for a gateway with `media.process = true`. It reads no configuration:
    /// the gateway says which addresses and ports. SIGTERM ends it, and the audio of all calls with it.
    Media {
        /// The socket that gateways connect to: `media.socket`, or media.sock in the gateway's state_dir.
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// End when there is nothing more to do: a gateway started it.
        #[arg(long, hide = true)]
        spawned: bool,
        /// How to log.
        #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
        log_format: String,
        /// What to log.
        #[arg(long, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"], default_value = "info")]
        log_level: String,
    },
    /// The keys of routing tokens.
    Keys {
        #[command(subcommand)]
        what: KeysCommand,
    },
    /// Judge a configuration and say everything that is wrong with it. Nothing is started.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Say what would be done with something, and why, without doing it.
    Explain {
        #[command(subcommand)]
        what: ExplainCommand,
    },
    /// Say how the running gateway is, or what is the matter with the audio of its calls. Changes nothing.
    Status {
        /// The state in numbers, or the running calls with the doctor's word about those in trouble.
        #[arg(value_parser = ["summary", "calls"], default_value = "summary")]
        what: String,
        /// The configuration file that the gateway runs on: names state_dir.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/farend/farend.toml")]
        config: PathBuf,
        /// The answer as one line of JSON.
        #[arg(long)]
        json: bool,
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

#[derive(Subcommand)]
enum KeysCommand {
    /// Make a new key now, in the running gateway if one runs on this configuration's state_dir. Phones that are
    /// registered keep theirs.
    Rotate {
        /// The configuration file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum ExplainCommand {
    /// A SIP message: which row lets it in, what is looked at on its way, which phone or switch it reaches, and what is
    /// rewritten. Reads the registrations of state_dir; sends, counts and writes nothing.
    Sip {
        /// One SIP message as text; `-` is standard input.
        file: PathBuf,
        /// The configuration file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Who sends it.
        #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = address)]
        from: std::net::SocketAddr,
        /// The row of sip.ports that it comes by.
        #[arg(long, value_name = "NAME")]
        row: Option<String>,
        /// The side it comes from, where no row is named: the first row of that side.
        #[arg(long, value_parser = ["inside", "outside"], default_value = "outside", conflicts_with = "row")]
        side: String,
        /// The sender's certificate: a file, or the common name of one. Without, it has none.
        #[arg(long, value_name = "FILE|CN")]
        certificate: Option<String>,
        /// It comes by the own connection to the switch of the phone with this tag.
        #[arg(long, value_name = "TAG")]
        line: Option<String>,
        /// Phones are not connected; else all that are registered count as connected.
        #[arg(long)]
        phones_gone: bool,
    },
}

/// An address, with port 5060 if it has none.
fn address(text: &str) -> Result<std::net::SocketAddr, std::net::AddrParseError> {
    text.parse()
        .or_else(|_| text.trim_matches(['[', ']']).parse().map(|ip: std::net::IpAddr| (ip, 5060).into()))
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Media { socket, spawned, log_format, log_level } => {
            let _log = log::install(&LogSettings { json: log_format == "json", level: log_level });
            match farend::media::serve(&socket, spawned) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    error!(%error, "the media process can't go on");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Keys { what: KeysCommand::Rotate { file } } => match load(&file) {
            Ok((settings, _)) => rotate(&settings.state_dir),
            Err(code) => code,
        },
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
        Command::Explain {
            what: ExplainCommand::Sip { file, config, from, row, side, certificate, line, phones_gone },
        } => {
            let inside = side == "inside";
            explain(
                &file,
                &config,
                Asked { message: Vec::new(), from, row, inside, certificate, line, phones_gone },
            )
        }
        Command::Status { what, config, json } => status(&what, &config, json),
        #[cfg(feature = "demo")]
        Command::Demo { r#break, stay } => farend::demo::run(r#break.as_deref(), stay),
    }
}

/// Prints what the running gateway says.
fn status(what: &str, config: &Path, json: bool) -> ExitCode {
    let state_dir = match config::state_dir(config) {
        Ok(state_dir) => state_dir,
        Err(invalid) => {
            eprintln!("{invalid}");
            return ExitCode::from(REFUSED);
        }
    };
    let question = if what == "calls" { Ask::Calls } else { Ask::Summary };
    match ask(&state_dir, question) {
        Ok((line, _)) if json => print!("{line}"),
        Ok((_, Said::Calls(calls))) => print!("{}", calls_page(&calls)),
        Ok((_, Said::Summary(summary))) => print!("{}", summary_page(&summary)),
        Ok((_, Said::Refused(why))) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Prints what would be done with the message in a file.
fn explain(file: &Path, config: &Path, mut asked: Asked) -> ExitCode {
    let settings = match load(config) {
        Ok((settings, _)) => settings,
        Err(code) => return code,
    };
    let read = if file == Path::new("-") {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut text).map(|_| text)
    } else {
        std::fs::read(file)
    };
    let explained = read.map_err(|error| format!("{}: {error}", file.display())).and_then(|message| {
        asked.message = message;
        explain_sip(&settings, &asked).map_err(|error| error.to_string())
    });
    match explained {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads a configuration; what is wrong with it goes to standard error.
fn load(path: &Path) -> Result<(Settings, Vec<Refusal>), ExitCode> {
    config::load(path).map_err(|invalid| {
        eprintln!("{invalid}");
        ExitCode::from(REFUSED)
    })
}

fn rotate(state_dir: &Path) -> ExitCode {
    match rotate_keys(state_dir) {
        Ok(Rotation::Told(process)) => println!("the gateway (process {process}) was told to make a new key"),
        Ok(Rotation::Made(key)) => println!("no gateway runs: made key {key}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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
        // Before anybody can know of this process: a signal that nobody receives ends it.
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                error!(%error, "signals can't be received");
                return ExitCode::FAILURE;
            }
        };
        match Gateway::start(settings).await {
            Ok(gateway) => serve(gateway, signals, path).await,
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

/// What the process is told.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    rotate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            rotate: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Waits for signals until the gateway shall end.
async fn serve(mut gateway: Gateway, signals: Signals, path: &Path) -> ExitCode {
    let Signals { mut hangup, mut terminate, mut interrupt, mut rotate } = signals;
    let mut tend = tokio::time::interval(TEND);
    loop {
        tokio::select! {
            _ = tend.tick() => told(gateway.tend_keys().await),
            _ = rotate.recv() => told(gateway.rotate_keys().await),
            _ = hangup.recv() => reload(&mut gateway, path).await,
            _ = interrupt.recv() => break,
            part = gateway.failed() => {
                if let Some(part) = part {
                    error!(part, "a part of the gateway has ended by itself: this is a fault of the program, please report it");
                }
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

fn told(keys: Result<(), KeyError>) {
    if let Err(error) = keys {
        error!(%error, "the keys of routing tokens stay as they are");
    }
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
