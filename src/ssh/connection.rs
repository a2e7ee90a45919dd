//! One client's connection: login, channels, and the requests on them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gate::{Gate, Input};
use super::job::{self, Control, Ended, Gone, Manner, Sink};
use super::{Access, Commands, Config, ExecRequest, GitRequest, Refused, Request};
use crate::domain::Actor;
use crate::support::{report, tasks};
use crate::sys::session::{GroupSignal, WindowSize};

/// Sessions at a time on one connection; OpenSSH's `MaxSessions`.
const MAX_CHANNELS: usize = 10;
/// Signals that may wait for a child that is being started.
const MAX_SIGNALS: usize = 16;
/// Variables that a client may set on one channel.
const MAX_VARIABLES: usize = 32;
/// The longest value of a variable.
const MAX_VALUE: usize = 1024;
/// The weakest RSA key that is let in; OpenSSH's `RequiredRSASize` is smaller only for history.
const MIN_RSA_BITS: usize = 2048;
/// The extended data type of standard error (RFC 4254 §5.2).
const STDERR: u32 = 1;
/// The exit code of a session that could not be started.
const EXIT_FAILED: u8 = 1;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared<A, C> {
    pub(super) config: Config,
    pub(super) access: A,
    pub(super) commands: C,
    /// Counts the children's tasks, so that a shutdown can wait for them.
    pub(super) jobs: TaskTracker,
}

/// What the watcher of a connection can see of it.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) gate: Arc<Gate>,
    pub(super) authenticated: AtomicBool,
    pub(super) open_channels: AtomicUsize,
}

/// The state of one connection; dropped when it ends, which hangs up on its children.
pub(super) struct Connection<A, C> {
    shared: Arc<Shared<A, C>>,
    status: Arc<Status>,
    actor: Option<Actor>,
    address: IpAddr,
    channels: HashMap<ChannelId, Open>,
}

/// An open channel.
struct Open {
    writer: Arc<ChannelWriteHalf<Msg>>,
    input: Arc<Input>,
    terminal: bool,
    environment: Vec<(String, String)>,
    signals: mpsc::Sender<GroupSignal>,
    window: watch::Sender<WindowSize>,
    hang_up: CancellationToken,
    /// The other ends, until a request has started a child.
    control: Option<Control>,
}

impl<A: Access, C: Commands> Connection<A, C> {
    pub(super) fn new(shared: Arc<Shared<A, C>>, status: Arc<Status>, address: IpAddr) -> Self {
        Self { shared, status, actor: None, address, channels: HashMap::new() }
    }

    /// The actor who may log in as `user` with this key.
    async fn admit(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Option<Actor> {
        // Keys of SHA-1 signatures are no proof (RFC 8332); russh would take them.
        let weak = match algorithm {
            Algorithm::Rsa { hash: None } | Algorithm::Dsa => true,
            Algorithm::Rsa { .. } => key
                .key_data()
                .rsa()
                .is_none_or(|key| key.key_size() < MIN_RSA_BITS.try_into().unwrap_or(u32::MAX)),
            _ => false,
        };
        if weak || !self.shared.config.users.iter().any(|known| known == user) {
            return None;
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let actor = self.shared.access.authorize(&fingerprint).await?;
        Some(actor.at(Some(self.address.to_canonical().to_string())))
    }

    fn channel(&mut self, id: ChannelId) -> Option<&mut Open> {
        self.channels.get_mut(&id)
    }

    /// Answers a request by starting `request` on the channel; at most once for each channel.
    fn start(
        &mut self,
        id: ChannelId,
        request: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(actor), Some(open)) = (self.actor.clone(), self.channels.get_mut(&id)) else {
            return session.channel_failure(id);
        };
        let Some(control) = open.control.take() else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let work = Work {
            shared: Arc::clone(&self.shared),
            actor,
            request: request.to_owned(),
            terminal: open.terminal,
            environment: std::mem::take(&mut open.environment),
            input: Arc::clone(&open.input),
            control,
            client: Client {
                writer: Arc::clone(&open.writer),
                handle: session.handle(),
                gate: Arc::clone(&self.status.gate),
            },
        };
        // Owned by the tracker; it ends when the child does, at the latest after the grace time.
        drop(tasks::spawn("ssh/session", self.shared.jobs.track_future(work.run())));
        Ok(())
    }
}

impl<A, C> Drop for Connection<A, C> {
    fn drop(&mut self) {
        for open in self.channels.values() {
            open.hang_up.cancel();
        }
        self.status.open_channels.store(0, Ordering::Release);
    }
}

impl<A: Access, C: Commands> Handler for Connection<A, C> {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let admitted = self.admit(user, offer.public_key, offer.algorithm).await;
        Ok(if admitted.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        self.actor = self.admit(user, key.public_key, key.algorithm).await;
        Ok(if self.actor.is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), russh::Error> {
        self.status.authenticated.store(true, Ordering::Release);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        // What arrives comes by the methods below; nobody reads the other half.
        let (_unread, writer) = channel.split();
        self.channels.insert(id, Open::new(writer, &self.status.gate));
        self.status.open_channels.store(self.channels.len(), Ordering::Release);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(open) = self.channels.remove(&id) {
            open.hang_up.cancel();
        }
        self.status.open_channels.store(self.channels.len(), Ordering::Release);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        if let Some(open) = self.channel(id) {
            open.input.end();
        }
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if let Some(open) = self.channel(id)
            && let Err(error) = open.input.push(Bytes::copy_from_slice(data))
        {
            tracing::warn!("hanging up on an SSH session: {}", report(&error));
            open.hang_up.cancel();
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(open) = self.channel(id) else { return session.channel_failure(id) };
        open.terminal = true;
        open.window.send_replace(window(columns, rows));
        open.set("TERM", term);
        session.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _pixel_width: u32,
        _pixel_height: u32,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        // RFC 4254 §6.7: no answer.
        if let Some(open) = self.channel(id) {
            open.window.send_replace(window(columns, rows));
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.channel(id).filter(|_| may_set(name)).is_some_and(|open| open.set(name, value)) {
            true => session.channel_success(id),
            false => session.channel_failure(id),
        }
    }

    async fn shell_request(
        &mut self,
        id: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(id, b"", session)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(id, command, session)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let signal = match signal {
            Sig::HUP => GroupSignal::HangUp,
            Sig::INT => GroupSignal::Interrupt,
            Sig::QUIT => GroupSignal::Quit,
            Sig::TERM => GroupSignal::Terminate,
            Sig::KILL => GroupSignal::Kill,
            Sig::USR1 => GroupSignal::User1,
            Sig::Custom(name) if name == "USR2" => GroupSignal::User2,
            _ => return Ok(()),
        };
        if let Some(open) = self.channel(id) {
            // More signals than fit are as good as those that did.
            let _ = open.signals.try_send(signal);
        }
        Ok(())
    }
}

impl Open {
    fn new(writer: ChannelWriteHalf<Msg>, gate: &Arc<Gate>) -> Self {
        let (signals, signals_out) = mpsc::channel(MAX_SIGNALS);
        let (window, window_out) = watch::channel(WindowSize { rows: 24, columns: 80 });
        let hang_up = CancellationToken::new();
        let control =
            Control { signals: signals_out, window: window_out, hang_up: hang_up.clone() };
        Self {
            writer: Arc::new(writer),
            input: Arc::new(Input::new(Arc::clone(gate))),
            terminal: false,
            environment: Vec::new(),
            signals,
            window,
            hang_up,
            control: Some(control),
        }
    }

    /// Keeps a variable of the client's for its child, if it is plain text of a sensible length.
    fn set(&mut self, name: &str, value: &str) -> bool {
        let keep = self.environment.len() < MAX_VARIABLES && is_plain(name, value);
        if keep {
            self.environment.push((name.to_owned(), value.to_owned()));
        }
        keep
    }
}

/// Whether a client may set this variable.
pub(super) fn may_set(name: &str) -> bool {
    name == "LANG" || name == "GIT_PROTOCOL" || name.starts_with("LC_")
}

/// Whether a variable is printable and of a sensible length.
pub(super) fn is_plain(name: &str, value: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    name.len() + value.len() <= MAX_VALUE && plain(name) && plain(value) && !name.contains('=')
}

/// A terminal without size has the traditional one; sizes beyond sixteen bits are nonsense.
fn window(columns: u32, rows: u32) -> WindowSize {
    let cut = |value: u32, default| match value {
        0 => default,
        value => u16::try_from(value).unwrap_or(u16::MAX),
    };
    WindowSize { rows: cut(rows, 24), columns: cut(columns, 80) }
}

/// One request on one channel, from its command line to its exit code.
struct Work<A, C> {
    shared: Arc<Shared<A, C>>,
    actor: Actor,
    request: Vec<u8>,
    terminal: bool,
    environment: Vec<(String, String)>,
    input: Arc<Input>,
    control: Control,
    client: Client,
}

impl<A: Access, C: Commands> Work<A, C> {
    async fn run(self) {
        let Self { shared, actor, request, terminal, environment, input, control, client } = self;
        let resolved = resolve(&shared.commands, &actor, &request, terminal, environment).await;
        let ended = match resolved {
            Ok(Resolved::Greeting(text)) => {
                client.show(&text, terminal, false).await;
                Ok(Ended::Code(0))
            }
            Ok(Resolved::Command { command, terminal, gentle }) => {
                let grace = Duration::from_secs(shared.config.hang_up_grace_secs);
                let manner = Manner { terminal, gentle, grace };
                Box::pin(job::run(command, manner, &input, control, &client)).await
            }
            Err(refused) => {
                client.show(&marked(&refused.message), terminal, true).await;
                Ok(Ended::Code(refused.exit_code))
            }
        };
        input.discard();
        match ended {
            Ok(ended) => client.finish(ended).await,
            Err(error) => {
                tracing::error!(%error, actor.name = %actor, "cannot run a session's command");
                client.show(&marked("the command cannot be started"), terminal, true).await;
                client.finish(Ended::Code(EXIT_FAILED)).await;
            }
        }
    }
}

/// What a request comes down to.
pub(super) enum Resolved {
    /// Text to show.
    Greeting(String),
    /// A child to run.
    Command {
        /// The child.
        command: Command,
        /// Whether it gets the terminal that was asked for: git's protocol is no text.
        terminal: bool,
        /// See [`Manner::gentle`].
        gentle: bool,
    },
}

/// Finds out what `request` asks for and gets the command for it.
pub(super) async fn resolve<C: Commands>(
    commands: &C,
    actor: &Actor,
    request: &[u8],
    terminal: bool,
    environment: Vec<(String, String)>,
) -> Result<Resolved, Refused> {
    let refused = |error: super::RequestError| Refused {
        message: error.to_string(),
        // The exit code of a usage error, as everywhere in Staithe.
        exit_code: 2,
    };
    match Request::parse(request).map_err(refused)? {
        Request::Greeting => Ok(Resolved::Greeting(commands.greeting(actor))),
        Request::Git(service, app) => {
            tracing::info!(app.name = %app, actor.name = %actor, service = service.name(), "git");
            let mut sent = environment.into_iter();
            let protocol = sent.find(|(name, _)| name == "GIT_PROTOCOL").map(|(_, value)| value);
            let command = commands.git(actor, GitRequest { service, app, protocol }).await?;
            Ok(Resolved::Command { command, terminal: false, gentle: true })
        }
        Request::Command(arguments) => {
            let verb = arguments.first().map(String::as_str).unwrap_or_default();
            tracing::info!(actor.name = %actor, verb = %verb.escape_debug(), "command");
            let mut command = commands.exec(actor, ExecRequest { arguments, terminal }).await?;
            let kept = environment.into_iter().filter(|(name, _)| name != "GIT_PROTOCOL");
            command.envs(kept);
            Ok(Resolved::Command { command, terminal, gentle: false })
        }
    }
}

/// The way back to the client.
struct Client {
    writer: Arc<ChannelWriteHalf<Msg>>,
    handle: Handle,
    gate: Arc<Gate>,
}

impl Client {
    /// Shows text of our own.
    async fn show(&self, text: &str, terminal: bool, to_errors: bool) {
        // A client with a terminal has it in raw mode, where a line feed only goes down.
        let text = if terminal { text.replace('\n', "\r\n") } else { text.to_owned() };
        let data = Bytes::from(text);
        // Nobody is left to see it when this fails.
        let _ = if to_errors { self.errors(data).await } else { self.output(data).await };
    }

    /// Tells how it ended and closes the channel. The client may be gone, which is as good.
    async fn finish(&self, ended: Ended) {
        let id = self.writer.id();
        match ended {
            Ended::Code(code) => {
                let _ = self.writer.exit_status(code.into()).await;
            }
            Ended::Signal(signal) => {
                let name = signal_name(signal);
                let text = String::new();
                let _ = self.handle.exit_signal_request(id, name, false, text.clone(), text).await;
            }
        }
        let _ = self.writer.eof().await;
        let _ = self.writer.close().await;
    }
}

impl Sink for Client {
    async fn output(&self, data: Bytes) -> Result<(), Gone> {
        self.gate.watch(self.writer.data_bytes(data)).await.map_err(|_| Gone)
    }

    async fn errors(&self, data: Bytes) -> Result<(), Gone> {
        self.gate.watch(self.writer.extended_data_bytes(STDERR, data)).await.map_err(|_| Gone)
    }
}

/// An error in Heroku's grammar.
fn marked(message: &str) -> String {
    message.lines().map(|line| format!(" !     {line}\n")).collect()
}

/// The names of RFC 4254 §6.10, by signal(7)'s numbers, which are the same on all of Linux's
/// architectures that Rust's standard library supports in this respect.
fn signal_name(signal: i32) -> Sig {
    match signal {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        10 => Sig::USR1,
        11 => Sig::SEGV,
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("{other}@staithe")),
    }
}
