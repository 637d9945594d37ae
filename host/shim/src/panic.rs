//! Turns a panic of the shim into an error.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::anyhow;

/// Calls a function, and returns an error if it panics.
///
/// # Errors
/// Those of the function, or the panic's message.
pub(super) fn catch_panic<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(describe(&*panic)))
}

fn describe(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    anyhow!("the shim panicked; please report this bug: {text}")
}

#[cfg(test)]
mod tests {
    use super::catch_panic;

    #[test]
    fn the_error_has_the_message_of_the_panic() {
        assert_eq!(catch_panic(|| Ok(1)).unwrap(), 1);
        let error = catch_panic::<()>(|| panic!("{} of {}", 2, 3)).unwrap_err();
        assert_eq!(error.to_string(), "the shim panicked; please report this bug: 2 of 3");
        let error = catch_panic::<()>(|| panic!("literal")).unwrap_err();
        assert!(error.to_string().ends_with(": literal"), "{error}");
    }
}
