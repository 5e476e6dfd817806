//! The embedder's thread: it alone uses the embedder's device.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::dense::Dense;
use super::load::WeightFile;
use super::names::Names;
use super::network::{Encoder, Head};
use super::options::Parallelism;
use super::queue::{Lane, Queue};
use super::recipe::{Recipe, Step};
use crate::embed::open_error::OpenEmbedderError;
use crate::error::RetrieverError;

/// What names of tensors of `Dense` begin with: nothing.
const NO_PREFIX: &[&str] = &[""];

/// Token ids in, one vector for each of them out.
struct Batch {
    texts: Vec<Vec<u32>>,
    done: SyncSender<Result<Vec<Vec<f32>>, String>>,
}

/// The weight files of a directory, in memory.
pub(super) struct Weights {
    encoder: WeightFile,
    /// One for each step of the recipe; `None` for those without weights.
    steps: Vec<Option<WeightFile>>,
}

/// Handle of the thread. Dropping it ends the thread after its current batch.
pub(super) struct Worker {
    queue: Arc<Queue<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Weights {
    pub(super) fn read(dir: &Path, recipe: &Recipe) -> Result<Self, OpenEmbedderError> {
        let step = |step: &Step| match step {
            Step::Normalize => Ok(None),
            Step::Dense(dense) => WeightFile::read(&dir.join(&dense.folder)).map(Some),
        };
        Ok(Self {
            encoder: WeightFile::read(&dir.join(&recipe.encoder_folder))?,
            steps: recipe.steps.iter().map(step).collect::<Result<_, _>>()?,
        })
    }

    /// The contents of all files.
    pub(super) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        let steps = self.steps.iter().flatten();
        std::iter::once(&self.encoder)
            .chain(steps)
            .map(WeightFile::bytes)
    }
}

impl Worker {
    /// Loads the model onto `device` and starts the thread. Blocks until the model is loaded.
    pub(super) fn spawn<B: Backend>(
        recipe: Recipe,
        weights: Weights,
        device: B::Device,
        parallelism: Parallelism,
    ) -> Result<Self, OpenEmbedderError> {
        let queue = Arc::new(Queue::new());
        let (loaded, waiting) = sync_channel(1);
        let batches = Arc::clone(&queue);
        let run =
            move || match loading(|| Model::<B>::load(&recipe, &weights, &device, parallelism)) {
                Ok(model) => {
                    drop(weights);
                    let _ = loaded.send(Ok(()));
                    model.serve(&batches);
                }
                Err(error) => {
                    let _ = loaded.send(Err(error));
                }
            };
        let thread = Builder::new().name("embedder".to_owned()).spawn(run);
        let thread = thread.map_err(|error| device_error(format!("no thread: {error}")))?;
        let worker = Self {
            queue,
            thread: Some(thread),
        };
        match waiting.recv() {
            Ok(loaded) => loaded.map(|()| worker),
            Err(_) => Err(device_error("its thread ended while loading".to_owned())),
        }
    }

    /// One vector for each text. Blocks.
    ///
    /// # Errors
    /// `EmbedderUnavailable` if the computation failed; the thread goes on.
    pub(super) fn run(
        &self,
        lane: Lane,
        texts: Vec<Vec<u32>>,
    ) -> Result<Vec<Vec<f32>>, RetrieverError> {
        let (done, waiting) = sync_channel(1);
        self.queue.put(lane, Batch { texts, done });
        let answer = result(&waiting);
        answer.map_err(|message| RetrieverError::EmbedderUnavailable { message })
    }
}

fn result(waiting: &Receiver<Result<Vec<Vec<f32>>, String>>) -> Result<Vec<Vec<f32>>, String> {
    let stopped = |_| "the embedder's thread has ended; start again".to_owned();
    waiting.recv().map_err(stopped)?
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: every batch is caught.
            let _ = thread.join();
        }
    }
}

/// The model on its device.
struct Model<B: Backend> {
    parallelism: Parallelism,
    recipe: Recipe,
    encoder: Encoder<B>,
    heads: Vec<Head<B>>,
}

impl<B: Backend> Model<B> {
    fn load(
        recipe: &Recipe,
        weights: &Weights,
        device: &B::Device,
        parallelism: Parallelism,
    ) -> Result<Self, OpenEmbedderError> {
        let prefixes = Names::of(recipe.encoder.family).prefixes;
        let loader = weights.encoder.loader(prefixes, device)?;
        let encoder = Encoder::load(&recipe.encoder, &loader, device)?;
        let steps = recipe.steps.iter().zip(&weights.steps);
        let heads = steps.map(|(step, file)| match (step, file) {
            (Step::Dense(dense), Some(file)) => {
                let loader = file.loader(NO_PREFIX, device)?;
                Dense::load(dense, &loader).map(Head::Dense)
            }
            (Step::Dense(_) | Step::Normalize, _) => Ok(Head::Normalize),
        });
        Ok(Self {
            parallelism,
            recipe: recipe.clone(),
            encoder,
            heads: heads.collect::<Result<_, _>>()?,
        })
    }

    /// Computes batches until the queue is closed. A panic, such as a device out of memory, fails
    /// one batch.
    fn serve(&self, batches: &Queue<Batch>) {
        while let Some(batch) = batches.take() {
            let computed = catch_unwind(AssertUnwindSafe(|| self.compute(&batch.texts)));
            let answer = computed.unwrap_or_else(|panic| Err(said(&*panic)));
            // The caller may have gone.
            let _ = batch.done.send(answer);
        }
    }

    fn compute(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, String> {
        match self.parallelism {
            Parallelism::Device => self.vectors(texts),
            Parallelism::Threads => {
                let shares = shares(texts, rayon::current_num_threads());
                let computed = shares.into_par_iter().map(|share| self.vectors(share));
                Ok(computed.collect::<Result<Vec<_>, _>>()?.concat())
            }
        }
    }

    fn vectors(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, String> {
        let vectors = self
            .encoder
            .vectors(texts, &self.recipe.pooling, &self.heads);
        let data = vectors
            .try_into_data()
            .map_err(|error| format!("{error:?}"))?;
        let numbers = data.convert::<f32>().into_vec::<f32>();
        let numbers = numbers.map_err(|error| format!("{error:?}"))?;
        let vectors = numbers.chunks_exact(self.recipe.width());
        Ok(vectors.map(<[f32]>::to_vec).collect())
    }
}

/// The texts in at most `n` parts of about as many tokens each, in order.
fn shares(texts: &[Vec<u32>], n: usize) -> Vec<&[Vec<u32>]> {
    let n_tokens: usize = texts.iter().map(Vec::len).sum();
    let target = n_tokens.div_ceil(n.max(1));
    let mut shares = Vec::with_capacity(n);
    let mut rest = texts;
    while !rest.is_empty() {
        let mut taken = 0;
        let fitting = rest.iter().take_while(|ids| {
            let has_room = taken < target;
            taken += ids.len();
            has_room
        });
        let (share, others) = rest.split_at(fitting.count().max(1));
        shares.push(share);
        rest = others;
    }
    shares
}

/// Drivers panic where they have no device.
fn loading<T>(load: impl FnOnce() -> Result<T, OpenEmbedderError>) -> Result<T, OpenEmbedderError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| Err(device_error(said(&*panic))))
}

fn device_error(message: String) -> OpenEmbedderError {
    OpenEmbedderError::Device { message }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    format!("the embedder's device failed: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_about_equal_and_keep_the_order() {
        let lens = |texts: &[usize], n| -> Vec<Vec<usize>> {
            let texts: Vec<_> = texts.iter().map(|len| vec![0; *len]).collect();
            let lens = |share: &[Vec<u32>]| share.iter().map(Vec::len).collect();
            shares(&texts, n).into_iter().map(lens).collect()
        };
        assert_eq!(lens(&[], 2), [[0; 0]; 0]);
        assert_eq!(lens(&[9], 4), [[9]]);
        assert_eq!(lens(&[1, 1, 1, 1], 2), [[1, 1], [1, 1]]);
        assert_eq!(lens(&[1, 2, 3, 6], 2), [vec![1, 2, 3], vec![6]]);
        assert_eq!(lens(&[5, 5, 5], 2), [vec![5, 5], vec![5]]);
    }
}
