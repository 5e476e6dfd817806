//! What a template must not be able to do: use unlimited work, memory or output.

use super::*;

#[test]
fn a_template_that_never_ends_runs_out_of_fuel() {
    assert_refused(
        named("endless.jinja").render(&greeting(), true, DATE),
        &["2000000 steps", "loop without end"],
    );
}

#[test]
fn a_template_that_writes_without_end_is_stopped() {
    let source = "{% for a in range(1000) %}{{ messages[0].content }}{% endfor %}";
    let messages = [ChatMessage::new("user", "x".repeat(100_000))];
    assert_refused(
        compile(source).render(&messages, true, DATE),
        &["16777216 bytes"],
    );
}

#[test]
fn a_value_nested_as_deep_as_fuel_allows_is_no_crash() {
    // 300,000 levels; 400,000 run out of fuel. Dropping the value recurses through all of them.
    let body = "{% set ns.x = [ns.x] %}".repeat(1000);
    let nest = |end: &str| {
        let source = format!(
            "{{% set ns = namespace(x=1) %}}{{% for a in range(300) %}}{body}{{% endfor %}}{end}"
        );
        compile(&source).render(&greeting(), true, DATE)
    };
    assert_eq!(nest("").unwrap(), "");
    assert_eq!(nest("{{ ns.x }}").unwrap().len(), 600_001);
    assert_refused(nest("{{ ns.x|tojson }}"), &["nested deeper than 64"]);
}

#[test]
fn results_far_larger_than_what_they_are_made_from_are_refused() {
    let half = "{% set many = 'a' * 500000 %}{% set lines = '\\n' * 500000 %}";
    for expression in [
        "lines|indent(many, blank=true)",
        "many.replace('a', many)",
        "many.replace('', many)",
        "many.join([many] * 100)",
        "many.join('a' * 100)",
    ] {
        assert_refused(
            compile(&format!("{half}{{{{ {expression} }}}}")).render(&greeting(), true, DATE),
            &["16777216 bytes"],
        );
    }
}

#[test]
fn lists_that_hold_the_same_list_twice_are_not_written_without_end() {
    // 2^40 items when they are written, 40 lists in memory.
    let nested = "{% set ns = namespace(x=1) %}{% for i in range(40) %}\
        {% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for end in [
        "{{ ns.x }}",
        "{% set text %}{{ ns.x }}{% endset %}",
        "{{ ns.x|tojson }}",
        "{{ ns.x|tojson(indent=2, separators=('', '')) }}",
        "{{ ns.x|string }}",
        "{{ ns.x|trim }}",
        "{{ ns.x|escape }}",
        "{{ ns.x|wordcount }}",
        "{{ ns.x is lower }}",
        "{{ raise_exception(ns.x) }}",
        "{{ strftime_now(ns.x) }}",
    ] {
        let template = compile(&format!("{nested}{end}"));
        assert_refused(
            template.render(&greeting(), true, DATE),
            &["16777216 bytes"],
        );
    }
    let missing = compile(&format!("{nested}{{{{ [1].index(ns.x) }}}}"));
    assert_refused(
        missing.render(&greeting(), true, DATE),
        &["not in the list"],
    );
}

#[test]
fn the_work_of_filters_and_methods_takes_fuel() {
    let prelude = "{% set few = 'a' * 1000 %}{% set many = 'b' * 1000000 %}";
    for expression in [
        "[many]|wordcount",
        "[many] is lower",
        "few.find(many)",
        "few.find(sub=many)",
        "few.strip(many)",
        "few|trim(many)",
    ] {
        let source = format!(
            "{prelude}{{% for i in range(1000) %}}{{% set x = {expression} %}}{{% endfor %}}"
        );
        assert_refused(
            compile(&source).render(&greeting(), true, DATE),
            &["2000000 steps"],
        );
    }
}

#[test]
fn padding_takes_one_character_to_fill_with() {
    assert_eq!(
        render(
            &compile("{{ 'x'.ljust(3, 'é') }}{{ 'x'.center(4) }}|"),
            &greeting()
        ),
        "xéé x  |"
    );
    for expression in [
        "'x'.ljust(65536, 'ab')",
        "'x'.rjust(2, '')",
        "'x'.center(9, 'a' * 900000)",
    ] {
        assert_refused(
            compile(&format!("{{{{ {expression} }}}}")).render(&greeting(), true, DATE),
            &["exactly one character long"],
        );
    }
}
