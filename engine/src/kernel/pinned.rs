//! Pinned host memory, from which a GPU copies while the CPU does something else.

use burn::tensor::{AllocationProperty, Bytes};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

use crate::kv::HostMemory;

pub(super) struct Pinned<R: CubeRuntime> {
    client: ComputeClient<R>,
}

impl<R: CubeRuntime> Pinned<R> {
    /// `None` where the runtime has no such memory.
    pub(super) fn new(client: ComputeClient<R>) -> Option<Self> {
        let pinned = Self { client };
        pinned.allocate(1).is_some().then_some(pinned)
    }
}

impl<R: CubeRuntime> HostMemory for Pinned<R> {
    fn allocate(&self, len: usize) -> Option<Bytes> {
        let mut bytes = Bytes::from_bytes_vec(vec![0; len]);
        self.client.staging(std::iter::once(&mut bytes), false);
        (bytes.property() == AllocationProperty::Pinned).then_some(bytes)
    }
}
