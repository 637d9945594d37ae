//! The names of a model's classes. `labels.txt` has one line for each column of the scores.

use anyhow::ensure;

use super::ModelConfig;

/// The line of an unused column. COCO has ten unused ids.
const UNUSED_COLUMN: &str = "-";

/// Class names by column.
#[derive(Clone, Debug)]
pub struct Labels {
    lines: Vec<String>,
    first_class_id: u32,
}

impl Labels {
    /// Parses `labels.txt`: one name per line, `-` for an unused column.
    ///
    /// # Errors
    /// If there is no name, one contains a comma, or there are more than there can be ids.
    pub fn parse(text: &str, config: &ModelConfig) -> anyhow::Result<Self> {
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        ensure!(
            lines.iter().any(|line| line != UNUSED_COLUMN),
            "there is no label; write one class name per line"
        );
        for (index, line) in lines.iter().enumerate() {
            ensure!(
                !line.contains(','),
                "line {}: the label {line:?} contains a comma, which separates labels in the option `classes`",
                index + 1
            );
        }
        let first_class_id = config.output.first_class_id;
        let last = u32::try_from(lines.len()).ok().and_then(|n| first_class_id.checked_add(n));
        ensure!(
            last.is_some(),
            "output.first_class_id is {first_class_id}, so the ids of {} labels exceed {}",
            lines.len(),
            u32::MAX
        );
        Ok(Self { lines, first_class_id })
    }

    /// The number of columns of the scores.
    pub fn columns(&self) -> usize {
        self.lines.len()
    }

    /// The name of a column; `None` if it is unused.
    pub fn name(&self, column: usize) -> Option<&str> {
        self.lines.get(column).map(String::as_str).filter(|name| *name != UNUSED_COLUMN)
    }

    /// The id of a column's class in the data set that the model was trained on.
    pub fn class_id(&self, column: usize) -> u32 {
        self.first_class_id + u32::try_from(column).unwrap_or(u32::MAX)
    }

    /// The column of a name, ignoring case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| line != UNUSED_COLUMN && line.eq_ignore_ascii_case(name))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|name| *name != UNUSED_COLUMN)
    }

    /// All ids and names, in order.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..self.columns())
            .filter_map(|column| self.name(column).map(|name| (self.class_id(column), name)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Labels, ModelConfig};

    #[test]
    fn every_label_has_an_id() {
        const TEXT: &str = include_str!("../../model/nanodet_g/model.toml");
        let manifest = |first: u32| {
            let text = TEXT.replace("first_class_id = 0", &format!("first_class_id = {first}"));
            ModelConfig::parse(&text).expect("a manifest")
        };
        let labels = Labels::parse("a\n-\nb", &manifest(u32::MAX - 3)).expect("labels");
        let ids = labels.entries().collect::<Vec<_>>();
        assert_eq!(ids, [(u32::MAX - 3, "a"), (u32::MAX - 1, "b")]);
        let refused = Labels::parse("a\n-\nb", &manifest(u32::MAX - 2)).expect_err("refused");
        assert!(refused.to_string().contains("first_class_id is 4294967293"), "{refused}");
        let refused = Labels::parse("a\nb, c", &manifest(0)).expect_err("refused");
        assert!(refused.to_string().contains("line 2: the label \"b, c\""), "{refused}");
    }
}
