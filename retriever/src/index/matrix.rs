//! Dense vectors of unit length, one after the other, compared by cosine.

use crate::error::RetrieverError;

/// Vectors of one dimension.
#[derive(Debug)]
pub(super) struct Matrix {
    dimension: usize,
    /// `[rows, dimension]`, each row of length 1.
    values: Vec<f32>,
}

impl Matrix {
    /// A matrix with one row, which sets the dimension.
    pub(super) fn of(row: &[f32]) -> Self {
        Self {
            dimension: row.len(),
            values: unit(row),
        }
    }

    pub(super) fn push(&mut self, row: &[f32]) -> Result<(), RetrieverError> {
        self.check(row)?;
        self.values.extend(unit(row));
        Ok(())
    }

    /// The cosine of every row with the query.
    pub(super) fn scores(&self, query: &[f32]) -> Result<Vec<(u32, f32)>, RetrieverError> {
        self.check(query)?;
        let query = unit(query);
        let rows = self.values.chunks_exact(self.dimension);
        Ok((0..).zip(rows.map(|row| dot(row, &query))).collect())
    }

    /// Keeps the rows that have a new number.
    pub(super) fn repack(&mut self, new_row: &[Option<u32>]) {
        let rows = self.values.chunks_exact(self.dimension).zip(new_row);
        self.values = rows
            .filter(|(_, new)| new.is_some())
            .flat_map(|(row, _)| row)
            .copied()
            .collect();
    }

    fn check(&self, row: &[f32]) -> Result<(), RetrieverError> {
        if row.len() == self.dimension {
            return Ok(());
        }
        Err(RetrieverError::WrongDimension {
            expected: self.dimension,
            found: row.len(),
        })
    }
}

/// The vector at length 1. The length is taken in f64, where no finite f32 overflows.
fn unit(values: &[f32]) -> Vec<f32> {
    let length = values
        .iter()
        .map(|&v| f64::from(v).powi(2))
        .sum::<f64>()
        .sqrt();
    values
        .iter()
        .map(|&v| (f64::from(v) / length) as f32)
        .collect()
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<8>();
    let (b_lanes, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_cosines_of_any_length_of_vector() {
        let mut matrix = Matrix::of(&[3.0, 4.0]);
        matrix.push(&[-1e38, 0.0]).unwrap();
        matrix.push(&[0.0, 1e-40]).unwrap();
        let scores = matrix.scores(&[2.0, 0.0]).unwrap();
        assert_eq!(scores, [(0, 0.6), (1, -1.0), (2, 0.0)]);
        matrix.repack(&[None, Some(0), Some(1)]);
        assert_eq!(matrix.scores(&[2.0, 0.0]).unwrap(), [(0, -1.0), (1, 0.0)]);
    }

    #[test]
    fn dot_counts_every_element() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &[1.0; 19]), 171.0);
    }
}
