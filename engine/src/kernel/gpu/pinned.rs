//! Pinned host memory: a GPU copies from it while the CPU does something else.

use burn::tensor::{AllocationProperty, Bytes, StreamId};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use crate::kv::HostMemory;

pub(super) struct Pinned<R: CubeRuntime> {
    client: ComputeClient<R>,
    /// The stream of the thread that created this: CubeCL has a pool of pinned memory per stream, and one is enough.
    stream: StreamId,
}

/// Allocated at the start so that the pool's first page is already pinned: a block of most models fits.
const FIRST_BYTES: usize = 4 << 20;

impl<R: CubeRuntime> Pinned<R> {
    /// `None` if the runtime has no such memory.
    pub(super) fn new(client: ComputeClient<R>) -> Option<Self> {
        let stream = StreamId::current();
        let pinned = Self { client, stream };
        pinned.allocate(FIRST_BYTES).is_some().then_some(pinned)
    }
}

impl<R: CubeRuntime> HostMemory for Pinned<R> {
    fn allocate(&self, len: usize) -> Option<Bytes> {
        let mut bytes = Bytes::from_bytes_vec(vec![0; len]);
        let stage = || self.client.staging(std::iter::once(&mut bytes), false);
        self.stream.executes(stage);
        (bytes.property() == AllocationProperty::Pinned).then_some(bytes)
    }
}
