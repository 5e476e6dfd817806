//! Keys of earlier versions, and what replaces them.

/// What to write instead of a key that no longer exists; `None` for keys that never did.
pub(super) fn instead_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "fusion.policy" => "write fusion.selection instead",
        "fusion.check_layer" => {
            "write the layer into the selection, such as fusion.selection = \"hkvd@2\""
        }
        "fusion.deviation" => {
            "write what hkvd compares into the selection, such as fusion.selection = \"hkvd@1/v\""
        }
        "fusion.schedule" => {
            "write the schedule into the selection, such as fusion.selection = \"hkvd@1/gradual\""
        }
        "fusion.seed" => {
            "write the seed into the selection, such as fusion.selection = \"random@7\""
        }
        "fusion.budget" => {
            "write the budget into the selection, such as fusion.selection = \"query~score\""
        }
        "fusion.correction" => {
            "write the correction into the selection, such as fusion.selection = \"hkvd@1~mean\""
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ragweave_engine::Selection;

    use super::*;

    #[test]
    fn every_example_is_a_selection() {
        for name in [
            "check_layer",
            "deviation",
            "schedule",
            "seed",
            "budget",
            "correction",
        ] {
            let instead = instead_of(&format!("fusion.{name}")).unwrap();
            let example = instead.split('"').nth(1).unwrap();
            let selection: Selection = example.parse().unwrap();
            assert_eq!(selection.to_string(), example);
        }
        assert!(
            instead_of("fusion.policy")
                .unwrap()
                .contains("fusion.selection")
        );
        assert_eq!(instead_of("fusion.ratio"), None);
    }
}
