//! Generated parts of the documents.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, output, root};

const BEGIN: &str = "<!-- models:begin (written by `cargo xtask docs`) -->";
const END: &str = "<!-- models:end -->";

/// Writes the table of supported models into README.md; with `check`, only compares.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut rlx_run = cargo();
    rlx_run.args(["run", "--quiet", "--release", "--package", "rlx-models", "--bin", "rlx-run", "--"]);
    let text = output(rlx_run.args(["models", "--json"])).context("rlx-run models --json")?;
    let models: Value = serde_json::from_str(&text).context("rlx-run models printed no JSON")?;
    let path = root().join("README.md");
    let old = fs::read_to_string(&path).context("cannot read README.md")?;
    let new = replace(&old, &table(&models)?)?;
    if old == new {
        println!("docs: README.md is up to date");
    } else if check {
        bail!("README.md: the table of models is not what the registry says; run `cargo xtask docs`");
    } else {
        fs::write(&path, new).context("cannot write README.md")?;
        println!("docs: README.md written");
    }
    Ok(())
}

/// A Markdown table of the registry's families.
fn table(models: &Value) -> Result<String> {
    let mut out =
        String::from("| command | models | GGUF architecture | Hugging Face `model_type` |\n|---|---|---|---|\n");
    for model in models.as_array().context("the list of models is no array")? {
        let names = |key: &str| {
            let names = model[key].as_array().into_iter().flatten().filter_map(Value::as_str);
            names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let name = model["name"].as_str().context("a family without a name")?;
        let about = model["about"].as_str().unwrap_or_default();
        let cells =
            [format!("`rlx-run {name}`"), about.to_owned(), names("gguf_architectures"), names("hf_model_types")];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    Ok(out)
}

/// `document` with the text between the markers replaced.
fn replace(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("README.md has no line `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_its_markers() {
        let models = serde_json::json!([{ "name": "llama32", "about": "Llama 3|SmolLM2",
            "gguf_architectures": ["llama"], "hf_model_types": ["llama", "x"] }]);
        let table = table(&models).unwrap();
        assert!(table.ends_with("| `rlx-run llama32` | Llama 3\\|SmolLM2 | `llama` | `llama`, `x` |\n"), "{table}");
        let document = format!("top\n{BEGIN}\nold\n{END}\nend\n");
        let once = replace(&document, &table).unwrap();
        assert!(once.starts_with("top\n") && once.ends_with("\nend\n") && !once.contains("old"));
        assert_eq!(replace(&once, &table).unwrap(), once);
        assert!(replace("nothing", &table).is_err());
    }
}
