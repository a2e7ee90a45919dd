//! Real processes behind a relay, with the test as the client.

use std::process::Stdio;

use tokio::io::DuplexStream;
use tokio::process::{Child, Command};

use super::*;
use crate::sys::pty::set_size;
use crate::sys::session::{GroupGuard, WindowSize, lead_terminal_session, open_terminal};

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

struct TestProcess {
    child: Child,
    terminal: Option<OwnedFd>,
    _group: GroupGuard,
}

impl Process for TestProcess {
    fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        if let Some(terminal) = &self.terminal {
            set_size(terminal.as_fd(), rows, columns).unwrap();
        }
        Ok(())
    }

    fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + '_>> {
        Box::pin(async { Ok(self.child.wait().await.unwrap().code().unwrap_or(-1)) })
    }
}

/// `sh -c script` with pipes.
fn with_pipes(script: &str) -> Remote {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let group = GroupGuard::new(child.id().unwrap());
    Remote {
        input: Some(child.stdin.take().unwrap().into_owned_fd().unwrap()),
        output: child.stdout.take().unwrap().into_owned_fd().unwrap(),
        errors: Some(child.stderr.take().unwrap().into_owned_fd().unwrap()),
        process: Box::new(TestProcess { child, terminal: None, _group: group }),
    }
}

/// `sh -c script` in a terminal of 24 lines of 80 characters.
fn with_terminal(script: &str) -> Remote {
    let (master, slave) = open_terminal(WindowSize { rows: 24, columns: 80 }).unwrap();
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", script]);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    lead_terminal_session(&mut command);
    let child = Command::from(command).spawn().unwrap();
    let group = GroupGuard::new(child.id().unwrap());
    let terminal = Some(master.try_clone().unwrap());
    Remote {
        input: Some(master.try_clone().unwrap()),
        output: master,
        errors: None,
        process: Box::new(TestProcess { child, terminal, _group: group }),
    }
}

/// The test's end of a session.
struct Client {
    stream: DuplexStream,
    received: BytesMut,
    relay: tokio::task::JoinHandle<Result<(), RelayError>>,
}

impl Client {
    fn of(remote: Remote) -> Self {
        let (stream, server) = tokio::io::duplex(64 << 10);
        let relay = tasks::spawn("test/relay", relay(remote, server));
        Self { stream, received: BytesMut::new(), relay }
    }

    async fn send(&mut self, frame: Frame) {
        let mut buffer = BytesMut::new();
        frame.encode(&mut buffer).unwrap();
        self.stream.write_all(&buffer).await.unwrap();
    }

    async fn next(&mut self) -> Frame {
        use tokio::io::AsyncReadExt;
        let next = async {
            loop {
                if let Some(frame) = Frame::decode(&mut self.received).unwrap() {
                    return frame;
                }
                assert!(self.stream.read_buf(&mut self.received).await.unwrap() > 0, "cut off");
            }
        };
        tokio::time::timeout(DEADLINE, next).await.expect("a frame")
    }

    /// Output, error output and exit code, from here to the end.
    async fn rest(&mut self) -> (String, String, u8) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        loop {
            match self.next().await {
                Frame::Stdout(data) => output.extend_from_slice(&data),
                Frame::Stderr(data) => errors.extend_from_slice(&data),
                Frame::Exit(code) => {
                    let text = |bytes| String::from_utf8(bytes).unwrap();
                    return (text(output), text(errors), code);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[tokio::test]
async fn streams_are_kept_apart_and_the_exit_code_comes_last() {
    let mut client = Client::of(with_pipes("echo out; echo err >&2; exit 7"));
    assert_eq!(client.rest().await, ("out\n".into(), "err\n".into(), 7));
    client.relay.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_the_input_is_passed_on() {
    let mut client = Client::of(with_pipes("cat; echo done"));
    client.send(Frame::Stdin(text("hello\n"))).await;
    client.send(Frame::Stdin(Bytes::new())).await;
    assert_eq!(client.rest().await.0, "hello\ndone\n");
}

#[tokio::test]
async fn input_that_nobody_reads_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let go = go.to_str().unwrap();
    let script = format!("mkfifo {go}; exec <&-; echo closed; read x <{go}; exit 3");
    let mut client = Client::of(with_pipes(&script));
    assert!(matches!(client.next().await, Frame::Stdout(_)));
    client.send(Frame::Stdin(text("hello\n"))).await;
    client.send(Frame::Stdin(text("again\n"))).await;
    std::fs::File::options().write(true).open(go).unwrap().write_all(b"x\n").unwrap();
    assert_eq!(client.rest().await.2, 3);
}

#[tokio::test]
async fn much_data_flows_both_ways_at_once() {
    let mut client = Client::of(with_pipes("cat"));
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let sending = tasks::spawn("test/send", async move {
        let mut buffer = BytesMut::new();
        for _ in 0..256 {
            Frame::Stdin(vec![b'x'; 16 << 10].into()).encode(&mut buffer).unwrap();
            writer.write_all_buf(&mut buffer).await.unwrap();
        }
        Frame::Stdin(Bytes::new()).encode(&mut buffer).unwrap();
        writer.write_all_buf(&mut buffer).await.unwrap();
        writer
    });
    let mut frames = FramedRead::new(&mut reader, FrameCodec);
    let mut count = 0;
    let code = loop {
        let next = tokio::time::timeout(DEADLINE, frames.next()).await.expect("no deadlock");
        match next.unwrap().unwrap() {
            Frame::Stdout(data) => count += data.len(),
            Frame::Exit(code) => break code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((count, code), (4 << 20, 0));
    drop(sending.await.unwrap());
    client.received.clear();
}

#[tokio::test]
async fn a_lost_client_ends_the_process() {
    let (mut alive, writer) = std::io::pipe().unwrap();
    let mut remote = with_pipes("exec sleep 1000");
    // Held by the session only, as a stand-in for what the process owns.
    struct Holding(Box<dyn Process>, #[allow(dead_code, reason = "held")] std::io::PipeWriter);
    impl Process for Holding {
        fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
            self.0.resize(columns, rows)
        }
        fn wait(&mut self) -> Pin<Box<dyn Future<Output = Result<i32, Error>> + Send + '_>> {
            self.0.wait()
        }
    }
    remote.process = Box::new(Holding(remote.process, writer));
    let client = Client::of(remote);
    drop(client.stream);
    tokio::time::timeout(DEADLINE, client.relay).await.unwrap().unwrap().unwrap();
    assert_eq!(alive.read(&mut [0]).unwrap(), 0, "the process was not dropped");
}

#[tokio::test]
async fn a_client_that_speaks_out_of_turn_is_hung_up_on() {
    let mut client = Client::of(with_pipes("exec sleep 1000"));
    client.send(Frame::Exit(0)).await;
    tokio::time::timeout(DEADLINE, client.relay).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_terminal_learns_its_new_size() {
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut client = Client::of(with_terminal(script));
    assert_eq!(client.next().await, Frame::Stdout(text("ready\r\n")));
    client.send(Frame::Window { rows: 33, columns: 44 }).await;
    assert_eq!(client.rest().await, ("33 44\r\n".into(), String::new(), 3));
}
