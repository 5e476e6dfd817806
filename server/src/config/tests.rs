//! Layering, origins and validation of the configuration.

use std::path::Path;
use std::time::Duration;

use ragweave_engine::{Mode, Policy, Ratio};
use ragweave_store::KvIo;

use super::*;

fn args(dir: &Path, settings: &[&str]) -> CommonArgs {
    CommonArgs {
        data: Some(dir.join("data")),
        model: Some(dir.join("model")),
        settings: settings.iter().map(|s| (*s).to_owned()).collect(),
        ..CommonArgs::default()
    }
}

/// A directory with an empty `model` and `data` inside.
fn directories() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs_err::create_dir(dir.path().join("model")).unwrap();
    fs_err::create_dir(dir.path().join("data")).unwrap();
    dir
}

fn message(result: Result<Config, ServerError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_built_in_defaults_are_valid() {
    let dir = directories();
    let config = Config::load(&args(dir.path(), &[])).unwrap();
    assert_eq!(config.ingest.chunk_tokens, 512);
    assert_eq!(config.ingest.neighbours, 0);
    assert_eq!(config.limits.max_deadline, Duration::from_secs(300));
    assert_eq!(config.kv_dtype(), KvDtype::F32);
    assert_eq!(
        (config.store.kv_io, config.store.memory_bytes),
        (KvIo::Auto, 1 << 30)
    );
    assert_eq!(
        config.fusion.to_mode(),
        Mode::blend(Policy::hkvd(1), Ratio::of_percent(15))
    );
}

#[test]
fn a_flag_beats_the_file_which_beats_the_model_which_beats_the_default() {
    let dir = directories();
    let model_file = "[fusion]\nselection = \"hkvd@2\"\nratio = 0.3\n";
    fs_err::write(dir.path().join("model/ragweave.toml"), model_file).unwrap();
    let data_file = "[fusion]\nratio = 0.2\n[limits]\nmax_queue = 3\n";
    fs_err::write(dir.path().join("data/ragweave.toml"), data_file).unwrap();

    let given = args(dir.path(), &["limits.max_queue=5"]);
    let config = Config::load(&given).unwrap();
    assert_eq!(
        config.fusion.to_blend().to_string(),
        "hkvd@2:0.2",
        "the selection is from the model directory, and the file's ratio beats it"
    );
    assert_eq!(config.limits.max_queue, 5, "the flag beats the file");
    assert_eq!(config.retrieval.top_k, 6, "the default remains");

    let origin = |key: &str| {
        explain(&given)
            .unwrap()
            .into_iter()
            .find(|s| s.key == key)
            .unwrap()
            .origin
    };
    assert_eq!(origin("limits.max_queue"), "flag --set");
    assert_eq!(origin("retrieval.top_k"), "built-in default");
    assert_eq!(origin("system"), "not set");
    assert!(origin("fusion.ratio").ends_with("data/ragweave.toml"));
    assert!(origin("fusion.selection").ends_with("model/ragweave.toml"));
}

#[test]
fn errors_name_the_key_and_its_origin() {
    let dir = directories();
    let load = |settings: &[&str]| message(Config::load(&args(dir.path(), settings)));
    assert_eq!(
        load(&["fusion.ratio=NaN"]),
        "fusion.ratio in flag --set: NaN is not between 0 and 1"
    );
    assert_eq!(
        load(&["telemetry.shadow_full=1.5"]),
        "telemetry.shadow_full in flag --set: must lie in 0..=1, is 1.5"
    );
    assert_eq!(
        load(&["limits.max_queue=0"]),
        "limits.max_queue in flag --set: must be at least 1"
    );
    assert_eq!(
        load(&["ingest.neighbours=9"]),
        "ingest.neighbours in flag --set: must lie in 0..=8, is 9"
    );
    assert!(load(&["ingest.neighbours=-1"]).starts_with("ingest.neighbours in flag --set: "));
    assert!(load(&["fusion.mode=fast"]).starts_with("fusion.mode in flag --set: unknown variant"));
    assert!(
        load(&["device=tpu"]).contains("device in flag --set"),
        "{}",
        load(&["device=tpu"])
    );
    assert_eq!(
        load(&["store.kv_io=odirect"]),
        "store.kv_io in flag --set: \"odirect\" is not one of auto, pread, direct, uring, mmap"
    );
    assert_eq!(
        load(&["fusion.ration=1"]),
        "unknown key fusion.ration in flag --set; did you mean fusion.ratio?"
    );
    assert_eq!(
        load(&[
            "prompt.prefix=a",
            "prompt.chunk=no place",
            "prompt.question={question}"
        ]),
        "prompt.chunk in flag --set: must contain {text} exactly once"
    );
}

#[test]
fn limits_that_cannot_hold_are_refused_before_a_request_meets_them() {
    let dir = directories();
    let load = |settings: &[&str]| message(Config::load(&args(dir.path(), settings)));
    for (setting, reason) in [
        (
            "limits.max_message_bytes=100",
            "must lie in 4096..=4294967295, is 100",
        ),
        ("limits.max_message_bytes=4294967296", "must lie in 4096..="),
        (
            "limits.max_document_bytes=0",
            "must lie in 1..=2147483648, is 0",
        ),
        ("limits.max_metadata_bytes=0", "must be at least 1"),
        (
            "limits.max_metadata_bytes=2097153",
            "above half of limits.max_message_bytes, 2097152",
        ),
        ("fusion.selection=hkvd@1+hkvd@2", "only one hkvd"),
        ("fusion.selection=query+query", "twice"),
    ] {
        let (key, _) = setting.split_once('=').unwrap();
        let said = load(&[setting]);
        assert!(
            said.starts_with(&format!("{key} in flag --set: ")),
            "{said}"
        );
        assert!(said.contains(reason), "{setting}: {said}");
    }
}

#[test]
fn the_limit_of_metadata_follows_that_of_messages_unless_it_is_set() {
    let dir = directories();
    let limit = |settings: &[&str]| {
        let config = Config::load(&args(dir.path(), settings)).unwrap();
        config.limits.max_metadata_bytes()
    };
    assert_eq!(limit(&[]), 32 << 10);
    assert_eq!(limit(&["limits.max_message_bytes=16384"]), 8192);
    assert_eq!(limit(&["limits.max_metadata_bytes=1000000"]), 1_000_000);
}

#[test]
fn selections_are_written_in_the_notation() {
    let dir = directories();
    let planned = |settings: &[&str]| {
        let config = Config::load(&args(dir.path(), settings)).unwrap();
        config.fusion.to_mode().to_string()
    };
    assert_eq!(planned(&["fusion.selection=hkvd"]), "hkvd@1:0.15");
    assert_eq!(
        planned(&["fusion.selection=hkvd@3/gradual"]),
        "hkvd@3/gradual:0.15"
    );
    assert_eq!(
        planned(&[
            "fusion.selection=first-k+query/all~score~mean",
            "fusion.ratio=0.05"
        ]),
        "first-k+query/all~score~mean:0.05"
    );
    assert_eq!(planned(&["fusion.min_ratio=0.05"]), "hkvd@1:0.05");
    let load = |setting: &str| message(Config::load(&args(dir.path(), &[setting])));
    let said = load("fusion.selection=best");
    assert!(
        said.starts_with("fusion.selection in flag --set: "),
        "{said}"
    );
    assert!(said.contains("known are hkvd, first-k"), "{said}");
    assert_eq!(
        load("fusion.selection=first-k+oracle"),
        "fusion.selection in flag --set: `first-k+oracle` needs a full prefill before it can choose, so it is for \
         `ragweave-eval` only"
    );
    assert_eq!(
        load("fusion.selection=hkvd@2:0.1"),
        "fusion.selection in flag --set: `hkvd@2:0.1`: the ratio is a setting of its own; write ratio = 0.1"
    );
}

#[test]
fn settings_that_the_notation_holds_now_are_refused_with_what_to_write() {
    let dir = directories();
    let load = |setting: &str| message(Config::load(&args(dir.path(), &[setting])));
    for (setting, instead) in [
        ("fusion.policy=query", "write fusion.selection instead"),
        ("fusion.check_layer=2", "fusion.selection = \"hkvd@2\""),
        ("fusion.deviation=v", "fusion.selection = \"hkvd@1/v\""),
        (
            "fusion.schedule=gradual",
            "fusion.selection = \"hkvd@1/gradual\"",
        ),
        ("fusion.seed=5", "fusion.selection = \"random@7\""),
        ("fusion.budget=even", "fusion.selection = \"query~score\""),
        (
            "fusion.correction=mean",
            "fusion.selection = \"hkvd@1~mean\"",
        ),
    ] {
        let (key, _) = setting.split_once('=').unwrap();
        let said = load(setting);
        let start = format!("{key} in flag --set is no longer a setting; ");
        assert!(
            said.starts_with(&start) && said.ends_with(instead),
            "{said}"
        );
    }
}

#[test]
fn a_model_directory_may_not_set_where_data_lies() {
    let dir = directories();
    fs_err::write(dir.path().join("model/ragweave.toml"), "data = \"/tmp\"").unwrap();
    let said = message(Config::load(&args(dir.path(), &[])));
    assert!(
        said.ends_with("may set only system, [prompt] and [fusion], not data"),
        "{said}"
    );
}

#[test]
fn the_model_may_be_a_file_with_its_settings_beside_it() {
    let dir = directories();
    let file = dir.path().join("model/m.gguf");
    fs_err::write(&file, "").unwrap();
    fs_err::write(dir.path().join("model/ragweave.toml"), "system = \"S\"").unwrap();
    let given = |model| CommonArgs {
        model: Some(model),
        ..args(dir.path(), &[])
    };
    let config = Config::load(&given(file.clone())).unwrap();
    assert_eq!((config.system.as_deref(), config.model), (Some("S"), file));
    let said = message(Config::load(&given(dir.path().join("model/n.gguf"))));
    assert!(
        said.contains("n.gguf") && said.contains("GGUF file"),
        "{said}"
    );
}

#[test]
fn a_tuned_choice_lies_between_the_model_and_the_configuration_file() {
    let dir = directories();
    let write = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).unwrap();
    write(
        "model/ragweave.toml",
        "[fusion]\nselection = \"hkvd\"\nratio = 0.3\nmin_ratio = 0.01\n",
    );
    let tuned = "[fusion]\nmode = \"blend\"\nselection = \"first-k+query~score\"\nratio = 0.05\n\
                 [evidence]\nquestions = 200\n[[evidence.front]]\nspec = \"hkvd@2:0.1\"\n";
    write("data/tuned.toml", tuned);
    write("data/ragweave.toml", "[fusion]\nratio = 0.1\n");

    let given = args(dir.path(), &[]);
    let config = Config::load(&given).unwrap();
    assert_eq!(
        config.fusion.to_mode().to_string(),
        "first-k+query~score:0.1"
    );
    let settings = explain(&given).unwrap();
    let origin = |key: &str| &settings.iter().find(|s| s.key == key).unwrap().origin;
    assert!(origin("fusion.selection").ends_with("data/tuned.toml"));
    assert!(origin("fusion.ratio").ends_with("data/ragweave.toml"));
    assert!(origin("fusion.min_ratio").ends_with("model/ragweave.toml"));

    // The data directory may be named by the configuration file as well.
    let data = dir.path().join("data");
    write(
        "named.toml",
        &format!("data = {:?}\n", data.display().to_string()),
    );
    let named = CommonArgs {
        data: None,
        config: Some(dir.path().join("named.toml")),
        ..args(dir.path(), &[])
    };
    let config = Config::load(&named).unwrap();
    assert_eq!(
        config.fusion.to_mode().to_string(),
        "first-k+query~score:0.05"
    );
}

#[test]
fn a_malformed_tuned_choice_is_an_error_that_names_file_and_key() {
    let dir = directories();
    for (text, reason) in [
        ("[fusion", "data/tuned.toml is not valid TOML"),
        (
            "[fusion]\nselection = \"best\"",
            "data/tuned.toml: `best`: `best` is not a policy",
        ),
        (
            "[fusion]\nratio = 2.0",
            "data/tuned.toml: 2 is not between 0 and 1",
        ),
        (
            "[fusion]\npolicy = \"hkvd@2\"",
            "data/tuned.toml is no longer a setting; write fusion.selection instead",
        ),
        ("[fusion]\nratoi = 0.1", "unknown key fusion.ratoi in file"),
        (
            "[limits]\nmax_queue = 1",
            "may set only [fusion], and hold [evidence], not limits.max_queue",
        ),
    ] {
        fs_err::write(dir.path().join("data/tuned.toml"), text).unwrap();
        let said = message(Config::load(&args(dir.path(), &[])));
        assert!(said.contains(reason), "{text}: {said}");
    }
}

#[test]
fn a_missing_model_says_how_to_name_one() {
    let dir = directories();
    let nothing = CommonArgs {
        model: None,
        ..args(dir.path(), &[])
    };
    assert!(message(Config::load(&nothing)).starts_with("no model given: pass --model DIR"));
    let absent = CommonArgs {
        model: Some(dir.path().join("absent")),
        ..nothing
    };
    assert!(message(Config::load(&absent)).contains("absent does not exist; name"));
}

#[test]
fn a_path_that_is_not_utf8_or_empty_is_refused_and_never_becomes_another() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let dir = directories();
    let bad = || Some(OsStr::from_bytes(b"/tmp/caf\xe9").into());
    let data = CommonArgs {
        data: bad(),
        ..args(dir.path(), &[])
    };
    let model = CommonArgs {
        model: bad(),
        ..args(dir.path(), &[])
    };
    for (args, flag) in [(data, "--data"), (model, "--model")] {
        let said = message(Config::load(&args));
        assert!(
            said.contains(&format!("flag {flag} is not UTF-8: /tmp/caf\\xe9;")),
            "{said}"
        );
    }
    for key in ["data", "model"] {
        let mut empty = args(dir.path(), &[&format!("{key}=")]);
        (empty.data, empty.model) = match key {
            "data" => (None, empty.model),
            _ => (empty.data, None),
        };
        let said = message(Config::load(&empty));
        assert_eq!(said, format!("{key} in flag --set: is empty"));
    }
}

#[test]
fn a_model_alone_needs_no_data_directory_but_keeps_one_that_is_given() {
    let dir = directories();
    let given = args(dir.path(), &[]);
    assert_eq!(
        Config::load_for_model(&given).unwrap().data,
        dir.path().join("data")
    );
    let alone = CommonArgs {
        data: None,
        ..given
    };
    assert_eq!(Config::load_for_model(&alone).unwrap().data, Path::new(""));
    assert!(message(Config::load(&alone)).starts_with("no data given"));
}

#[test]
fn a_broken_file_is_named_with_the_place_of_the_error() {
    let dir = directories();
    fs_err::write(dir.path().join("data/ragweave.toml"), "limits = [").unwrap();
    let said = message(Config::load(&args(dir.path(), &[])));
    assert!(
        said.contains("data/ragweave.toml is not valid TOML"),
        "{said}"
    );
}
