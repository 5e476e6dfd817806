//! Valid and invalid weight files: every error names the file, and the tensor if there is one.

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use half::{bf16, f16};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::convert::WeightDtype;
use super::*;
use crate::model_files::directory::{WEIGHTS_FILE, WEIGHTS_INDEX_FILE};

const EMBED: &str = "model.embed_tokens.weight";
const NORM: &str = "model.norm.weight";

fn open(dir: &Path) -> Result<WeightFiles, EngineError> {
    WeightFiles::open(&ModelSource::open(dir)?)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes a safetensors file of named tensors, each given as `(name, dtype, shape, bytes)`.
fn write(path: &Path, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (
            *name,
            TensorView::new(*dtype, shape.to_vec(), data).unwrap(),
        )
    });
    fs_err::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

fn single() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let embed = bytes(&[1.0, -2.0, 3.5, 0.0, 5.0, 6.0]);
    let norm = bytes(&[1.0, 2.0]);
    write(
        &dir.path().join(WEIGHTS_FILE),
        &[
            (EMBED, Dtype::F32, &[3, 2], embed),
            (NORM, Dtype::F32, &[2], norm),
        ],
    );
    dir
}

fn sharded(weight_map: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let one = |name: &str, tensor, value| {
        write(
            &dir.path().join(name),
            &[(tensor, Dtype::F32, &[1], bytes(&[value]))],
        );
    };
    one("a.safetensors", EMBED, 1.0);
    one("b.safetensors", NORM, 2.0);
    let index = json!({"metadata": {"total_size": 8}, "weight_map": weight_map});
    fs_err::write(dir.path().join(WEIGHTS_INDEX_FILE), index.to_string()).unwrap();
    dir
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, EngineError>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, EngineError::ModelFile { .. }), "{error:?}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn a_single_file_gives_its_tensors() {
    let dir = single();
    let files = open(dir.path()).unwrap();
    let embed = files.tensor(EMBED, &[3, 2]).unwrap();
    assert_eq!(
        (embed.shape.as_slice(), embed.dtype),
        (&[3, 2][..], WeightDtype::F32)
    );
    assert_eq!(embed.to_f32(), [1.0, -2.0, 3.5, 0.0, 5.0, 6.0]);
    assert_eq!(files.tensor(NORM, &[2]).unwrap().to_f32(), [1.0, 2.0]);
}

#[test]
fn shards_give_the_tensors_the_index_places_in_them() {
    let dir = sharded(json!({EMBED: "a.safetensors", NORM: "b.safetensors"}));
    let files = open(dir.path()).unwrap();
    assert_eq!(files.tensor(EMBED, &[1]).unwrap().to_f32(), [1.0]);
    assert_eq!(files.tensor(NORM, &[1]).unwrap().to_f32(), [2.0]);
}

#[test]
fn shards_outside_the_directory_missing_or_wrong_are_refused() {
    for outside in [
        "../a.safetensors",
        "/etc/hostname",
        "x/../../a.safetensors",
        "",
        ".",
    ] {
        let dir = sharded(json!({EMBED: outside}));
        assert_refused(
            open(dir.path()),
            &[WEIGHTS_INDEX_FILE, "outside the directory"],
        );
    }
    let dir = sharded(json!({EMBED: "gone.safetensors"}));
    assert_refused(open(dir.path()), &["gone.safetensors"]);
    let dir = sharded(json!({EMBED: "b.safetensors"}));
    assert_refused(open(dir.path()), &["b.safetensors", "lacks tensor", EMBED]);
    let dir = sharded(json!({EMBED: 3}));
    assert_refused(open(dir.path()), &["no file name", EMBED]);
    let dir = sharded(json!({}));
    assert_refused(open(dir.path()), &[WEIGHTS_INDEX_FILE, "between 1 and"]);
}

#[test]
fn a_directory_without_weights_says_what_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    assert_refused(
        open(dir.path()),
        &[WEIGHTS_FILE, WEIGHTS_INDEX_FILE, "converted"],
    );
}

#[test]
fn a_file_cut_anywhere_is_refused_at_open() {
    let dir = single();
    let path = dir.path().join(WEIGHTS_FILE);
    let whole = fs_err::read(&path).unwrap();
    for len in 0..whole.len() {
        fs_err::write(&path, &whole[..len]).unwrap();
        assert_refused(open(dir.path()), &[WEIGHTS_FILE, "truncated"]);
    }
    // The norm is the last eight bytes: the tensor named is the one that is cut.
    fs_err::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert_refused(open(dir.path()), &[NORM]);
    fs_err::write(&path, &whole[..whole.len() - 12]).unwrap();
    assert_refused(open(dir.path()), &[EMBED]);
    fs_err::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert_refused(open(dir.path()), &["1 bytes follow"]);
}

#[test]
fn git_lfs_pointers_are_named_as_such() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 988097824\n";
    let sharded = || sharded(json!({EMBED: "a.safetensors", NORM: "b.safetensors"}));
    for (dir, file) in [
        (single(), WEIGHTS_FILE),
        (sharded(), "b.safetensors"),
        (sharded(), WEIGHTS_INDEX_FILE),
    ] {
        fs_err::write(dir.path().join(file), pointer).unwrap();
        assert_refused(open(dir.path()), &[file, "Git LFS pointer", "git lfs pull"]);
    }
}

#[test]
fn a_header_that_is_not_safetensors_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let file = |json: &str| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        fs_err::write(&path, bytes).unwrap();
        open(dir.path())
    };
    assert_refused(file("not json"), &["corrupt", WEIGHTS_FILE]);
    let overlap = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert_refused(file(overlap), &["corrupt"]);
    let wide = r#"{"a":{"dtype":"F32","shape":[4294967295,4294967295,4],"data_offsets":[0,4]}}"#;
    assert_refused(file(wide), &["corrupt"]);
    fs_err::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert_refused(open(dir.path()), &["not a safetensors file"]);
}

#[test]
fn tensors_of_another_name_shape_or_type_are_refused_by_name() {
    let dir = single();
    let files = open(dir.path()).unwrap();
    assert_refused(
        files.tensor("lm_head.weight", &[3, 2]),
        &["no tensor lm_head.weight"],
    );
    assert_refused(files.tensor(EMBED, &[2, 3]), &[EMBED, "[3, 2]", "[2, 3]"]);
    write(
        &dir.path().join(WEIGHTS_FILE),
        &[(NORM, Dtype::I8, &[2], vec![1, 2])],
    );
    let files = open(dir.path()).unwrap();
    assert_refused(files.tensor(NORM, &[2]), &[NORM, "I8", "F32, F16, BF16"]);
}

#[test]
fn non_finite_weights_are_refused_in_every_type() {
    let dir = tempfile::tempdir().unwrap();
    let nan = |dtype, data| {
        write(&dir.path().join(WEIGHTS_FILE), &[(NORM, dtype, &[2], data)]);
        let files = open(dir.path()).unwrap();
        assert_refused(files.tensor(NORM, &[2]), &[NORM, "NaN", "element 1"]);
    };
    nan(Dtype::F32, bytes(&[f32::MAX, f32::NEG_INFINITY]));
    nan(
        Dtype::F16,
        [f16::MAX, f16::NAN].map(f16::to_le_bytes).concat(),
    );
    nan(
        Dtype::BF16,
        [bf16::MAX, bf16::INFINITY].map(bf16::to_le_bytes).concat(),
    );
}

#[test]
fn every_stored_type_converts_to_every_compute_type() {
    let values = [1.0_f32, -0.5, 3.25, 1024.0];
    let dir = tempfile::tempdir().unwrap();
    for (dtype, data) in [
        (Dtype::F32, bytes(&values)),
        (
            Dtype::F16,
            values.map(|v| f16::from_f32(v).to_le_bytes()).concat(),
        ),
        (
            Dtype::BF16,
            values.map(|v| bf16::from_f32(v).to_le_bytes()).concat(),
        ),
    ] {
        write(&dir.path().join(WEIGHTS_FILE), &[(NORM, dtype, &[4], data)]);
        let tensor = open(dir.path()).unwrap().tensor(NORM, &[4]).unwrap();
        assert_eq!(tensor.to_f32(), values);
        assert_eq!(tensor.to_f16().unwrap(), values.map(f16::from_f32));
        assert_eq!(tensor.to_bf16().unwrap(), values.map(bf16::from_f32));
    }
}

#[test]
fn a_value_too_large_for_the_compute_type_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join(WEIGHTS_FILE),
        &[(NORM, Dtype::F32, &[2], bytes(&[1.0, 7e4]))],
    );
    let tensor = open(dir.path()).unwrap().tensor(NORM, &[2]).unwrap();
    assert_refused(tensor.to_f16(), &[NORM, "7e4", "f16"]);
    assert!(tensor.to_bf16().is_ok());
}

#[test]
fn the_hash_depends_on_content_and_not_on_the_directory() {
    let hash = |dir: &TempDir| open(dir.path()).unwrap().hash().unwrap();
    let (a, b) = (single(), single());
    assert_eq!(hash(&a), hash(&b));
    let path = b.path().join(WEIGHTS_FILE);
    let mut bytes = fs_err::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    assert_ne!(hash(&a), hash(&b));
}
