//! A limit on the memory that a result takes in the host.

use super::error::ClientError;

/// What a result may still take. Its values can take much more memory than they did on their way.
pub(super) struct Budget {
    max_bytes: usize,
    spent: usize,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, spent: 0 }
    }

    pub(super) fn spent(&self) -> usize {
        self.spent
    }

    /// Counts memory before it is allocated.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), ClientError> {
        self.spent += bytes;
        if self.spent > self.max_bytes {
            return Err(ClientError::QueryFailed(format!(
                "the result takes more than {} bytes; read it in steps, with LIMIT",
                self.max_bytes
            )));
        }
        Ok(())
    }
}
