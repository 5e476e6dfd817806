//! `ragweave-eval retrieval`: whether search finds, among all passages of a dataset, those that a
//! question came with, and one that holds its answer.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::ensure;
use ragweave_retriever::{
    Embedder, Embedding, Filter, GraphStatus, IndexKind, IndexOptions, VectorIndex,
};
use serde::Serialize;

use crate::dataset::{self, Example, Making};
use crate::experiment::{print, table, threads};
use crate::metric::{mean, median, share};
use crate::table::{number, percent};
use crate::vectors::EmbedderArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Questions with their own passages, in any form that `quality` reads
    #[arg(long, value_name = "DATASET")]
    dataset: String,
    /// Passages that a search returns
    #[arg(long, value_name = "K", default_value_t = 10)]
    top_k: usize,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    dataset: String,
    embedder: String,
    /// Different passages, all in one index.
    passages: usize,
    /// Questions with their answer, in any case, in one of their own passages.
    questions: usize,
    top_k: usize,
    indexes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    index: &'static str,
    /// Share of the questions whose results hold the answer.
    answer_found: Option<f64>,
    /// Mean share of a question's own passages that are among the results.
    own_passages_recall: Option<f64>,
    p50_search_ms: Option<f64>,
}

/// The passages of all questions, each once.
struct Pool<'d> {
    passages: Vec<&'d str>,
    questions: Vec<&'d Example>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.top_k > 0, "--top-k must be at least 1");
    let making = Making {
        seeds: &[1],
        count_tokens: &|text| text.split_whitespace().count(),
    };
    let dataset = dataset::open(&args.dataset, None, &making)?;
    let pool = Pool::of(&dataset.examples);
    ensure!(
        !pool.questions.is_empty(),
        "no question of {} has its answer in one of its passages",
        dataset.name
    );
    let embedder = args.embedder.open()?;
    let report = Report {
        indexes: pool.measure(&*embedder, args.top_k)?,
        embedder: embedder.description(),
        passages: pool.passages.len(),
        questions: pool.questions.len(),
        top_k: args.top_k,
        dataset: dataset.name,
    };
    let text = report.text();
    print(&report, text, args.json)
}

impl<'d> Pool<'d> {
    fn of(examples: &'d [Example]) -> Self {
        let mut seen = HashSet::new();
        let documents = examples.iter().flat_map(|example| &example.documents);
        let passages = documents
            .map(String::as_str)
            .filter(|text| seen.insert(*text));
        let answerable = |example: &&Example| {
            let answers = lowered(&example.answers);
            example.documents.iter().any(|text| holds(text, &answers))
        };
        Self {
            passages: passages.collect(),
            questions: examples.iter().filter(answerable).collect(),
        }
    }

    /// Exact search, and search through a graph if the vectors are dense.
    fn measure(&self, embedder: &dyn Embedder, top_k: usize) -> anyhow::Result<Vec<Row>> {
        let mut index = VectorIndex::new(IndexOptions {
            kind: IndexKind::Hnsw,
            ..IndexOptions::default()
        });
        let embeddings = embedder.embed_documents(&self.passages)?;
        for (n, embedding) in embeddings.into_iter().enumerate() {
            let Some(embedding) = embedding else { continue };
            let id = n.to_string();
            index.insert(&id, &id, &BTreeMap::new(), embedding)?;
        }
        let queries = self.questions.iter();
        let queries = queries.map(|question| embedder.embed_query(&question.question));
        let queries: Vec<Embedding> = queries.collect::<Result<_, _>>()?;
        let mut rows = vec![self.row("flat", &index, &queries, top_k)?];
        if let Some(task) = index.graph_task()
            && let Some(done) = task.run(threads(), &AtomicBool::new(false))
        {
            drop(index.install(done));
        }
        if matches!(index.graph_status(), GraphStatus::Ready { .. }) {
            rows.push(self.row("hnsw", &index, &queries, top_k)?);
        }
        Ok(rows)
    }

    fn row(
        &self,
        name: &'static str,
        index: &VectorIndex,
        queries: &[Embedding],
        top_k: usize,
    ) -> anyhow::Result<Row> {
        let (mut found, mut recalls, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for (question, query) in self.questions.iter().zip(queries) {
            let since = Instant::now();
            let hits = index.search(query, top_k, &Filter::default())?;
            times.push(since.elapsed().as_secs_f64() * 1e3);
            let numbers = hits
                .iter()
                .filter_map(|hit| hit.chunk_id.parse::<usize>().ok());
            let texts: Vec<&str> = numbers.map(|n| self.passages[n]).collect();
            let answers = lowered(&question.answers);
            found.push(texts.iter().any(|text| holds(text, &answers)));
            recalls.push(recall(&texts, &question.documents));
        }
        Ok(Row {
            index: name,
            answer_found: share(found),
            own_passages_recall: mean(&recalls),
            p50_search_ms: median(&times),
        })
    }
}

fn lowered(answers: &[String]) -> Vec<String> {
    answers.iter().map(|answer| answer.to_lowercase()).collect()
}

/// Whether a text holds one of the answers, which are in lower case.
fn holds(text: &str, answers: &[String]) -> bool {
    let text = text.to_lowercase();
    answers.iter().any(|answer| text.contains(answer))
}

/// Share of the different passages in `own` that were found.
fn recall(found: &[&str], own: &[String]) -> f64 {
    let own: HashSet<&str> = own.iter().map(String::as_str).collect();
    let hits = own.iter().filter(|text| found.contains(text)).count();
    hits as f64 / own.len() as f64
}

impl Report {
    fn text(&self) -> String {
        let rows = table(
            &self.indexes,
            &[
                ("index", |row| row.index.to_owned()),
                ("answer found", |row| percent(row.answer_found)),
                ("own passages", |row| percent(row.own_passages_recall)),
                ("p50 ms", |row| number(row.p50_search_ms, 3)),
            ],
        );
        format!(
            "{}: {} questions with their answer in a passage, {} passages, the best {} by {}\n\n{rows}",
            self.dataset, self.questions, self.passages, self.top_k, self.embedder
        )
    }
}

#[cfg(test)]
mod tests {
    use ragweave_retriever::LexicalEmbedder;

    use super::*;

    fn example(question: &str, answer: &str, documents: &[&str]) -> Example {
        Example {
            id: question.to_owned(),
            kind: String::new(),
            question: question.to_owned(),
            answers: vec![answer.to_owned()],
            documents: documents.iter().map(|text| (*text).to_owned()).collect(),
            max_tokens: 8,
        }
    }

    #[test]
    fn passages_are_pooled_once_and_questions_need_their_answer() {
        let examples = [
            example(
                "Where does Ann live?",
                "Brindle",
                &["ann lives in brindle.", "shared text"],
            ),
            example(
                "Where does Bob live?",
                "Nowhere",
                &["bob lives in tor.", "shared text"],
            ),
        ];
        let pool = Pool::of(&examples);
        assert_eq!(pool.passages.len(), 3);
        assert_eq!(pool.questions.len(), 1);
        let rows = pool.measure(&LexicalEmbedder::new(), 1).unwrap();
        assert_eq!(rows.len(), 1, "sparse vectors have no graph");
        assert_eq!(rows[0].answer_found, Some(1.0));
        assert_eq!(rows[0].own_passages_recall, Some(0.5));
    }

    #[test]
    fn an_answer_that_is_not_found_counts() {
        let examples = [example(
            "what is a zebra",
            "brindle",
            &["brindle", "zebra zebra"],
        )];
        let rows = Pool::of(&examples)
            .measure(&LexicalEmbedder::new(), 1)
            .unwrap();
        assert_eq!(rows[0].answer_found, Some(0.0));
        assert_eq!(rows[0].own_passages_recall, Some(0.5));
    }
}
