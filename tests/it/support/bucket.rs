//! A server that speaks S3's protocol: moto, in a virtual environment below `target/`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{eventually, skip};

/// The server; ends when dropped.
pub(crate) struct Moto {
    child: Child,
    port: u16,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Moto {
    /// Starts it; none, and a skip, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/moto");
        let program = venv.join("bin/moto_server");
        if !program.exists() {
            skip("moto is not installed: see need_bucket in script/lib/packages");
            return None;
        }
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        let port = port_of(lines);
        let moto = Self { child, port };
        eventually(Duration::from_secs(20), "moto answers", || {
            moto.request("GET", "/", "", "").map_err(|error| error.to_string())
        });
        Some(moto)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn make_bucket(&self, name: &str) {
        let answer = self.request("PUT", &format!("/{name}"), SIGNED_BY_NOBODY, "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Uploads in parts that are neither completed nor given up.
    pub(crate) fn uploads(&self, bucket: &str) -> usize {
        let path = format!("/{bucket}?uploads");
        let answer = self.request("GET", &path, SIGNED_BY_NOBODY, "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.matches("<Upload>").count()
    }

    /// A user who may do everything; from now on the server checks signatures. Returns the public
    /// half of the user's key.
    pub(crate) fn make_user_and_bucket(&self, bucket: &str) -> String {
        self.make_bucket(bucket);
        self.iam("Action=CreateUser&UserName=keeper");
        let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
        self.iam(&format!(
            "Action=PutUserPolicy&UserName=keeper&PolicyName=all&PolicyDocument={policy}"
        ));
        let answer = self.iam("Action=CreateAccessKey&UserName=keeper");
        let (_, rest) = answer.split_once("<AccessKeyId>").unwrap();
        let id = rest.split('<').next().unwrap().to_owned();
        let answer = self.request("POST", "/moto-api/reset-auth", "", "0").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        id
    }

    fn iam(&self, form: &str) -> String {
        let head = format!(
            "Content-Type: application/x-www-form-urlencoded\r\n{}",
            SIGNED_BY_NOBODY.replace("/s3/", "/iam/")
        );
        let answer = self.request("POST", "/", &head, &format!("{form}&Version=2010-05-08"));
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    fn request(&self, method: &str, path: &str, head: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Moto takes any signature until it is told to look at them; it routes by the service in it.
const SIGNED_BY_NOBODY: &str = "Authorization: AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";

/// The port that it chose, out of what it says at its start. What it says later is read away.
fn port_of(mut lines: impl BufRead + Send + 'static) -> u16 {
    let mut line = String::new();
    let mut said = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return digits.parse().unwrap();
        }
        said.push_str(&line);
        line.clear();
    }
    panic!("moto does not start: {said}");
}
