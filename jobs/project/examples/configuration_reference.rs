//! Prints `docs/configuration.md`.

fn main() -> std::io::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(tidemill_project::config::render_markdown().as_bytes())
}
