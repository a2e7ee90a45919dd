//! Tests of the conversation, against a small server.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::git::PushOutput;

const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// Runs the hook's part against a server that gives each connection the next answer, then closes
/// it. Answers what it said, and the verdict.
async fn converse(answers: &[&str]) -> (String, Result<Verdict, Error>) {
    let directory = tempfile::tempdir().unwrap();
    let control_socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&control_socket).unwrap();
    let setting = Setting {
        app: "shop".parse().unwrap(),
        actor: "alice".into(),
        from: Some("192.0.2.7".into()),
        via: Some("token".into()),
        control_socket,
        quarantine: None,
    };
    let client = Client::new(&setting, &[]).unwrap();
    let serve = async {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            let head = String::from_utf8_lossy(&request[..count]).into_owned();
            assert!(head.contains("x-staithe-actor: alice"), "{head}");
            assert!(head.contains("x-staithe-actor-from: 192.0.2.7"), "{head}");
            assert!(head.contains("x-staithe-actor-via: token"), "{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await
    };
    let mut shown = Vec::new();
    let mut output = Output::new(PushOutput::Direct, &mut shown);
    let verdict = tokio::select! {
        verdict = client.verdict(&mut output) => verdict,
        () = serve => unreachable!("it never ends"),
    };
    (String::from_utf8(shown).unwrap(), verdict)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn lines_are_shown_however_they_are_cut() {
    let answer = [
        HEAD.to_owned(),
        chunk("{\"line\":\"one\"}\n{\"li"),
        chunk("ne\":\"two\"}\n\n{}\n{\"result\":{\"outcome\":\"acc"),
        chunk("epted\",\"release\":1}}\n"),
    ];
    let (shown, verdict) = converse(&[&answer.concat()]).await;
    assert_eq!(shown, "one\ntwo\n");
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
}

#[tokio::test]
async fn a_refusal_and_a_late_error_carry_their_sentence() {
    let problem = r#"{"title":"Conflict","detail":"busy","hint":"wait"}"#;
    let length = problem.len();
    let refusal = format!("HTTP/1.1 409 Conflict\r\ncontent-length: {length}\r\n\r\n{problem}");
    let (_, verdict) = converse(&[&refusal]).await;
    assert_eq!(verdict.unwrap(), Verdict::Rejected(Some("busy\nwait".into())));
    let late = [HEAD.to_owned(), chunk(&format!("{{\"error\":{problem}}}\n"))].concat();
    let (_, verdict) = converse(&[&late]).await;
    assert_eq!(verdict.unwrap(), Verdict::Rejected(Some("busy\nwait".into())));
    let said =
        [HEAD.to_owned(), chunk("{\"result\":{\"outcome\":\"rejected\",\"reason\":\"x\"}}\n")];
    let (_, verdict) = converse(&[&said.concat()]).await;
    assert_eq!(verdict.unwrap(), Verdict::Rejected(None));
}

#[tokio::test]
async fn a_lost_stream_is_asked_about_until_it_is_decided() {
    let cut = [HEAD.to_owned(), chunk("{\"line\":\"one\"}\n")].concat();
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let pending = ok(r#"{"outcome":"pending"}"#);
    let accepted = ok(r#"{"outcome":"accepted","release":null}"#);
    let (shown, verdict) = converse(&[&cut, &pending, &accepted]).await;
    assert!(shown.starts_with("one\n !     Lost the control plane"), "{shown}");
    assert_eq!(verdict.unwrap(), Verdict::Accepted);
    let rejected = ok(r#"{"outcome":"rejected","reason":"interrupted"}"#);
    let (_, verdict) = converse(&[&cut, &rejected]).await;
    assert_eq!(verdict.unwrap(), Verdict::Rejected(Some("interrupted".into())));
    let unknown = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let (_, verdict) = converse(&[&cut, unknown]).await;
    assert!(verdict.unwrap_err().to_string().contains("push again"));
}

#[tokio::test]
async fn nonsense_is_no_consent() {
    let nonsense = [HEAD.to_owned(), chunk("accepted\n")].concat();
    let (_, verdict) = converse(&[&nonsense]).await;
    assert!(matches!(verdict, Err(Error::Answer)));
}

#[test]
fn an_endless_line_is_cut() {
    let mut lines = Lines::default();
    assert!(lines.push(&vec![b'x'; MAX_LINE]).is_empty());
    assert_eq!(lines.push(b"x").len(), 1);
}
