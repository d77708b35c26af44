//! Which bytes of a conversation are talk, and which are content that must not be passed on.
//!
//! Whoever writes conversations down (a trace) must not write down what a module's EFS holds, nor the images that are
//! sent to it. Length or look of a transfer do not tell: a programmer puts its answer and the first page into one
//! transfer, and an EFS holds text. What tells is the conversation itself: a command announces so many pages, an answer
//! begins them. These taps listen to both sides and cut every transfer into spans. What they do not understand is
//! content: a mistake costs a trace its use, never a unit its secret.

mod bulk;
mod diag;
mod port;
#[cfg(test)]
mod tests;

pub use bulk::BulkTap;
pub use port::PortTap;

/// What a span is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Commands, answers, log lines.
    Talk,
    /// The layout of a storage: partition tables and superblocks. Not secret; cut at pages, because most of it is blank.
    Layout,
    /// The module's own data, or an image; cut at pages.
    Content {
        /// Where in its page it begins, in bytes.
        page_offset: u32,
    },
    /// Hexadecimal digits of the module's own data, inside a line of text.
    Digits {
        /// How many digits of the same value stood before them.
        position: u32,
    },
}

/// A stretch of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// How many bytes; never 0.
    pub bytes: usize,
    /// What they are.
    pub kind: Kind,
}

/// Adds a span, joined to the last one where nothing is lost by it.
fn push(spans: &mut Vec<Span>, bytes: usize, kind: Kind) {
    if bytes == 0 {
        return;
    }
    match spans.last_mut() {
        Some(last) if last.kind == Kind::Talk && kind == Kind::Talk => last.bytes += bytes,
        _ => spans.push(Span { bytes, kind }),
    }
}
