//! How the findings look to a person.

use anyhow::{Context, Result};
use std::ffi::OsStr;

use super::{LIMIT, Patient};
use crate::harness::run;

async fn text(patient: &Patient) -> Result<String> {
    let output = tokio::time::timeout(LIMIT, patient.command(&[] as &[&OsStr]).output()).await.context("no end")??;
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn each_check_is_a_line_and_what_to_do_stands_below_it() -> Result<()> {
    run(async {
        let patient = Patient::new()?.with("ORT_DYLIB_PATH", "/nowhere").with("CREST_HTTP__LISTEN", "192.0.2.1:80");
        let text = text(&patient).await?;
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("wrong  http-port ")).context(text.clone())?;
        assert!(lines[at + 1].starts_with("       ip -brief address"), "{text}");
        let columns: Vec<_> = lines
            .iter()
            .filter(|line| ["ok     ", "note   ", "wrong  "].iter().any(|state| line.starts_with(state)))
            .map(|line| {
                line[7..].find("  ").map(|gap| line[7 + gap..].len() - line[7 + gap..].trim_start().len() + gap)
            })
            .collect();
        assert!(columns.len() > 10 && columns.iter().all(|column| *column == columns[0]), "not aligned: {text}");
        assert!(lines.last().is_some_and(|line| line.starts_with("1 wrong, ")), "{text}");
        assert!(!text.contains('\x1b'), "colour where there is no terminal: {text}");
        Ok(())
    })
}

#[test]
fn colour_is_for_terminals_and_for_those_who_want_it() -> Result<()> {
    run(async {
        // `script` gives the program a terminal.
        let patient = Patient::new()?.under(&["sh", "-c", "exec script -qec \"$* \" /dev/null", "sh"]);
        let coloured = text(&patient).await?;
        assert!(coloured.contains("\x1b[32mok"), "{coloured}");
        let plain = text(&patient.with("NO_COLOR", "1")).await?;
        assert!(plain.contains("nothing is wrong") && !plain.contains('\x1b'), "{plain}");
        Ok(())
    })
}
