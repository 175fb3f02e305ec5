//! Names that people give to things.

use crate::codes::Code;
use crate::problem::Problem;

/// Longest name or label, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// The name without the blanks around it, or what is wrong with it.
pub fn name_problem(field: &str, name: &str) -> Result<String, Problem> {
    let name = name.trim();
    let wrong = if name.is_empty() {
        "must not be empty"
    } else if name.len() > MAX_NAME_BYTES {
        "has more than 200 bytes"
    } else if name.chars().any(char::is_control) {
        "must not contain control characters"
    } else {
        return Ok(name.to_owned());
    };
    Err(Problem::new(Code::InvalidRequest, format!("{field}: {wrong}.")))
}
