//! The body of an answer: `{"data": [{"index": 0, "embedding": [..]}, ..]}`.

use serde::Deserialize;

use crate::embed::Embedding;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    /// Place of its text in the request; some servers leave it out and keep the order.
    index: Option<usize>,
    embedding: Vec<f32>,
}

/// The vectors in the order of the texts, or what is wrong with the answer.
pub(super) fn vectors(body: &[u8], n_texts: usize) -> Result<Vec<Vec<f32>>, String> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| format!("is not a list of embeddings: {error}"))?;
    let n_vectors = answer.data.len();
    if n_vectors != n_texts {
        return Err(format!("has {n_vectors} vectors for {n_texts} texts"));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; n_texts];
    for (place, item) in answer.data.into_iter().enumerate() {
        let index = item.index.unwrap_or(place);
        let Some(vector) = vectors.get_mut(index) else {
            return Err(format!("has index {index}, and {n_texts} texts were sent"));
        };
        if vector.is_some() {
            return Err(format!("has two vectors with index {index}"));
        }
        *vector = Some(checked(item.embedding, index)?);
    }
    // As many vectors as texts and no index twice: none is missing.
    Ok(vectors.into_iter().flatten().collect())
}

fn checked(vector: Vec<f32>, index: usize) -> Result<Vec<f32>, String> {
    let embedding = Embedding::Dense(vector);
    if let Err(error) = embedding.check() {
        return Err(format!(
            "has an unusable vector with index {index}: {error}"
        ));
    }
    match embedding {
        Embedding::Dense(vector) => Ok(vector),
        Embedding::Sparse(_) => Err("is sparse".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_put_in_the_order_of_their_index() {
        let body = br#"{"object": "list", "data": [
            {"object": "embedding", "index": 1, "embedding": [2, 0.5]},
            {"object": "embedding", "index": 0, "embedding": [1, 0]}], "model": "m"}"#;
        assert_eq!(vectors(body, 2).unwrap(), [[1.0, 0.0], [2.0, 0.5]]);
        let without = br#"{"data": [{"embedding": [1]}, {"embedding": [2]}]}"#;
        assert_eq!(vectors(without, 2).unwrap(), [[1.0], [2.0]]);
    }

    #[test]
    fn what_is_not_the_answer_to_the_request_is_named() {
        let cases: [(&str, &str); 9] = [
            ("", "not a list of embeddings"),
            (r#"{"error": "no"}"#, "not a list of embeddings"),
            (
                r#"{"data": [{"index": 0, "embedding": [NaN]}]}"#,
                "not a list of embeddings",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": [null]}]}"#,
                "not a list of embeddings",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": [1e39]}]}"#,
                "not finite",
            ),
            (r#"{"data": [{"index": 0, "embedding": [0, 0]}]}"#, "zero"),
            (r#"{"data": []}"#, "0 vectors for 1 text"),
            (r#"{"data": [{"index": 1, "embedding": [1]}]}"#, "index 1"),
            (r#"{"data": [{"index": 0, "embedding": []}]}"#, "zero"),
        ];
        for (body, said) in cases {
            let error = vectors(body.as_bytes(), 1).unwrap_err();
            assert!(error.contains(said), "{body}: {error}");
        }
        let twice =
            br#"{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}"#;
        assert!(vectors(twice, 2).unwrap_err().contains("two vectors"));
    }
}
