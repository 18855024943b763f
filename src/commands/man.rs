//! `man`: prints the manual page, or writes one per command.

use std::path::Path;

use super::{Outcome, print};
use crate::cli;
use crate::error::Error;

pub(super) fn man(folder: Option<&Path>) -> Outcome {
    // Files are named after the program; the text shows the command as users type it.
    let command = cli::command().bin_name("kubectl defender-sim");
    let Some(folder) = folder else {
        let mut page = vec![];
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.expect("writing to memory works");
        return Ok(print(move |report| {
            report.text(&String::from_utf8_lossy(&page));
        }));
    };
    let what = format!("manual pages into {}", folder.display());
    if let Err(source) = std::fs::create_dir_all(folder) {
        return Err(Error::Unwritable { what, source });
    }
    clap_mangen::generate_to(command, folder).map_err(|source| Error::Unwritten { what, source })?;
    Ok(print(|_| ()))
}
