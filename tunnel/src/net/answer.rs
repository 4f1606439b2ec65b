//! Answers: their bodies, and the access record that is reported when a body is done or dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::endpoint::Observe;
use super::upstream::Streamed;
use crate::event::{Access, Event};

/// Bytes of a local file handed to hyper at once.
const PIECE: usize = 64 * 1024;

/// The body of an answer, which carries its access record.
pub(super) struct Answer {
    content: Content,
    record: Record,
}

pub(super) enum Content {
    Empty,
    Local(Bytes),
    Remote(Box<Streamed>),
}

/// An access record that reports itself when dropped.
pub(super) struct Record {
    access: Option<Access>,
    started: Instant,
    observer: Arc<dyn Observe>,
}

impl Record {
    pub(super) fn new(access: Access, started: Instant, observer: Arc<dyn Observe>) -> Self {
        Self { access: Some(access), started, observer }
    }

    pub(super) fn access(&mut self) -> Option<&mut Access> {
        self.access.as_mut()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut access) = self.access.take() {
            access.duration = self.started.elapsed();
            self.observer.observe(Event::Request(access));
        }
    }
}

/// An answer before it meets its record.
pub(super) fn plain(status: StatusCode) -> Response<Content> {
    with(status, Content::Empty, [])
}

/// An answer with rows.
pub(super) fn with(
    status: StatusCode,
    content: Content,
    rows: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().extend(rows);
    response
}

/// An answer after which the connection closes.
pub(super) fn closing(mut response: Response<Content>) -> Response<Content> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Answer {
    /// Joins an answer and its record.
    pub(super) fn join(response: Response<Content>, mut record: Record) -> Response<Self> {
        let status = response.status();
        if let Some(access) = record.access() {
            access.status = status.as_u16();
            // Nothing will be asked of an empty body, and HEAD has none by definition.
            access.complete =
                access.method == Method::HEAD.as_str() || matches!(response.body(), Content::Empty);
        }
        response.map(|content| Self { content, record })
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = super::upstream::Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let piece = match &mut this.content {
            Content::Empty => None,
            Content::Local(rest) if rest.is_empty() => None,
            Content::Local(rest) => Some(Ok(rest.split_to(rest.len().min(PIECE)))),
            Content::Remote(streamed) => ready!(streamed.poll_data(cx)),
        };
        // hyper does not ask again once the promised length is reached.
        let ended = piece.is_none() || this.is_end_stream();
        if let Some(access) = this.record.access() {
            if let Some(Ok(piece)) = &piece {
                access.sent += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            }
            access.complete |= ended && !matches!(piece, Some(Err(_)));
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Local(rest) => rest.is_empty(),
            Content::Remote(streamed) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Local(rest) => SizeHint::with_exact(u64::try_from(rest.len()).unwrap_or(u64::MAX)),
            Content::Remote(streamed) => streamed.size_hint(),
        }
    }
}
