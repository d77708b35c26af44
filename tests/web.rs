//! The HTTP server as clients meet it: polite ones, wrong ones and hostile ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stationmaster::domain::limits;
use stationmaster::web::{Hosts, WebState, exposure, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    is_well: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let is_well = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&is_well);
        let state =
            WebState {
                metrics: Arc::new(|| "stationmaster_ledger_up 1\n".to_owned()),
                health: Arc::new(move || {
                    if asked.load(Ordering::Relaxed) { Ok(()) } else { Err("the ledger is down".to_owned()) }
                }),
                hosts: Arc::new(Hosts::new(address, &[])),
            };
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, state, stop.clone()));
        Self { address, is_well, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// Sends a request as it is and reads until the server closes the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut answer = Vec::new();
        // A server that refuses a head may reset the connection behind its answer.
        while stream.read_buf(&mut answer).await.is_ok_and(|bytes| bytes > 0) {}
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(&self, method: &str, path: &str, host: &str) -> String {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn metrics_are_served_in_prometheus_form() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/metrics", &server.address.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nstationmaster_ledger_up 1\n"), "{answer}");
}

#[tokio::test]
async fn health_says_why_not() {
    let server = Server::start().await;
    let host = server.address.to_string();
    assert!(server.ask("GET", "/healthz", &host).await.ends_with("\r\n\r\nok\n"));
    server.is_well.store(false, Ordering::Relaxed);
    let answer = server.ask("GET", "/healthz", &host).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe ledger is down\n"), "{answer}");
}

#[tokio::test]
async fn another_host_another_method_and_another_path_are_refused() {
    let server = Server::start().await;
    let host = server.address.to_string();
    for (method, path, host, status) in [
        ("GET", "/metrics", "evil.example", "421"),
        ("POST", "/metrics", "evil.example", "421"),
        ("POST", "/metrics", &host, "405"),
        ("HEAD", "/metrics", &host, "405"),
        ("DELETE", "/healthz", &host, "405"),
        ("GET", "/", &host, "404"),
        ("GET", "/metrics/../../etc/passwd", &host, "404"),
    ] {
        let answer = server.ask(method, path, host).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} {host}: {answer}");
        assert!(!answer.contains("ledger_up"), "{method} {path} {host}");
        assert!(answer.contains("content-security-policy: default-src 'none'"), "{method} {path} {host}");
    }
    let answer = server.raw("GET /metrics HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 421 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = Server::start().await;
    let host = server.address;
    let long = "x".repeat(limits::WEB_HEAD_BYTES_MAX);
    let answer = server.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nLong: {long}\r\n\r\n")).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = "A: b\r\n".repeat(limits::WEB_HEADERS_MAX);
    let answer = server.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n{many}\r\n")).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_sent_away() {
    let server = Server::start().await;
    let answer = server.raw("GET /metrics HTTP/1.1\r\nHo").await;
    assert!(!answer.contains("ledger_up"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_do_not_keep_others_out_for_ever() {
    let server = Server::start().await;
    let mut idle = Vec::new();
    for _ in 0..limits::WEB_CONNECTIONS_MAX {
        idle.push(server.connect().await);
    }
    let answer = server.ask("GET", "/metrics", &server.address.to_string()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stop_ends_the_server_although_clients_hold_connections() {
    let server = Server::start().await;
    let idle = server.connect().await;
    assert!(server.ask("GET", "/healthz", &server.address.to_string()).await.contains("ok"));
    server.stop.cancel();
    server.task.await.expect("the server ends");
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(idle);
}

#[test]
fn a_listener_that_others_can_reach_is_warned_of() {
    assert_eq!(exposure(([127, 0, 0, 1], 9464).into()), None);
    assert!(exposure(([0, 0, 0, 0], 9464).into()).is_some_and(|text| text.contains("other hosts")));
}
