//! Operators and filters of templates, with Python's meaning and charged to the [`Meter`].

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::meter::{Meter, Metered};
use super::python;

fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

fn unsupported(op: &str, a: &Value, b: &Value) -> Error {
    invalid(format!("unsupported operands for {op}: {} and {}", a.kind(), b.kind()))
}

fn is_list(v: &Value) -> bool {
    matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// `str(value)`.
fn text(meter: &Meter, v: &Value) -> Result<String, Error> {
    let mut out = Metered::new(meter);
    let result = python::write_str(&mut out, v);
    out.finish(result)
}

/// Both as integers, or both as floats.
enum Numbers {
    Int(i128, i128),
    Float(f64, f64),
}

fn numbers(a: &Value, b: &Value) -> Option<Numbers> {
    let int = |v: &Value| match v.kind() {
        ValueKind::Bool => Some(i128::from(v.is_true())),
        ValueKind::Number if v.is_integer() => i128::try_from(v.clone()).ok(),
        _ => None,
    };
    let float = |v: &Value| match v.kind() {
        ValueKind::Number => f64::try_from(v.clone()).ok(),
        _ => int(v).map(|i| i as f64),
    };
    match (int(a), int(b)) {
        (Some(a), Some(b)) => Some(Numbers::Int(a, b)),
        _ => Some(Numbers::Float(float(a)?, float(b)?)),
    }
}

/// An integer result in the smallest type, so that it stays usable as an index.
fn int_value(n: Option<i128>) -> Result<Value, Error> {
    let n = n.ok_or_else(|| invalid("integer overflow"))?;
    Ok(i64::try_from(n).map_or_else(|_| Value::from(n), Value::from))
}

fn add(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        meter.string(x.len() + y.len())?;
        return Ok(Value::from([x, y].concat()));
    }
    if is_list(a) && is_list(b) {
        meter.list(a.len().unwrap_or(0) + b.len().unwrap_or(0))?;
        return Ok(a.try_iter()?.chain(b.try_iter()?).collect());
    }
    match numbers(a, b) {
        Some(Numbers::Int(x, y)) => int_value(x.checked_add(y)),
        Some(Numbers::Float(x, y)) => Ok(Value::from(x + y)),
        None => Err(unsupported("+", a, b)),
    }
}

fn mul(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    let times = |n: &Value| n.as_i64().map(|n| usize::try_from(n).unwrap_or(0));
    for (what, n) in [(a, b), (b, a)] {
        if let (Some(s), Some(n)) = (what.as_str(), times(n)) {
            meter.string(s.len().saturating_mul(n))?;
            return Ok(Value::from(s.repeat(n)));
        }
        if let (true, Some(n)) = (is_list(what), times(n)) {
            meter.list(what.len().unwrap_or(0).saturating_mul(n))?;
            let items: Vec<Value> = what.try_iter()?.collect();
            return Ok((0..n).flat_map(|_| items.iter().cloned()).collect());
        }
    }
    match numbers(a, b) {
        Some(Numbers::Int(x, y)) => int_value(x.checked_mul(y)),
        Some(Numbers::Float(x, y)) => Ok(Value::from(x * y)),
        None => Err(unsupported("*", a, b)),
    }
}

fn concat(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    let (a, b) = (text(meter, a)?, text(meter, b)?);
    meter.string(a.len() + b.len())?;
    Ok(Value::from(a + &b))
}

fn equal(meter: &Meter, a: &Value, b: &Value) -> Result<bool, Error> {
    match (a.as_str(), b.as_str()) {
        (Some(x), Some(y)) => {
            meter.work(x.len().min(y.len()) / 16)?;
            Ok(x == y)
        }
        (None, None) => {
            if let Some(Numbers::Int(x, y)) = numbers(a, b) {
                return Ok(x == y);
            }
            meter.whole(a)?;
            meter.whole(b)?;
            Ok(a == b)
        }
        _ => Ok(false),
    }
}

fn order(meter: &Meter, op: &str, a: &Value, b: &Value) -> Result<std::cmp::Ordering, Error> {
    let unordered = |v: &Value| v.is_none() || v.is_undefined();
    if a.as_str().is_some() != b.as_str().is_some() || unordered(a) || unordered(b) {
        return Err(unsupported(op, a, b));
    }
    meter.whole(a)?;
    meter.whole(b)?;
    Ok(a.cmp(b))
}

fn contains(meter: &Meter, item: &Value, container: &Value) -> Result<bool, Error> {
    if let Some(s) = container.as_str() {
        meter.work(s.len())?;
        return item.as_str().map(|x| s.contains(x)).ok_or_else(|| unsupported("in", item, container));
    }
    match container.kind() {
        _ if container.is_undefined() => Ok(false),
        ValueKind::Map => {
            meter.whole(item)?;
            Ok(!container.get_item(item)?.is_undefined())
        }
        ValueKind::Seq | ValueKind::Iterable => {
            for v in container.try_iter()? {
                meter.list(1)?;
                if equal(meter, item, &v)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(unsupported("in", item, container)),
    }
}

/// Python's `value[start:stop:step]`.
fn slice(meter: &Meter, value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let bound = |v: &Value| match v.is_none() || v.is_undefined() {
        true => Ok(None),
        false => v.as_i64().map(Some).ok_or_else(|| invalid("slice bounds must be integers")),
    };
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(invalid("a slice cannot have step 0"));
    }
    let pick = |len: usize| -> Result<Vec<usize>, Error> {
        let len = len as i64;
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let clamp = |v: i64| (if v < 0 { v.saturating_add(len) } else { v }).clamp(low, high);
        let first = bound(start)?.map_or(if step > 0 { low } else { high }, clamp);
        let end = bound(stop)?.map_or(if step > 0 { high } else { low }, clamp);
        let mut at = first;
        let mut picked = Vec::new();
        while if step > 0 { at < end } else { at > end } {
            picked.push(at as usize);
            at = at.saturating_add(step);
        }
        Ok(picked)
    };
    if let Some(s) = value.as_str() {
        meter.list(s.len())?;
        let chars: Vec<char> = s.chars().collect();
        return Ok(Value::from(pick(chars.len())?.into_iter().map(|i| chars[i]).collect::<String>()));
    }
    if is_list(value) {
        meter.shallow(value)?;
        let items: Vec<Value> = value.try_iter()?.collect();
        return Ok(pick(items.len())?.into_iter().map(|i| items[i].clone()).collect());
    }
    if value.is_undefined() || value.is_none() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    Err(invalid(format!("a {} cannot be sliced", value.kind())))
}

fn join(meter: &Meter, value: &Value, separator: Option<&str>, attribute: Option<&str>) -> Result<Value, Error> {
    let mut out = Metered::new(meter);
    let mut write = || -> Result<(), Error> {
        for (i, item) in value.try_iter()?.enumerate() {
            if i > 0 {
                python::write_str(&mut out, &Value::from(separator.unwrap_or("")))?;
            }
            match attribute {
                Some(name) => python::write_str(&mut out, &item.get_attr(name)?)?,
                None => python::write_str(&mut out, &item)?,
            }
        }
        Ok(())
    };
    let result = write();
    out.finish(result).map(Value::from)
}

fn replace(meter: &Meter, s: &str, from: &str, to: &str, count: Option<i64>) -> Result<Value, Error> {
    meter.work(s.len())?;
    let most = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let hits = s.matches(from).take(most).count();
    meter.string((s.len() + hits.saturating_mul(to.len())).saturating_sub(hits * from.len()))?;
    Ok(Value::from(s.replacen(from, to, most)))
}

fn indent(meter: &Meter, s: &str, width: &Value, first: bool, blank: bool) -> Result<Value, Error> {
    let lines = s.split('\n').count();
    let pad = match (width.as_str(), width.as_usize()) {
        (Some(pad), _) => pad.to_owned(),
        (None, Some(n)) => {
            meter.string(n)?;
            " ".repeat(n)
        }
        (None, None) => return Err(invalid("indent: the width must be a number or a string")),
    };
    meter.string(s.len() + lines.saturating_mul(pad.len()))?;
    let mut out = String::new();
    for (i, line) in s.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let padded = if i == 0 { first } else { blank || !line.is_empty() };
        if padded {
            out.push_str(&pad);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

/// Lists come out of filters as lists, not as chains of pending iterators, and charged.
fn settle(meter: &Meter, v: Value) -> Result<Value, Error> {
    if let Some(s) = v.as_str() {
        meter.string(s.len())?;
        return Ok(v);
    }
    if is_list(&v) {
        let mut items = Vec::new();
        for item in v.try_iter()? {
            meter.list(1)?;
            items.push(item);
        }
        meter.container(&items)?;
        return Ok(Value::from(items));
    }
    meter.whole(&v)?;
    Ok(v)
}

/// Filters whose cost does not depend on what is inside the items of a list, and whose result is a part of the input.
const SHALLOW: &[&str] = &[
    "length",
    "count",
    "first",
    "last",
    "default",
    "d",
    "trim",
    "upper",
    "lower",
    "title",
    "capitalize",
    "safe",
    "e",
    "escape",
    "int",
    "float",
    "abs",
    "round",
    "bool",
];

/// Filters that take `str()` of what they are given.
const OF_STRINGS: &[&str] = &["trim", "upper", "lower", "title", "capitalize"];

/// Runs one of the engine's filters on charged operands.
fn filter(meter: &Meter, state: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let shallow = SHALLOW.contains(&name);
    for arg in args {
        if shallow {
            meter.shallow(arg)?;
        } else {
            meter.whole(arg)?;
        }
    }
    let operand = args.first().filter(|v| v.as_str().is_none() && !v.is_undefined());
    let result = match operand {
        Some(v) if OF_STRINGS.contains(&name) => {
            let mut converted = args.to_vec();
            converted[0] = Value::from(text(meter, v)?);
            state.apply_filter(name, &converted)?
        }
        _ => state.apply_filter(name, args)?,
    };
    if shallow {
        meter.shallow(&result)?;
        return Ok(result);
    }
    settle(meter, result)
}

/// Python methods of strings, dicts and lists.
fn method(meter: &Meter, state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(s) = value.as_str() {
        meter.work(s.len())?;
        match (name, args) {
            ("join", [list]) => return join(meter, list, Some(s), None),
            ("replace", [from, to]) | ("replace", [from, to, _]) => {
                let text = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| invalid("replace takes strings"));
                return replace(meter, s, &text(from)?, &text(to)?, args.get(2).and_then(Value::as_i64));
            }
            ("format", _) => check_format(meter, s, args)?,
            _ => {}
        }
    }
    for arg in args {
        meter.shallow(arg)?;
    }
    settle(meter, minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?)
}

/// A format string must not ask for absurd widths.
fn check_format(meter: &Meter, format: &str, args: &[Value]) -> Result<(), Error> {
    let widest = format.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    if widest > 3 {
        return Err(invalid("format: numbers in the format string must have at most three digits"));
    }
    let mut size = 0usize;
    for arg in args {
        meter.whole(arg)?;
        size = size.saturating_add(text(meter, arg)?.len());
    }
    let uses = format.matches(['%', '{']).count();
    meter.string(format.len().saturating_add(uses.saturating_mul(size.saturating_add(1000))))
}

/// Name of the function that stands in for a filter.
pub(super) fn filter_function(name: &str) -> Option<&'static str> {
    FILTERS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

macro_rules! filters {
    ($($name:literal)*) => { &[$(($name, concat!("filter ", $name))),*] };
}

/// Filters on offer. Those of the engine that could make much out of little are left out or are our own.
const FILTERS: &[(&str, &str)] = filters![
    "abs" "attr" "bool" "capitalize" "count" "d" "default" "dictsort" "e" "escape" "first" "float" "format" "groupby"
    "indent" "int" "items" "join" "last" "length" "list" "lower" "map" "max" "min" "reject" "rejectattr" "replace"
    "reverse" "round" "safe" "select" "selectattr" "sort" "split" "string" "sum" "title" "tojson" "trim" "unique"
    "upper"
];

/// Functions that stand in for instructions; the spaces keep them out of a template's reach.
pub(super) const ADD: &str = "operator +";
pub(super) const MUL: &str = "operator *";
pub(super) const CONCAT: &str = "operator ~";
pub(super) const SLICE: &str = "operator [:]";
pub(super) const ITEM: &str = "operator []";
pub(super) const IN: &str = "operator in";
pub(super) const EQ: &str = "operator ==";
pub(super) const NE: &str = "operator !=";
pub(super) const LT: &str = "operator <";
pub(super) const LE: &str = "operator <=";
pub(super) const GT: &str = "operator >";
pub(super) const GE: &str = "operator >=";
pub(super) const LIST: &str = "operator [...]";
pub(super) const MAP: &str = "operator {...}";

/// Adds everything above to an environment.
pub(super) fn install(env: &mut Environment<'_>, meter: &Meter) {
    macro_rules! binary {
        ($name:expr, $f:expr) => {{
            let m = meter.clone();
            env.add_function($name, move |a: Value, b: Value| -> Result<Value, Error> { $f(&m, &a, &b) });
        }};
    }
    binary!(ADD, add);
    binary!(MUL, mul);
    binary!(CONCAT, concat);
    binary!(EQ, |m: &Meter, a: &Value, b: &Value| equal(m, a, b).map(Value::from));
    binary!(NE, |m: &Meter, a: &Value, b: &Value| equal(m, a, b).map(|eq| Value::from(!eq)));
    binary!(LT, |m: &Meter, a: &Value, b: &Value| order(m, "<", a, b).map(|o| Value::from(o.is_lt())));
    binary!(LE, |m: &Meter, a: &Value, b: &Value| order(m, "<=", a, b).map(|o| Value::from(o.is_le())));
    binary!(GT, |m: &Meter, a: &Value, b: &Value| order(m, ">", a, b).map(|o| Value::from(o.is_gt())));
    binary!(GE, |m: &Meter, a: &Value, b: &Value| order(m, ">=", a, b).map(|o| Value::from(o.is_ge())));
    binary!(IN, |m: &Meter, a: &Value, b: &Value| contains(m, a, b).map(Value::from));
    binary!(ITEM, |m: &Meter, base: &Value, key: &Value| {
        m.work(base.as_str().map_or(0, str::len))?;
        base.get_item(key)
    });
    let m = meter.clone();
    env.add_function(SLICE, move |v: Value, start: Value, stop: Value, step: Value| {
        slice(&m, &v, &start, &stop, &step)
    });
    let m = meter.clone();
    env.add_function(LIST, move |items: Rest<Value>| -> Result<Value, Error> {
        m.container(items.iter())?;
        Ok(Value::from(items.0))
    });
    let m = meter.clone();
    env.add_function(MAP, move |items: Rest<Value>| -> Result<Value, Error> {
        m.container(items.iter())?;
        Ok(items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    });

    for &(name, function) in FILTERS {
        let m = meter.clone();
        env.add_function(function, move |state: &State<'_, '_>, args: Rest<Value>| filter(&m, state, name, &args));
    }
    let m = meter.clone();
    env.add_filter("string", move |v: Value| text(&m, &v));
    env.add_filter("tojson", |v: Value, kwargs: Kwargs| python::tojson(v, kwargs));
    let m = meter.clone();
    env.add_filter("join", move |v: Value, separator: Option<String>, kwargs: Kwargs| {
        let attribute: Option<String> = kwargs.get("attribute")?;
        let d: Option<String> = kwargs.get("d")?;
        kwargs.assert_all_used()?;
        join(&m, &v, separator.or(d).as_deref(), attribute.as_deref())
    });
    let m = meter.clone();
    env.add_filter("replace", move |v: Value, from: String, to: String, count: Option<i64>| {
        let s = text(&m, &v)?;
        replace(&m, &s, &from, &to, count)
    });
    let m = meter.clone();
    env.add_filter(
        "indent",
        move |s: String, width: Option<Value>, first: Option<bool>, blank: Option<bool>, kwargs: Kwargs| {
            let width = match width {
                Some(w) => w,
                None => kwargs.get::<Option<Value>>("width")?.unwrap_or(Value::from(4)),
            };
            let first = first.or(kwargs.get("first")?).unwrap_or(false);
            let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            indent(&m, &s, &width, first, blank)
        },
    );
    let m = meter.clone();
    env.add_filter("sum", move |v: Value, attribute: Option<String>| {
        let mut total = Value::from(0);
        for item in v.try_iter()? {
            let item = attribute.as_deref().map_or_else(|| Ok(item.clone()), |name| item.get_attr(name))?;
            if item.as_str().is_some() || is_list(&item) {
                return Err(invalid("sum adds numbers"));
            }
            total = add(&m, &total, &item)?;
        }
        Ok(total)
    });
    let m = meter.clone();
    env.add_filter("format", move |state: &State<'_, '_>, s: Value, args: Rest<Value>| {
        check_format(&m, s.as_str().unwrap_or_default(), &args)?;
        minijinja::filters::format(state, &s, args)
    });
    let m = meter.clone();
    env.add_filter("map", move |state: &State<'_, '_>, v: Value, args: Rest<Value>, kwargs: Kwargs| {
        let attribute: Option<String> = kwargs.get("attribute")?;
        let default: Option<Value> = kwargs.get("default")?;
        kwargs.assert_all_used()?;
        let one = |item: Value| -> Result<Value, Error> {
            if let Some(path) = &attribute {
                let mut found = item;
                for name in path.split('.') {
                    found = found.get_attr(name)?;
                }
                return Ok(if found.is_undefined() { default.clone().unwrap_or(found) } else { found });
            }
            let name =
                args.first().and_then(Value::as_str).ok_or_else(|| invalid("map: give a filter or attribute="))?;
            if filter_function(name).is_none() {
                return Err(Error::new(ErrorKind::UnknownFilter, format!("filter {name} is unknown")));
            }
            let mut operands = vec![item];
            operands.extend_from_slice(&args[1..]);
            filter(&m, state, name, &operands)
        };
        v.try_iter()?.map(one).collect::<Result<Vec<Value>, Error>>()
    });
    for name in ["batch", "slice", "pprint", "chain", "zip", "urlencode", "lines"] {
        env.remove_filter(name);
    }

    for (name, wanted) in [("eq", true), ("equalto", true), ("==", true), ("ne", false), ("!=", false)] {
        let m = meter.clone();
        env.add_test(name, move |a: Value, b: Value| equal(&m, &a, &b).map(|eq| eq == wanted));
    }
    let m = meter.clone();
    env.add_test("in", move |item: Value, container: Value| contains(&m, &item, &container));
    env.add_test("iterable", |v: Value| {
        !v.is_none() && (v.is_undefined() || v.as_str().is_some() || v.try_iter().is_ok())
    });

    let m = meter.clone();
    env.add_function("namespace", move |defaults: Option<Value>| {
        m.namespace()?;
        minijinja::functions::namespace(defaults)
    });
    env.remove_global("debug");

    let m = meter.clone();
    env.set_unknown_method_callback(move |state, value, name, args| method(&m, state, value, name, args));
    let m = meter.clone();
    env.set_formatter(move |out, _state, value| {
        let written = match value.as_str() {
            Some(s) => {
                m.work(s.len())?;
                return out.write_str(s).map_err(Error::from);
            }
            None => text(&m, value)?,
        };
        out.write_str(&written).map_err(Error::from)
    });
}
