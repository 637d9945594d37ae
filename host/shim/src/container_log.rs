//! Writes to a container's log before the container has a process.

use std::fs::File;
use std::io::Write;

use super::stdio;

/// A container's standard error.
pub struct ContainerLog {
    /// As containerd names it.
    name: String,
    /// Kept open until the container has its own: containerd stops reading when the last writer closes a pipe.
    stream: Option<File>,
}

impl ContainerLog {
    /// The log of the container whose standard error containerd calls by this name.
    #[must_use]
    pub fn new(stderr: &str) -> Self {
        Self { name: stderr.to_owned(), stream: None }
    }

    /// Writes a line. The container works without it, so a failure only appears in containerd's log.
    pub fn write_line(&mut self, line: &str) {
        if let Err(error) = self.try_write(line) {
            log::warn!("cannot write {line:?} to the container's log: {error:#}");
        }
    }

    fn try_write(&mut self, line: &str) -> anyhow::Result<()> {
        if self.stream.is_none() {
            self.stream = stdio::open(&self.name)?;
        }
        if let Some(stream) = &mut self.stream {
            writeln!(stream, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerLog;

    #[test]
    fn lines_reach_a_log_and_a_missing_log_is_not_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = ContainerLog::new(&format!("file://{}", path.display()));
        log.write_line("one");
        log.write_line("two");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
        for nowhere in ["", "binary:///logger", "/nowhere/pipe"] {
            ContainerLog::new(nowhere).write_line("nothing");
        }
    }
}
