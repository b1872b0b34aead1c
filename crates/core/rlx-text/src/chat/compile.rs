//! From source to instructions whose every operation is charged to the [`Meter`](super::meter::Meter).

use std::sync::Arc;

use minijinja::machinery::{
    CompiledTemplate, Instruction, Instructions, TemplateConfig, Token, WhitespaceConfig, tokenize,
};
use minijinja::{AutoEscape, Error, ErrorKind};

use super::meter::MAX_WORK;
use super::ops;

/// Tokens of one tag; longer expressions would overflow the compiler's stack.
const MAX_TAG_TOKENS: usize = 1000;
/// `elif`s of the whole template, for the same reason.
const MAX_ELIF: usize = 500;
/// Multiplications of the whole template: the compiler computes constant ones, as large as they may be.
const MAX_MULTIPLICATIONS: usize = 8;
/// Instructions a template may run.
const MAX_FUEL: u64 = 2_000_000;

const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// A template ready to run.
pub(super) struct Compiled<'a> {
    pub(super) template: CompiledTemplate<'a>,
    /// Instructions it may run.
    pub(super) fuel: u64,
}

fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("the template has {what}"))
}

fn loads_another() -> Error {
    Error::new(ErrorKind::SyntaxError, "a chat template cannot load other templates")
}

/// Refuses sources that only the compiler would suffer from.
fn check_tokens(source: &str) -> Result<(), Error> {
    let (mut in_tag, mut elifs, mut products) = (0usize, 0usize, 0usize);
    let mut opens_block = false;
    for token in tokenize(source, false, Default::default(), WHITESPACE) {
        in_tag += 1;
        let token = token?.0;
        let is_statement = std::mem::replace(&mut opens_block, matches!(token, Token::BlockStart));
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => in_tag = 0,
            // Before the compiler sees them: it panics at `{% import 'x' as f() %}`.
            Token::Ident("import" | "from" | "include" | "extends") if is_statement => return Err(loads_another()),
            Token::Ident("elif") => elifs += 1,
            Token::Mul | Token::Pow => products += 1,
            Token::Int(n) if n > 1 << 40 => return Err(too_large("an absurd number")),
            _ => {}
        }
        if in_tag > MAX_TAG_TOKENS {
            return Err(too_large("too long an expression"));
        }
        if elifs > MAX_ELIF {
            return Err(too_large("too many branches"));
        }
        if products > MAX_MULTIPLICATIONS {
            return Err(too_large("too many multiplications"));
        }
    }
    Ok(())
}

/// Compiles `source`.
pub(super) fn compile<'a>(name: &'a str, source: &'a str) -> Result<Compiled<'a>, Error> {
    check_tokens(source)?;
    let config = TemplateConfig {
        syntax_config: Default::default(),
        ws_config: WHITESPACE,
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    let mut template = CompiledTemplate::new(name, source, &config)?;
    let mut longest = charge(&mut template.instructions)?;
    for block in template.blocks.values_mut() {
        longest = longest.max(charge(block)?);
    }
    // Text between tags is written uncharged; so the longer it is, the fewer instructions may run.
    let fuel = (MAX_WORK / longest.max(1) as u64).clamp(1000, MAX_FUEL);
    Ok(Compiled { template, fuel })
}

/// Replaces instructions that make or compare values by calls of charged functions; each by one, so that jumps stay
/// right. Returns the length of the longest text between tags.
fn charge(instructions: &mut Instructions<'_>) -> Result<usize, Error> {
    let mut longest = 0;
    let mut i = 0;
    while let Some(instruction) = instructions.get_mut(i) {
        i += 1;
        let (function, operands) = match instruction {
            Instruction::EmitRaw(text) => {
                longest = longest.max(text.len());
                continue;
            }
            Instruction::Add => (ops::ADD, Some(2)),
            Instruction::Mul => (ops::MUL, Some(2)),
            Instruction::StringConcat => (ops::CONCAT, Some(2)),
            Instruction::Slice => (ops::SLICE, Some(4)),
            Instruction::GetItem => (ops::ITEM, Some(2)),
            Instruction::In => (ops::IN, Some(2)),
            Instruction::Eq => (ops::EQ, Some(2)),
            Instruction::Ne => (ops::NE, Some(2)),
            Instruction::Lt => (ops::LT, Some(2)),
            Instruction::Lte => (ops::LE, Some(2)),
            Instruction::Gt => (ops::GT, Some(2)),
            Instruction::Gte => (ops::GE, Some(2)),
            Instruction::BuildList(None) => (ops::LIST, None),
            Instruction::BuildList(Some(n)) => (ops::LIST, Some(count(*n)?)),
            Instruction::BuildMap(n) => (ops::MAP, Some(count(n.saturating_mul(2))?)),
            Instruction::ApplyFilter(name, operands, _) => match ops::filter_function(name) {
                Some(function) => (function, *operands),
                None => return Err(Error::new(ErrorKind::UnknownFilter, format!("filter {name} is unknown"))),
            },
            Instruction::CompareAndPreserve(_) => {
                return Err(Error::new(
                    ErrorKind::SyntaxError,
                    "chained comparisons are not supported; write `a < b and b < c`",
                ));
            }
            _ => continue,
        };
        *instruction = Instruction::CallFunction(function, operands);
    }
    Ok(longest)
}

fn count(n: usize) -> Result<u16, Error> {
    u16::try_from(n).map_err(|_| too_large("too long a list"))
}
