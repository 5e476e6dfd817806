//! Questions made of the corpus itself: the first words of a chunk, asked over that chunk among those that retrieval
//! finds for them. Retrieval would put the chunk first, where its KV is exact under every policy and nothing is lost;
//! so it is put at a random later place.

use anyhow::ensure;
use ragweave_server::components::Components;
use ragweave_server::pipeline::Passage;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::ask::{Ask, opening};
use super::corpus::Corpus;
use crate::experiment;
use crate::query::{chunk_ids, fitting};

/// Up to `limit` questions without answers, from chunks all over the corpus. The same seed asks the same.
pub(super) async fn from_corpus(
    components: &Components,
    corpus: &Corpus<'_>,
    limit: usize,
    seed: u64,
) -> anyhow::Result<Vec<Ask>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut ids = chunk_ids(&components.store)?;
    ids.sort_unstable();
    ids.shuffle(&mut random);
    let (mut asks, mut alone) = (Vec::new(), 0);
    let bar = experiment::bar(limit.min(ids.len()), "questions made");
    for id in ids {
        if asks.len() == limit {
            break;
        }
        let text = components.store.chunk(&id)?.map(|chunk| chunk.text);
        let Some(question) = text.as_deref().and_then(opening) else {
            continue;
        };
        match ask(corpus, &id, question, &mut random).await? {
            Some(ask) => asks.push(ask),
            None => alone += 1,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    ensure!(
        alone + asks.len() > 0,
        "the data directory holds no text to ask about; ingest documents first"
    );
    ensure!(
        asks.len() >= 2,
        "the corpus is too small to tune on its own text: only {} of its chunks can be asked about after another \
         chunk, and one that comes first is exact under every policy; ingest more documents, or give --questions FILE",
        asks.len()
    );
    Ok(asks)
}

/// `None` if no other chunk fits the prompt beside the source.
async fn ask(
    corpus: &Corpus<'_>,
    source: &str,
    question: String,
    random: &mut ChaCha8Rng,
) -> anyhow::Result<Option<Ask>> {
    let mut ask = Ask {
        question,
        answers: Vec::new(),
        context_chunks: Vec::new(),
        gold_chunks: vec![source.to_owned()],
    };
    let found = corpus.found(&ask).await?;
    // Retrieval may have missed the source chunk; then it is added to what was found.
    let named = Ask {
        context_chunks: vec![source.to_owned()],
        ..ask.clone()
    };
    let named = corpus.found(&named).await?;
    let room = corpus.room(&ask)?;
    let rest = |source: &Passage| room.checked_sub(source.token_ids.len());
    let Some(room) = named.first().and_then(rest) else {
        return Ok(None);
    };
    let others = others(&found, source, room);
    let n = others.len();
    if n == 0 {
        return Ok(None);
    }
    ask.context_chunks = after_others(source, others, random.random_range(1..=n));
    Ok(Some(ask))
}

/// What was found besides the source, as far as it fits, and one less than was found where the source was not.
fn others(found: &[Passage], source: &str, room: usize) -> Vec<String> {
    let others = found.iter().filter(|passage| passage.chunk_id != source);
    let limit = found.len().saturating_sub(1).max(1);
    let fitting = fitting(others.take(limit), room, |passage| passage.token_ids.len());
    fitting.map(|passage| passage.chunk_id.clone()).collect()
}

/// The prompt's chunks with the source at `place`.
fn after_others(source: &str, mut others: Vec<String>, place: usize) -> Vec<String> {
    others.insert(place, source.to_owned());
    others
}

#[cfg(test)]
mod tests {
    use super::after_others;

    #[test]
    fn the_source_stands_where_it_is_put_and_the_others_keep_their_order() {
        let others = || ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(after_others("s", others(), 1), ["a", "s", "b"]);
        assert_eq!(after_others("s", others(), 2), ["a", "b", "s"]);
    }
}
