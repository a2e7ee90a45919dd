//! Tests of children with pipes and terminals.

use std::sync::{Arc, Mutex};

use super::*;

/// Keeps what a child wrote.
#[derive(Default)]
struct Kept {
    output: Mutex<Vec<u8>>,
    errors: Mutex<Vec<u8>>,
}

impl Sink for Kept {
    async fn output(&self, data: Bytes) -> Result<(), Gone> {
        self.output.lock().unwrap().extend_from_slice(&data);
        Ok(())
    }

    async fn errors(&self, data: Bytes) -> Result<(), Gone> {
        self.errors.lock().unwrap().extend_from_slice(&data);
        Ok(())
    }
}

struct Run {
    ended: Ended,
    output: String,
    errors: String,
}

const PIPES: Manner = Manner { terminal: false, gentle: false, grace: Duration::from_millis(200) };
const TERMINAL: Manner = Manner { terminal: true, ..PIPES };
const GENTLE: Manner = Manner { gentle: true, ..PIPES };

/// Runs a shell script with this input; `act` is the client.
async fn sh(
    script: &str,
    manner: Manner,
    input: &'static [u8],
    act: impl AsyncFnOnce(&Kept, &CancellationToken, &mpsc::Sender<GroupSignal>),
) -> Run {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    let waiting = Input::new(Arc::default());
    waiting.push(Bytes::from_static(input)).unwrap();
    waiting.end();
    let (signals, signals_out) = mpsc::channel(4);
    let (_window, window) = watch::channel(WindowSize { rows: 11, columns: 22 });
    let hang_up = CancellationToken::new();
    let control = Control { signals: signals_out, window, hang_up: hang_up.clone() };
    let kept = Kept::default();
    let work = run(command, manner, &waiting, control, &kept);
    let (ended, ()) = tokio::join!(work, act(&kept, &hang_up, &signals));
    let ended = ended.unwrap();
    let text = |bytes: Mutex<Vec<u8>>| String::from_utf8(bytes.into_inner().unwrap()).unwrap();
    Run { ended, output: text(kept.output), errors: text(kept.errors) }
}

async fn watch_only(_: &Kept, _: &CancellationToken, _: &mpsc::Sender<GroupSignal>) {}

async fn wrote_something(kept: &Kept) {
    while kept.output.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn streams_and_codes_come_through() {
    let run = sh("cat; echo oops >&2; exit 7", PIPES, b"hello", watch_only).await;
    assert_eq!((run.ended, &*run.output, &*run.errors), (Ended::Code(7), "hello", "oops\n"));
    let run = sh("kill -15 $$", PIPES, b"", watch_only).await;
    assert_eq!(run.ended, Ended::Signal(15));
}

#[tokio::test]
async fn a_terminal_joins_the_streams_and_ends_with_control_d() {
    let run =
        sh("stty -echo; stty size; cat; echo end >&2", TERMINAL, b"hello\n", watch_only).await;
    assert_eq!(run.ended, Ended::Code(0));
    // The line may be echoed before stty has switched that off.
    assert!(run.output.contains("11 22\r\n"), "{:?}", run.output);
    assert!(run.output.ends_with("hello\r\nend\r\n"), "{:?}", run.output);
}

#[tokio::test]
async fn signals_reach_the_whole_group() {
    let script = "sleep 100 & trap 'echo got; exit 3' INT; echo up; wait; wait";
    let act = async |kept: &Kept, _: &CancellationToken, signals: &mpsc::Sender<GroupSignal>| {
        wrote_something(kept).await;
        signals.send(GroupSignal::Interrupt).await.unwrap();
    };
    let run = sh(script, PIPES, b"", act).await;
    assert_eq!((run.ended, &*run.output), (Ended::Code(3), "up\ngot\n"));
}

#[tokio::test]
async fn a_client_that_goes_takes_its_child_along() {
    let hang_up =
        async |kept: &Kept, hang_up: &CancellationToken, _: &mpsc::Sender<GroupSignal>| {
            wrote_something(kept).await;
            hang_up.cancel();
        };
    for manner in [PIPES, TERMINAL] {
        let run = sh("echo up; exec sleep 100", manner, b"", hang_up).await;
        assert_eq!(run.ended, Ended::Signal(1));
        let run = sh("trap '' HUP; echo up; sleep 100; sleep 100", manner, b"", hang_up).await;
        assert_eq!(run.ended, Ended::Signal(9));
    }
    let script = "trap '' PIPE; echo up; while echo x >&2; do sleep 0.01; done; echo bye; exit 5";
    let run = sh(script, GENTLE, b"", hang_up).await;
    assert_eq!(run.ended, Ended::Code(5));
}

#[tokio::test]
async fn what_a_child_leaves_behind_is_ended_and_not_waited_for() {
    let run = sh("sleep 100 & echo up", PIPES, b"", watch_only).await;
    assert_eq!((run.ended, &*run.output), (Ended::Code(0), "up\n"));
}
