//! Parsers of argument values. Their errors say what is expected.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rlx_ir::DType;
use rlx_runtime::{Device, Isa};
use rlx_weights::quantize::{FileType, TensorType};

/// A number >= 0.
///
/// # Errors
/// Anything else, infinities and NaN too.
pub fn non_negative(text: &str) -> Result<f32, String> {
    number(text, |v| v >= 0.0, "a number >= 0")
}

/// A number > 0.
///
/// # Errors
/// Anything else, infinities and NaN too.
pub fn positive(text: &str) -> Result<f32, String> {
    number(text, |v| v > 0.0, "a number > 0")
}

/// A share in (0, 1].
///
/// # Errors
/// Anything else.
pub fn positive_share(text: &str) -> Result<f32, String> {
    number(text, |v| v > 0.0 && v <= 1.0, "a number above 0 and at most 1")
}

/// A share in [0, 1].
///
/// # Errors
/// Anything else.
pub fn share(text: &str) -> Result<f32, String> {
    number(text, |v| (0.0..=1.0).contains(&v), "a number from 0 to 1")
}

fn number(text: &str, ok: impl Fn(f32) -> bool, expected: &str) -> Result<f32, String> {
    match text.trim().parse::<f32>() {
        Ok(value) if value.is_finite() && ok(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

/// A whole number >= 1.
///
/// # Errors
/// Anything else.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(value) if value >= 1 => Ok(value),
        _ => Err("expected a whole number >= 1".to_owned()),
    }
}

/// A device of this build.
///
/// # Errors
/// Unknown names, and devices that are not built in.
pub fn device(text: &str) -> Result<Device, String> {
    text.parse::<Device>().map_err(|e| e.to_string())
}

/// An instruction set of this machine, or `auto`.
///
/// # Errors
/// Unknown names, and instruction sets that this machine lacks.
pub fn isa(text: &str) -> Result<Isa, String> {
    Isa::from_option(&text.to_ascii_lowercase()).map_err(|e| e.to_string())
}

/// Token ids: `1,2,3`, also with spaces.
///
/// # Errors
/// Names what is no id.
pub fn ids(text: &str) -> Result<Vec<u32>, String> {
    let parts = text.split([',', ' ', '\n', '\t', '\r']).filter(|part| !part.is_empty());
    parts.map(|part| part.parse::<u32>().map_err(|_| format!("`{part}` is no token id"))).collect()
}

/// Rows of token ids: `1,2;3,4`.
///
/// # Errors
/// As [`ids`], and for an empty row.
pub fn id_rows(text: &str) -> Result<Vec<Vec<u32>>, String> {
    let rows: Vec<Vec<u32>> = text.trim_end_matches(';').split(';').map(ids).collect::<Result<_, _>>()?;
    if rows.iter().any(Vec::is_empty) {
        return Err("expected token ids, e.g. 1,2,3".to_owned());
    }
    Ok(rows)
}

/// An `http://` or `https://` address; a slash at its end is taken off.
///
/// # Errors
/// Anything else.
pub fn http_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.trim_matches('/').is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("expected an address like https://host, found `{text}`")),
    }
}

/// A kind of GGUF file: `Q4_K_M`.
pub fn file_type() -> impl TypedValueParser<Value = FileType> {
    PossibleValuesParser::new(FileType::all().map(FileType::name)).try_map(|name| name.parse::<FileType>())
}

/// An element type that can be written: `Q6_K`.
///
/// # Errors
/// Unknown types, and those that cannot be made.
pub fn dtype(text: &str) -> Result<DType, String> {
    let known = |dtype: &DType| dtype.ggml_id().is_some() && rlx_quant::can_quantize(*dtype);
    DType::from_name(text).filter(known).ok_or_else(|| {
        let names: Vec<&str> = DType::all().filter(known).map(DType::name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// `PATTERN=TYPE`: the type of the tensors whose names the regular expression is found in.
///
/// # Errors
/// No `=`, a bad expression, and as [`dtype`].
pub fn tensor_type(text: &str) -> Result<TensorType, String> {
    let (pattern, name) = text.rsplit_once('=').ok_or("expected PATTERN=TYPE, e.g. ffn_down=Q6_K")?;
    let pattern = regex::Regex::new(pattern).map_err(|error| error.to_string().replace('\n', " "))?;
    Ok(TensorType { pattern, dtype: dtype(name)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(non_negative("0"), Ok(0.0));
        for bad in ["-1", "nan", "inf", "", "x"] {
            assert!(non_negative(bad).is_err(), "{bad}");
        }
        assert!(positive_share("0").is_err() && positive_share("1").is_ok() && share("1.01").is_err());
        assert!(at_least_one("0").is_err() && at_least_one("-1").is_err());
    }

    #[test]
    fn lists_of_ids() {
        assert_eq!(ids("1,2, 3"), Ok(vec![1, 2, 3]));
        assert_eq!(ids("1,x").unwrap_err(), "`x` is no token id");
        assert!(ids("4294967296").is_err());
        assert_eq!(id_rows("1,2;3"), Ok(vec![vec![1, 2], vec![3]]));
        assert!(id_rows("").is_err() && id_rows("1;;2").is_err());
    }

    #[test]
    fn devices_and_instruction_sets() {
        assert_eq!(device("cpu"), Ok(Device::Cpu));
        assert!(device("cuda").unwrap_err().contains("not built into this binary"));
        assert!(isa("Scalar").is_ok() && isa("auto").is_ok() && isa("sse1").is_err());
    }

    #[test]
    fn addresses() {
        assert_eq!(http_url("https://h/x/"), Ok("https://h/x".to_owned()));
        assert!(http_url("h").is_err() && http_url("https://").is_err() && http_url("ftp://h").is_err());
    }
}
