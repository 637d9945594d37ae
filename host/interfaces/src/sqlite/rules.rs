//! Denies what components' SQL statements must not do: reach other files, or change limits.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// The pragmas that components may use. Others change limits, or what other connections see.
const ALLOWED_PRAGMAS: [&str; 24] = [
    "application_id",
    "case_sensitive_like",
    "collation_list",
    "compile_options",
    "data_version",
    "defer_foreign_keys",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "optimize",
    "page_count",
    "quick_check",
    "recursive_triggers",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];
/// The pragmas that they may only read.
const READ_ONLY_PRAGMAS: [&str; 2] = ["journal_mode", "page_size"];

/// Keeps a component's statements from other files and from the limits.
pub(crate) fn authorize(context: &AuthContext<'_>) -> Authorization {
    match context.action {
        // `VACUUM` attaches a temporary database, which has no name.
        AuthAction::Attach { filename } if !filename.is_empty() => Authorization::Deny,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let is = |known: &&str| known.eq_ignore_ascii_case(pragma_name);
            let is_read = pragma_value.is_none() && READ_ONLY_PRAGMAS.iter().any(is);
            if is_read || ALLOWED_PRAGMAS.iter().any(is) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        }
        _ => Authorization::Allow,
    }
}
