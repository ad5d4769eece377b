//! What is shown of a source, live or recorded: text or JSON lines.

use anyhow::Result;
use conntrack_user::{
    model::{flows::Flows, monitor::Monitor, tick::Tick},
    source::item::{Item, Notice, Start, Use},
    view::{json::Line, text::Table},
};

use super::{
    follow::Sink,
    output::{self, Json, Reader},
};
use crate::cli::Output;

/// Hands what a source tells to the model, and writes the answers in the format asked for.
pub(crate) struct Show {
    /// None: nothing is shown, and the model is what it is for.
    output: Option<Output>,
    table: Table,
    json: Json,
    /// The source, and the model of what it tells.
    source: Option<(Start, Monitor)>,
    /// Whether the source has told what its first tick is compared with.
    has_first: bool,
}

impl Show {
    /// Text, or JSON lines, to standard output. `causes`, `flows`: text has them too.
    pub(crate) fn new(output: Option<Output>, causes: bool, flows: bool) -> Self {
        let table = Table::new(causes, flows);
        Self { output, table, json: Json::default(), source: None, has_first: false }
    }

    /// From here on it is shown. JSON lines begin by saying of what.
    pub(crate) fn begin(&mut self, output: Output) -> Result<Reader> {
        if self.output.replace(output).is_some() || !self.has_first {
            return Ok(Reader::Reading);
        }
        self.start()
    }

    fn start(&mut self) -> Result<Reader> {
        match (self.output, &self.source) {
            (Some(Output::Json), Some((start, _))) => self.json.write(&Line::start(start)),
            _ => Ok(Reader::Reading),
        }
    }

    fn notice(&mut self, notice: &Notice) -> Result<Reader> {
        match self.output {
            None => Ok(Reader::Reading),
            Some(Output::Text) => output::text(&format!("{}\n", notice.text)),
            Some(Output::Json) => self.json.write(&Line::notice(notice.time, &notice.text)),
        }
    }

    fn tick(&mut self, tick: &Tick) -> Result<Reader> {
        match self.output {
            None => return Ok(Reader::Reading),
            Some(Output::Text) => return output::text(&self.table.tick(tick)),
            Some(Output::Json) => {}
        }
        for text in &tick.notices {
            let notice = Notice { time: tick.time, text: text.clone() };
            if self.notice(&notice)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        let hooks = self.source.as_ref().map_or(&[][..], |(start, _)| &start.origin.hooks);
        self.json.write(&Line::tick(tick, hooks))
    }
}

impl Sink for Show {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        match item {
            Item::Start(start) => {
                self.source = Some((start.clone(), Monitor::new(start.cpus)));
                self.has_first = false;
                Ok(Reader::Reading)
            }
            Item::Notice(notice) => self.notice(notice),
            Item::Threshold(set) => {
                if let Some((_, monitor)) = &mut self.source {
                    monitor.observe_threshold(set.threshold, set.time.monotonic_ns);
                }
                Ok(Reader::Reading)
            }
            Item::Flows(flows) => {
                if let Some((_, monitor)) = &mut self.source {
                    flows
                        .events
                        .iter()
                        .for_each(|event| monitor.observe_event(event.netns, &event.flow));
                }
                Ok(Reader::Reading)
            }
            Item::Reading(purpose, reading) => {
                // A recording whose beginning is damaged has readings before it says of what.
                let Some((_, monitor)) = &mut self.source else {
                    return Ok(Reader::Reading);
                };
                match purpose {
                    Use::Settle => {
                        monitor.settle(reading);
                        Ok(Reader::Reading)
                    }
                    Use::First => {
                        monitor.observe(reading);
                        // Said once all that comes before the first tick is known.
                        self.has_first = true;
                        self.start()
                    }
                    Use::Tick => {
                        let tick = monitor.observe(reading);
                        self.tick(&tick)
                    }
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.source.as_ref().is_some_and(|(_, monitor)| monitor.is_settled())
    }

    fn flows(&self) -> Option<&Flows> {
        self.source.as_ref()?.1.flows()
    }
}
