//! The listener, its bounds, and the two answers.
//!
//! The connections are served one by one instead of by a ready-made server loop, because that one bounds neither the
//! head of a request nor the number of connections. Times are the host's: a scaled clock is for modules, not for
//! people's clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WebState;
use crate::domain::limits;
use crate::domain::text::printable;
use crate::host::Clock;

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";
/// How long to wait after a connection could not be accepted (out of file handles): it passes, spinning does not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `state` at `listener` until `stop` is cancelled; answers under way are finished first.
pub async fn serve(listener: TcpListener, state: WebState, stop: CancellationToken) {
    let clock = Clock::real();
    let router = router(state);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits::WEB_CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stop, clock) = (router.clone(), stop.clone(), clock.clone());
                connections.spawn(async move {
                    connection(stream, router, stop, clock).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken, clock: Clock) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::WEB_HEAD_TIME_MAX)
        .max_header_size(limits::WEB_HEAD_BYTES_MAX)
        .max_buf_size(2 * limits::WEB_HEAD_BYTES_MAX)
        .max_headers(limits::WEB_HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = clock.timeout(limits::WEB_CONNECTION_TIME_MAX, connection.as_mut()) => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            clock.timeout(limits::WEB_STOP_TIME_MAX, connection.as_mut()).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended early"),
        Err(_) => tracing::debug!("an HTTP connection was ended: its time was up"),
    }
}

fn router(state: WebState) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Refuses what is not for this server, and marks every answer as data that no page may use.
async fn guard(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let mut response = if !state.hosts.allow(request.uri(), request.headers()) {
        (StatusCode::MISDIRECTED_REQUEST, "this server is not the host that was asked for\n").into_response()
    } else if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], "only GET\n").into_response()
    } else {
        next.run(request).await
    };
    let marks: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in marks {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn metrics(State(state): State<WebState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], (state.metrics)())
}

async fn health(State(state): State<WebState>) -> (StatusCode, String) {
    match (state.health)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => {
            let reason = printable(&reason, limits::DEVICE_TEXT_CHARS_MAX);
            (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
        }
    }
}
