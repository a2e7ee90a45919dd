//! Apps that several tests stand in front of, whatever their clients speak.

use super::world::*;

/// Requests of [`bodiless`] and the statuses of their answers.
pub(super) const BODILESS: [(&str, &str, u16); 3] =
    [("HEAD", "/", 200), ("GET", "/204", 204), ("GET", "/304", 304)];

/// Answers without a body; that of `/304` has the field `known`.
pub(super) async fn bodiless(known: &'static str) -> App {
    App::answering(move |head, _| match head.split(' ').nth(1).unwrap() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => format!("HTTP/1.1 304 Not Modified\r\n{known}\r\n\r\n"),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned(),
    })
    .await
}

/// Sends 103 and 100 before each answer.
pub(super) async fn hinting() -> App {
    App::raw(|mut connection| async move {
        while connection.head().await.is_some() {
            connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
            connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            connection.send(ok("done")).await;
        }
    })
    .await
}

/// What an app must be told of a request for `/a%20b?c` of `Shop.TEST.:<port>`.
pub(super) fn assert_told(head: &Answer, port: u16, cookie: &str) {
    assert!(head.head.starts_with("GET /a%20b?c HTTP/1.1\r\n"), "{}", head.head);
    for (name, value) in [
        ("Host", format!("Shop.TEST.:{port}")),
        ("X-Forwarded-For", "127.0.0.1".into()),
        ("X-Forwarded-Proto", "http".into()),
        ("X-Forwarded-Host", format!("Shop.TEST.:{port}")),
        ("X-Forwarded-Port", port.to_string()),
        ("Cookie", cookie.into()),
    ] {
        assert_eq!(head.field(name), Some(value.as_str()), "{name}");
    }
    assert_eq!(head.field("X-Request-Id").unwrap().len(), 36);
}

/// Answers the handshake of RFC 6455 and echoes bytes; with a wrong `Sec-WebSocket-Accept` under
/// `/wrong`, which is a right one for the example of the RFC.
pub(super) async fn echoing_websockets() -> App {
    App::raw(|mut connection| async move {
        use sha1::{Digest, Sha1};
        let head = connection.head().await.unwrap();
        let head = Answer { head, body: Vec::new() };
        if head.field("upgrade") != Some("websocket") {
            return;
        }
        assert!(
            head.head
                .to_ascii_lowercase()
                .contains("upgrade: websocket\r\nconnection: upgrade\r\n")
        );
        let digest = Sha1::new()
            .chain_update(head.field("sec-websocket-key").unwrap())
            .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
            .finalize();
        let accept = match head.head.starts_with("GET /wrong ") {
            true => "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
            false => <base64ct::Base64 as base64ct::Encoding>::encode_string(&digest),
        };
        connection
            .send(format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nearly"
            ))
            .await;
        while connection.read_some().await.is_some() {
            let read = std::mem::take(&mut connection.read);
            connection.send(read).await;
        }
    })
    .await
}
