//! What is shown of a source, live or recorded: text or JSON lines.

use anyhow::Result;
use conntrack_user::{
    model::{flows::Flows, monitor::Monitor, tick::Tick},
    severity::THRESHOLDS,
    source::{
        item::{Item, Notice, Use},
        listener::Listener,
    },
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
    listener: Listener,
    /// Whether the source has told what its first tick is compared with.
    has_first: bool,
}

impl Show {
    /// Text, or JSON lines, to standard output. `causes`, `flows`: text has them too.
    pub(crate) fn new(output: Option<Output>, causes: bool, flows: bool) -> Self {
        let table = Table::new(THRESHOLDS.on_demand(), causes, flows);
        Self {
            output,
            table,
            json: Json::default(),
            listener: Listener::default(),
            has_first: false,
        }
    }

    /// From here on it is shown. JSON lines begin by saying of what.
    pub(crate) fn begin(&mut self, output: Output) -> Result<Reader> {
        if self.output.replace(output).is_some() || !self.has_first {
            return Ok(Reader::Reading);
        }
        self.start()
    }

    fn has_first(&mut self) -> Result<Reader> {
        self.has_first = self.listener.start().is_some();
        self.start()
    }

    fn start(&mut self) -> Result<Reader> {
        match (self.output, self.listener.start()) {
            (Some(Output::Json), Some(start)) => self.json.write(&Line::start(start)),
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
            Some(Output::Text) => {
                // It may have been resized.
                self.table.set_screen(output::columns());
                return output::text(&self.table.tick(tick));
            }
            Some(Output::Json) => {}
        }
        for text in &tick.notices {
            let notice = Notice { time: tick.time, text: text.clone() };
            if self.notice(&notice)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        let hooks = self.listener.start().map_or(&[][..], |start| &start.origin.hooks);
        self.json.write(&Line::tick(tick, hooks, &THRESHOLDS.on_demand()))
    }
}

impl Sink for Show {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        let tick = self.listener.take(item);
        match (item, tick) {
            (_, Some(tick)) => self.tick(&tick),
            (Item::Notice(notice), _) => self.notice(notice),
            (Item::Start(_), _) => {
                self.has_first = false;
                Ok(Reader::Reading)
            }
            // Said once all that comes before the first tick is known.
            (Item::Reading(Use::First, _), _) => self.has_first(),
            (Item::Standing(standing), _) if standing.time().is_some() => self.has_first(),
            _ => Ok(Reader::Reading),
        }
    }

    fn is_settled(&self) -> bool {
        self.listener.monitor().is_some_and(Monitor::is_settled)
    }

    fn flows(&self) -> Option<&Flows> {
        self.listener.monitor()?.flows()
    }
}
