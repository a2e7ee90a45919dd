//! Clients on HTTP/2, and apps that speak it.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use super::world::*;

/// A client's connection, whose frames are moved by a task.
struct Http2 {
    sender: SendRequest<Bytes>,
    task: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        Self { sender, task: spawn(connection) }
    }

    /// Sends a head.
    async fn send(
        &mut self,
        request: Request<()>,
        last: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.sender.clone().ready().await.unwrap().send_request(request, last).unwrap()
    }

    async fn get(&mut self, path: &str) -> Whole {
        let (response, _stream) = self.send(get(path), true).await;
        whole(response).await.unwrap()
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://shop.test{path}")).body(()).unwrap()
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://shop.test{path}")).body(()).unwrap()
}

/// An answer with its body and trailers.
#[derive(Debug)]
struct Whole {
    head: http::response::Parts,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn whole(response: ResponseFuture) -> Result<Whole, h2::Error> {
    let read = async {
        let (head, mut stream) = response.await?.into_parts();
        let body = read_body(&mut stream).await?;
        let trailers = stream.trailers().await?;
        Ok(Whole { head, body, trailers })
    };
    tokio::time::timeout(SOON, read).await.expect("an answer in time")
}

async fn read_body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    Ok(body)
}

#[tokio::test]
async fn requests_share_a_connection_and_are_answered_side_by_side() {
    let app = App::answering(|head, _| ok(head.split(' ').nth(1).unwrap())).await;
    let world = World::with_app(&app).await;
    let mut client = Http2::connect(world.address).await;
    let mut answers = Vec::new();
    for n in 0..100 {
        let (response, _) = client.send(get(&format!("/{n}")), true).await;
        answers.push(response);
    }
    for (n, response) in answers.into_iter().enumerate() {
        let answer = whole(response).await.unwrap();
        assert_eq!((answer.status(), answer.text()), (200, format!("/{n}").as_str()));
    }
    world.end().await;
}
