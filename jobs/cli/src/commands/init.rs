//! `tidemill init DIR`

use crate::args::InitArgs;
use crate::exit::Exit;
use crate::printer::Printer;

/// Writes a small working project.
pub(crate) fn run(args: &InitArgs, printer: Printer) -> anyhow::Result<Exit> {
    let files = tidemill_project::scaffold::init(&args.dir)?;
    let mut text = String::new();
    for file in &files {
        text.push_str(&format!("wrote {}\n", file.display()));
    }
    text.push_str(&format!(
        "\nnext:\n  cd {}\n  tidemill ingest --from-files events.jsonl\n  tidemill build\n  tidemill publish\n",
        args.dir.display()
    ));
    printer.result(&serde_json::json!({ "files": files }), &text);
    Ok(Exit::Done)
}
