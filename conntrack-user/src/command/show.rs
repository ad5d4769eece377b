//! What is shown of a source, live or recorded: text or JSON lines.

use anyhow::Result;
use conntrack_user::{
    model::{monitor::Monitor, tick::Tick},
    source::item::{Item, Notice, Start, Use},
    view::{json::Line, text::Table},
};

use super::{
    follow::Sink,
    new_monitor,
    output::{self, Json, Reader},
};
use crate::cli::Output;

/// Hands what a source tells to the model, and writes the answers in the format asked for.
pub(crate) struct Show {
    output: Output,
    table: Table,
    json: Json,
    /// The source, and the model of what it tells.
    source: Option<(Start, Monitor)>,
}

impl Show {
    /// Text, or JSON lines, to standard output. `causes`: text has them too.
    pub(crate) fn new(output: Output, causes: bool) -> Self {
        let table = if causes { Table::with_causes() } else { Table::default() };
        Self { output, table, json: Json::default(), source: None }
    }

    fn notice(&mut self, notice: &Notice) -> Result<Reader> {
        match self.output {
            Output::Text => output::text(&format!("{}\n", notice.text)),
            Output::Json => self.json.write(&Line::notice(notice.time, &notice.text)),
        }
    }

    fn tick(&mut self, tick: &Tick) -> Result<Reader> {
        if self.output == Output::Text {
            return output::text(&self.table.tick(tick));
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
                self.source = Some((start.clone(), new_monitor(start.cpus)));
                Ok(Reader::Reading)
            }
            Item::Notice(notice) => self.notice(notice),
            Item::Flows(_) => Ok(Reader::Reading),
            Item::Reading(purpose, reading) => {
                // A recording whose beginning is damaged has readings before it says of what.
                let Some((start, monitor)) = &mut self.source else {
                    return Ok(Reader::Reading);
                };
                match purpose {
                    Use::Settle => {
                        monitor.settle(reading);
                        Ok(Reader::Reading)
                    }
                    Use::First => {
                        // Said once all that comes before the first tick is known.
                        let reader = match self.output {
                            Output::Text => Ok(Reader::Reading),
                            Output::Json => self.json.write(&Line::start(start)),
                        };
                        monitor.observe(reading);
                        reader
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

    fn wants_flows(&self) -> bool {
        false
    }
}
