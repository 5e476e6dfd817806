//! Generated gRPC types of `ragweave.v1`, and nothing else: conversions live in the server.
//! The `.proto` files under `ragweave/v1/` are the API's documentation.
//!
//! ```
//! use ragweave_proto::v1::{GenerateRequest, generate_request::Context, ExplicitChunks};
//!
//! let request = GenerateRequest {
//!     query: "Where is the lighthouse?".into(),
//!     context: Some(Context::Chunks(ExplicitChunks { ids: vec!["coast.md#0".into()] })),
//!     ..Default::default()
//! };
//! assert!(request.fusion.is_none(), "absent: the server's default fusion");
//! ```

/// Version 1 of the API.
pub mod v1 {
    #![expect(
        clippy::allow_attributes,
        clippy::too_many_lines,
        reason = "generated code"
    )]

    tonic::include_proto!("ragweave.v1");

    /// Encoded `FileDescriptorSet` of all files of this package, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("ragweave_v1");
}
