//! Cuts a chat template at the positions of the texts: the template is rendered once with markers that no template
//! changes.

use ragweave_engine::{ChatMessage, ChatTemplate};

use super::error::PromptError;

/// First words of the user message.
const INTRODUCTION: &str = "Use the passages to answer.\n\n";
pub(super) const BEFORE_CHUNK: &str = "[passage]\n";
pub(super) const AFTER_CHUNK: &str = "\n\n";
const BEFORE_QUESTION: &str = "Question: ";

// Plain words: a template that trims, indents or upper-cases only its own text leaves them unchanged.
const SYSTEM: &str = "RAGWEAVE-SYSTEM-PLACE";
const CHUNKS: &str = "RAGWEAVE-CHUNKS-PLACE";
const QUESTION: &str = "RAGWEAVE-QUESTION-PLACE";

/// What the template renders around system text, chunks and question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) before_system: String,
    pub(super) after_system: String,
    pub(super) before_question: String,
    /// The end of the user's turn and the beginning of the assistant's.
    pub(super) after_question: String,
}

/// Renders the template with markers and cuts the result at them. If a template refuses the role `system`, or does not
/// print its text, the text goes into the user message.
pub(super) fn cut(template: &ChatTemplate, date: &str, model: &str) -> Result<Cut, PromptError> {
    let user = format!("{INTRODUCTION}{CHUNKS}{BEFORE_QUESTION}{QUESTION}");
    let attempt = |messages: &[ChatMessage]| {
        let rendered = template.render(messages, true, date)?;
        cut_rendered(&rendered).map_err(|problem| PromptError::Uncuttable {
            model: model.to_owned(),
            problem,
        })
    };
    let apart = [
        ChatMessage::new("system", SYSTEM),
        ChatMessage::new("user", user.as_str()),
    ];
    let together = [ChatMessage::new("user", format!("{SYSTEM}\n\n{user}"))];
    attempt(&apart).or_else(|first| {
        attempt(&together).map_err(|second| match first {
            PromptError::Uncuttable { .. } => first,
            _ => second,
        })
    })
}

fn cut_rendered(rendered: &str) -> Result<Cut, String> {
    for (what, marker) in [
        ("system text", SYSTEM),
        ("chunks", CHUNKS),
        ("question", QUESTION),
    ] {
        match rendered.matches(marker).count() {
            1 => {}
            0 => return Err(format!("it does not print the {what} that it is given")),
            n => return Err(format!("it prints the {what} {n} times")),
        }
    }
    let in_order = || {
        let (before_system, rest) = rendered.split_once(SYSTEM)?;
        let (after_system, rest) = rest.split_once(CHUNKS)?;
        let (before_question, after_question) = rest.split_once(QUESTION)?;
        Some([before_system, after_system, before_question, after_question])
    };
    let parts =
        in_order().ok_or("it does not print system text, chunks and question in this order")?;
    let [before_system, after_system, before_question, after_question] = parts.map(str::to_owned);
    Ok(Cut {
        before_system,
        after_system,
        before_question,
        after_question,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendering_is_cut_at_its_three_markers() {
        let rendered = format!("<s>[{SYSTEM}]u:Use.{CHUNKS}Question: {QUESTION}</u>a:");
        let cut = cut_rendered(&rendered).unwrap();
        assert_eq!(cut.before_system, "<s>[");
        assert_eq!(cut.after_system, "]u:Use.");
        assert_eq!(cut.before_question, "Question: ");
        assert_eq!(cut.after_question, "</u>a:");
    }

    #[test]
    fn renderings_that_lose_repeat_or_reorder_a_text_are_refused() {
        let lost = cut_rendered(&format!("{SYSTEM}{CHUNKS}")).unwrap_err();
        assert_eq!(lost, "it does not print the question that it is given");
        let twice = cut_rendered(&format!("{SYSTEM}{SYSTEM}{CHUNKS}{QUESTION}")).unwrap_err();
        assert_eq!(twice, "it prints the system text 2 times");
        let swapped = cut_rendered(&format!("{CHUNKS}{SYSTEM}{QUESTION}")).unwrap_err();
        assert!(swapped.contains("in this order"), "{swapped}");
    }
}
