//! A transcription on the terminal: text line by line on stdout, a bar on stderr.

use std::ops::ControlFlow;
use std::path::Path;

use rlx_cli::{Context, SoundProgress, text};

use crate::output::timestamp;
use crate::text::language_name;
use crate::transcribe::{Event, Segment};

/// Longest text that is shown of what is still being said.
const MAX_PARTIAL: usize = 60;

/// Shows one transcription.
pub(super) struct Show<'a> {
    ctx: &'a Context<'a>,
    progress: SoundProgress,
    timestamps: bool,
    /// Whether text is printed as it comes.
    prints: bool,
    /// Why printing failed.
    failed: Option<anyhow::Error>,
    stopped: bool,
}

impl<'a> Show<'a> {
    /// Of the sound `path`.
    pub(super) fn new(ctx: &'a Context<'a>, path: &Path, timestamps: bool, prints: bool) -> Show<'a> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Show {
            ctx,
            progress: SoundProgress::new(ctx, text::plain(&name, 30)),
            timestamps,
            prints: prints && !ctx.mode().json,
            failed: None,
            stopped: false,
        }
    }

    /// Shows what happens; stops on Ctrl-C, and if nobody reads.
    pub(super) fn event(&mut self, event: Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Step => {}
            Event::Progress { done, total } => self.stopped |= self.progress.advance(done, Some(total)).is_break(),
            Event::Partial(text) => self.progress.partial(&last_characters(&text::plain(text.trim(), usize::MAX))),
            Event::Language(found) => {
                if let Some(best) = found.first() {
                    let name = language_name(best.code).unwrap_or(best.code);
                    let note = format!("language: {name} ({:.0} %)", best.probability * 100.0);
                    self.progress.suspend(|| self.ctx.note(&note));
                }
            }
            Event::Segments(segments) => {
                if self.prints
                    && let Err(error) = self.progress.suspend(|| self.print(segments))
                {
                    self.failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        self.stopped |= self.progress.poll().is_break();
        if self.stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn print(&self, segments: &[Segment]) -> anyhow::Result<()> {
        let mut out = String::new();
        for segment in segments {
            let line = segment.text.trim();
            if self.timestamps {
                let (start, end) = (timestamp(segment.start, false, '.'), timestamp(segment.end, false, '.'));
                out.push_str(&format!("[{start} --> {end}] {line}\n"));
            } else {
                out.push_str(&format!("{line}\n"));
            }
        }
        self.ctx.print(&out)
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// If text could not be printed.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.progress.finish();
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

fn last_characters(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(MAX_PARTIAL);
    if skip == 0 { text.to_owned() } else { format!("...{}", text.chars().skip(skip).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_shown() {
        assert_eq!(last_characters("short"), "short");
        let long = last_characters(&"äö".repeat(50));
        assert!(long.starts_with("...ä") && long.chars().count() == MAX_PARTIAL + 3);
    }
}
