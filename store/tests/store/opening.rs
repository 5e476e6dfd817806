//! Which directories are opened: identity, lock, version, and directories that are not stores.

use ragweave_store::{Store, StoreError, StoreOptions, stored_fields};

use crate::harness::*;

fn error_of(result: Result<Store, StoreError>) -> StoreError {
    result.err().expect("the store should not open")
}

#[test]
fn another_model_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    let other = StoreOptions {
        identity: identity(2),
        ..options()
    };
    let error = error_of(Store::open(dir.path(), other.clone()));
    assert!(
        matches!(&error, StoreError::ForeignIdentity { found, expected }
        if **found == identity(1) && **expected == identity(2))
    );
    assert_eq!(
        error.to_string(),
        "the store was made for model 1 (fingerprint 0101010101010101), \
         not for model 2 (fingerprint 0202020202020202)"
    );
    let store = Store::open(
        dir.path(),
        StoreOptions {
            allow_foreign: true,
            ..other
        },
    )
    .unwrap();
    assert_miss(&store, 1);
    assert_miss(&store, 50);
    assert!(!store.contains_blob(&key(1)).unwrap());
    assert_eq!(store.stats().unwrap().misses.foreign, 2);
    assert_eq!(store.foreign_identity(), Some(&identity(1)));
    assert_eq!(store.document("a").unwrap(), Some(document("a", &[1])));
    drop(store);
    assert_hit(&open(dir.path()), 1);
}

#[test]
fn blobs_written_under_one_identity_are_never_served_under_another() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    let other = StoreOptions {
        identity: identity(2),
        allow_foreign: true,
        ..options()
    };
    let store = Store::open(dir.path(), other.clone()).unwrap();
    put(&store, "b", &[2]);
    assert_hit(&store, 2);
    assert_miss(&store, 1);
    drop(store);
    let store = open(dir.path());
    assert_miss(&store, 2);
    assert_hit(&store, 1);
    assert_eq!(store.stats().unwrap().misses.foreign, 1);
}

#[test]
fn the_description_is_for_people_only() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), "a", &[1]);
    let mut renamed = options();
    renamed.identity.description = "the same model, moved".to_owned();
    assert_hit(&Store::open(dir.path(), renamed).unwrap(), 1);
}

#[test]
fn inspect_takes_any_identity_but_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    assert!(
        matches!(error_of(Store::inspect(&absent)), StoreError::NotAStore { path } if path == absent)
    );
    assert!(!absent.exists());
    put(&open(dir.path()), "a", &[1]);
    let store = Store::inspect(dir.path()).unwrap();
    assert_eq!(store.identity(), &identity(1));
    assert_hit(&store, 1);
}

#[test]
fn a_held_directory_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for refused in [
        Store::open(dir.path(), options()),
        Store::inspect(dir.path()),
    ] {
        let error = error_of(refused);
        assert!(
            matches!(&error, StoreError::Locked { path } if path == dir.path()),
            "{error}"
        );
    }
    drop(store);
    drop(open(dir.path()));
}

#[test]
fn other_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("thesis.txt");
    fs_err::write(&file, "do not touch").unwrap();
    for path in [dir.path(), &file] {
        let error = error_of(Store::open(path, options()));
        assert!(matches!(&error, StoreError::NotAStore { .. }), "{error}");
    }
    assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    let absent = dir.path().join("absent");
    let error = error_of(Store::open(
        &absent,
        StoreOptions {
            create: false,
            ..options()
        },
    ));
    assert!(
        matches!(&error, StoreError::NotAStore { path } if *path == absent),
        "{error}"
    );
    assert!(!absent.exists());
}

#[test]
fn a_later_format_is_refused_by_its_version() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let marker = dir.path().join("FORMAT");
    fs_err::write(&marker, "ragweave-store 3\n").unwrap();
    let error = error_of(Store::open(dir.path(), options()));
    let expected = StoreError::UnsupportedVersion {
        path: dir.path().into(),
        found: 3,
        supported: 2,
    };
    assert_eq!(error.to_string(), expected.to_string());
    for text in [
        &b""[..],
        b"ragweave-store",
        b"something else 1",
        b"\xff\xfe",
        b"ragweave-store -1",
        b"ragweave-store 2\nkv_dtype",
    ] {
        fs_err::write(&marker, text).unwrap();
        let error = error_of(Store::open(dir.path(), options()));
        assert!(matches!(&error, StoreError::NotAStore { .. }), "{error}");
    }
}

#[test]
fn what_a_store_was_made_with_can_be_read_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(stored_fields(dir.path()).unwrap(), None);
    let store = open(dir.path());
    let fields = stored_fields(dir.path()).unwrap();
    assert_eq!(fields.as_ref(), Some(&identity(1).fields));
    assert_eq!(store.identity().fields["kv_dtype"], "type 1");
    drop(store);
    let found = Store::inspect(dir.path()).unwrap().identity().clone();
    assert_eq!(found, identity(1));
}

#[test]
fn a_store_that_requires_more_than_is_supported_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let marker = dir.path().join("FORMAT");
    let text = fs_err::read_to_string(&marker).unwrap();
    assert!(text.contains("requires contexts = 1\n"), "{text}");
    let later = text.replace("requires contexts = 1\n", "requires contexts = 4\n");
    fs_err::write(&marker, later).unwrap();
    let any = StoreOptions {
        allow_foreign: true,
        ..options()
    };
    for refused in [
        Store::open(dir.path(), options()),
        Store::open(dir.path(), any),
        Store::inspect(dir.path()),
    ] {
        let refused = error_of(refused).to_string();
        assert!(refused.contains("requires contexts = \"4\""), "{refused}");
    }
    fs_err::write(&marker, text).unwrap();
    drop(open(dir.path()));
}

#[test]
fn a_marker_of_any_size_is_read_within_bounds() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let long = format!("ragweave-store 2\nnote = {}\n", "x".repeat(1 << 20));
    fs_err::write(dir.path().join("FORMAT"), long).unwrap();
    let error = error_of(Store::open(dir.path(), options()));
    assert!(matches!(&error, StoreError::NotAStore { .. }), "{error}");
}

#[test]
fn fields_that_do_not_fit_the_marker_make_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut broken = options();
    let line_break = (
        "kv_dtype".to_owned(),
        "int8\nrequires tenant = x".to_owned(),
    );
    broken.identity.fields.extend([line_break]);
    let error = error_of(Store::open(dir.path(), broken));
    assert!(error.to_string().contains("line break"), "{error}");
    assert!(!dir.path().join("FORMAT").exists());
}
