//! The names of a model's classes: one line of `labels.txt` for each column of its scores.

use anyhow::ensure;

use super::Manifest;

/// What marks a column that stands for nothing (COCO's ids have ten holes).
const UNUSED: &str = "-";

/// Class names by column.
#[derive(Clone, Debug)]
pub struct Labels {
    lines: Vec<String>,
    first_class_id: u32,
}

impl Labels {
    /// Reads `labels.txt`: a name a line, `-` for a column that stands for nothing.
    ///
    /// # Errors
    /// Where there is no name at all.
    pub fn parse(text: &str, manifest: &Manifest) -> anyhow::Result<Self> {
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        ensure!(lines.iter().any(|line| line != UNUSED), "there is no label in it");
        Ok(Self { lines, first_class_id: manifest.output.first_class_id })
    }

    /// How many columns the scores have.
    pub fn columns(&self) -> usize {
        self.lines.len()
    }

    /// The name of a column; `None` for one that stands for nothing.
    pub fn name(&self, column: usize) -> Option<&str> {
        self.lines.get(column).map(String::as_str).filter(|name| *name != UNUSED)
    }

    /// The id a column has in the data set the model was trained on.
    pub fn class_id(&self, column: usize) -> u32 {
        self.first_class_id + u32::try_from(column).unwrap_or(u32::MAX)
    }

    /// The column of a name, whatever its case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| line != UNUSED && line.eq_ignore_ascii_case(name))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|name| *name != UNUSED)
    }

    /// All ids and names, in order.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.columns())
            .filter_map(|column| self.name(column).map(|name| (self.class_id(column), name)))
    }
}
