//! Runs of samples as bytes: what a row of the file holds.
//!
//! Most of an app's figures do not move most of the time, so each field is written in the shortest
//! of a few forms. What cannot be decoded counts as missing: a figure is never made up.

/// Steps in one block.
pub(super) const BLOCK: usize = 20;

/// The most fields of a series; longer rows are not ours.
pub(super) const MAX_FIELDS: usize = 64;

const ABSENT: u8 = 0;
const ZERO: u8 = 1;
const CONSTANT: u8 = 2;
const VARIED: u8 = 3;

/// What several samples of one field come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// How many samples there are; the others are missing.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The smallest; infinite without any.
    pub min: f32,
    /// The largest.
    pub max: f32,
}

impl Default for Cell {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Cell {
    /// Adds a sample; one that is no number is missing.
    pub fn add(&mut self, value: f32) {
        if value.is_finite() {
            self.merge(&Self { count: 1, sum: value.into(), min: value, max: value });
        }
    }

    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Their mean, if there are any.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// The samples of one block, one row of fields for each step; missing ones are NaN.
pub(super) fn encode_samples(rows: &[Option<Vec<f32>>; BLOCK]) -> Vec<u8> {
    let fields = rows.iter().flatten().map(Vec::len).max().unwrap_or(0).min(MAX_FIELDS);
    let mut bytes = vec![u8::try_from(fields).unwrap_or(u8::MAX)];
    for field in 0..fields {
        let value = |row: &Option<Vec<f32>>| {
            row.as_ref().and_then(|row| row.get(field)).copied().unwrap_or(f32::NAN)
        };
        let column: Vec<f32> = rows.iter().map(value).collect();
        let first = column[0];
        if column.iter().all(|value| !value.is_finite()) {
            bytes.push(ABSENT);
        } else if column.iter().any(|value| *value != first) {
            bytes.push(VARIED);
            column.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        } else if first == 0.0 {
            bytes.push(ZERO);
        } else {
            bytes.push(CONSTANT);
            bytes.extend(first.to_le_bytes());
        }
    }
    bytes
}

/// The columns of a block, one for each field; none of those behind a damaged place.
pub(super) fn decode_samples(bytes: &[u8]) -> Vec<[f32; BLOCK]> {
    let mut reader = Reader(bytes);
    let fields = reader.byte().unwrap_or(0);
    (0..fields).map_while(|_| column(&mut reader)).collect()
}

fn column(reader: &mut Reader<'_>) -> Option<[f32; BLOCK]> {
    let mut column = [f32::NAN; BLOCK];
    match reader.byte()? {
        ABSENT => {}
        ZERO => column = [0.0; BLOCK],
        CONSTANT => column = [reader.float()?; BLOCK],
        VARIED => {
            for value in &mut column {
                *value = reader.float()?;
            }
        }
        _ => return None,
    }
    Some(column)
}

/// One cell for each field.
pub(super) fn encode_cells(cells: &[Cell]) -> Vec<u8> {
    let fields = cells.len().min(MAX_FIELDS);
    let mut bytes = vec![u8::try_from(fields).unwrap_or(u8::MAX)];
    for cell in &cells[..fields] {
        let count = u16::try_from(cell.count).unwrap_or(u16::MAX).to_le_bytes();
        if cell.count == 0 {
            bytes.push(ABSENT);
        } else if cell.min == 0.0 && cell.max == 0.0 {
            bytes.push(ZERO);
            bytes.extend(count);
        } else if cell.min == cell.max {
            bytes.push(CONSTANT);
            bytes.extend(count);
            bytes.extend(cell.min.to_le_bytes());
        } else {
            bytes.push(VARIED);
            bytes.extend(count);
            bytes.extend(cell.sum.to_le_bytes());
            bytes.extend(cell.min.to_le_bytes());
            bytes.extend(cell.max.to_le_bytes());
        }
    }
    bytes
}

/// What [`encode_cells`] wrote; none of those behind a damaged place.
pub(super) fn decode_cells(bytes: &[u8]) -> Vec<Cell> {
    let mut reader = Reader(bytes);
    let fields = reader.byte().unwrap_or(0);
    (0..fields).map_while(|_| cell(&mut reader)).collect()
}

fn cell(reader: &mut Reader<'_>) -> Option<Cell> {
    let form = reader.byte()?;
    if form == ABSENT {
        return Some(Cell::default());
    }
    let count = u32::from(u16::from_le_bytes(reader.take()?));
    let same = |value: f32| Cell {
        count,
        sum: f64::from(value) * f64::from(count),
        min: value,
        max: value,
    };
    match form {
        ZERO => Some(same(0.0)),
        CONSTANT => Some(same(reader.float()?)),
        VARIED => Some(Cell {
            count,
            sum: f64::from_le_bytes(reader.take()?),
            min: reader.float()?,
            max: reader.float()?,
        }),
        _ => None,
    }
}

/// Merges `cells` into `into`, which grows to as many fields.
pub(super) fn merge(into: &mut Vec<Cell>, cells: &[Cell]) {
    if into.len() < cells.len() {
        into.resize(cells.len(), Cell::default());
    }
    into.iter_mut().zip(cells).for_each(|(into, cell)| into.merge(cell));
}

/// Adds one row of samples to `into`.
pub(super) fn add_row(into: &mut Vec<Cell>, row: &[f32]) {
    if into.len() < row.len() {
        into.resize(row.len(), Cell::default());
    }
    into.iter_mut().zip(row).for_each(|(into, value)| into.add(*value));
}

/// A row as it is kept until its block is full.
pub(super) fn encode_row(row: &[f32]) -> Vec<u8> {
    row.iter().take(MAX_FIELDS).flat_map(|value| value.to_le_bytes()).collect()
}

/// What [`encode_row`] wrote.
pub(super) fn decode_row(bytes: &[u8]) -> Vec<f32> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(|| reader.float()).take(MAX_FIELDS).collect()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn float(&mut self) -> Option<f32> {
        self.take().map(f32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f32]) -> Cell {
        let mut cell = Cell::default();
        values.iter().for_each(|value| cell.add(*value));
        cell
    }

    #[test]
    fn an_idle_block_takes_a_byte_for_each_field() {
        let rows: [Option<Vec<f32>>; BLOCK] = std::array::from_fn(|_| Some(vec![0.0; 30]));
        let bytes = encode_samples(&rows);
        assert_eq!(bytes.len(), 31);
        assert_eq!(decode_samples(&bytes), vec![[0.0; BLOCK]; 30]);
    }

    #[test]
    fn gaps_stay_gaps() {
        let mut rows: [Option<Vec<f32>>; BLOCK] = std::array::from_fn(|_| None);
        rows[3] = Some(vec![7.0, f32::NAN]);
        let columns = decode_samples(&encode_samples(&rows));
        assert_eq!(columns[0][3], 7.0);
        assert!(columns[0][4].is_nan() && columns[1].iter().all(|value| value.is_nan()));
    }

    #[test]
    fn cells_say_count_sum_and_extremes() {
        let cells =
            [of(&[]), of(&[0.0; 3]), of(&[2.5; 4]), of(&[1.0, 5.0, f32::NAN, 3.0]), of(&[-1.0])];
        assert_eq!(decode_cells(&encode_cells(&cells)), cells);
        assert_eq!((cells[3].mean(), cells[3].min, cells[3].max), (Some(3.0), 1.0, 5.0));
        assert_eq!(cells[0].mean(), None);
    }

    proptest! {
        #[test]
        fn whatever_bytes_are_read_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode_samples(&bytes), decode_cells(&bytes), decode_row(&bytes));
        }

        #[test]
        fn rows_come_back(row in prop::collection::vec(-1e9f32..1e9, 0..40)) {
            prop_assert_eq!(decode_row(&encode_row(&row)), row);
        }
    }
}
