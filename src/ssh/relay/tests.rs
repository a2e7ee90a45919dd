//! Tests of what a relayed session is made of.

use std::fs::File;
use std::io::Read;

use super::*;
use crate::ssh::{ExecRequest as Exec, GitRequest};

struct Shell;

impl Commands for Shell {
    async fn git(&self, _: &Actor, _: GitRequest) -> Result<Command, Refused> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' PIPE; while echo x >&2; do sleep 0.01; done; touch \"$MARK\""]);
        Ok(command)
    }

    async fn exec(&self, _: &Actor, request: Exec) -> Result<Command, Refused> {
        if request.arguments[0] == "no" {
            return Err(Refused { message: "not for you".into(), exit_code: 4 });
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &request.arguments[0]]);
        Ok(command)
    }

    fn greeting(&self, actor: &Actor) -> String {
        format!("Hello {actor}\n")
    }
}

async fn start(command: &str) -> Result<Opened, OpenError> {
    let actor = Actor::new("alice", "ssh");
    let request = ExecRequest { command: command.into(), terminal: None, environment: Vec::new() };
    open(&Shell, &actor, request, Duration::from_millis(200)).await
}

fn read(output: OwnedFd) -> String {
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_greeting_a_command_and_a_refusal() {
    let mut greeting = start("").await.unwrap();
    assert_eq!(read(greeting.output), "Hello alice\n");
    assert_eq!(greeting.child.wait().await.unwrap(), 0);
    let mut command = start("'echo out; exit 3'").await.unwrap();
    assert_eq!(read(command.output), "out\n");
    assert_eq!(command.child.wait().await.unwrap(), 3);
    assert_eq!(start("no").await.unwrap_err().to_string(), "not for you");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_command_is_ended() {
    let opened = start("'echo up; trap \"\" HUP; sleep 100 & sleep 100'").await.unwrap();
    let output = opened.output.try_clone().unwrap();
    drop(opened);
    // The end of the pipe comes when all have gone.
    let read = tokio::task::spawn_blocking(move || read(output));
    let text = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
    assert!(text.is_empty() || text == "up\n");
}
