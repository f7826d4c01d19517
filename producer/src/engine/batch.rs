//! A batch's three lives: open, sealed, stamped.

use std::marker::PhantomData;

/// A batch that takes no more records and has no sequence yet.
#[derive(Debug)]
pub struct SealedBatch<C>(PhantomData<C>);
