//! `make throttle`: plays the throttle against simulated providers, prints the table and draws the picture.
//!
//! With `--write` the table goes into PERFORMANCE.md and the picture into `benches/images`.

#![allow(clippy::cast_precision_loss, reason = "counts of calls in a simulation")]
#![allow(missing_docs, reason = "not a library")]

mod picture;
mod providers;
mod scenes;
mod world;

use std::path::Path;

const BEGIN: &str = "<!-- throttle: begin -->\n";
const END: &str = "<!-- throttle: end -->";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = scenes::table();
    println!("{table}");
    if !std::env::args().any(|argument| argument == "--write") {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = root.join("PERFORMANCE.md");
    let text = std::fs::read_to_string(&document)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("PERFORMANCE.md has no place for the throttle's table")?;
    let (_, after) = rest.split_once(END).ok_or("PERFORMANCE.md's place for the throttle's table does not end")?;
    std::fs::write(&document, format!("{before}{BEGIN}{table}{END}{after}"))?;
    let images = root.join("benches/images");
    std::fs::create_dir_all(&images)?;
    std::fs::write(images.join("throttle.svg"), picture::draw())?;
    Ok(())
}
