//! Compiles `ragweave/v1/*.proto` without protoc: protox parses, tonic-prost-build generates.

use std::{env, error::Error, fs, path::PathBuf};

const SERVICE: &str = "ragweave/v1/rag_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    // tonic_prost_build does not emit this for descriptors it is handed ready made.
    println!("cargo:rerun-if-changed=ragweave");
    println!("cargo:rerun-if-changed=build.rs");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file(SERVICE)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(
        out.join("ragweave_v1.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
