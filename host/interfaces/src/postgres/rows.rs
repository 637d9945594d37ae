//! Rows that an instance reads one after the other.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};

use super::bindings::v4::spin::postgres::postgres::Row;

/// How many rows are handed over at once.
const ROWS_AT_ONCE: usize = 64;

/// Rows, which count as long as they are not read.
pub(super) struct UnreadRows {
    rows: vec::IntoIter<Row>,
    _permit: OwnedSemaphorePermit,
}

impl UnreadRows {
    pub(super) fn new(rows: Vec<Row>, permit: OwnedSemaphorePermit) -> Self {
        Self { rows: rows.into_iter(), _permit: permit }
    }
}

impl<D> StreamProducer<D> for UnreadRows {
    type Item = Row;
    type Buffer = VecBuffer<Row>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let rows: Vec<Row> = self.rows.by_ref().take(ROWS_AT_ONCE).collect();
        destination.set_buffer(rows.into());
        let is_empty = self.rows.len() == 0;
        Poll::Ready(Ok(if is_empty { StreamResult::Dropped } else { StreamResult::Completed }))
    }
}
