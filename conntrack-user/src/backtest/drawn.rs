//! Scenarios that nobody chose: every parameter is drawn from a range that is written here, by a seed. Nothing is to
//! be tuned on them.
//!
//! | what | drawn from |
//! |---|---|
//! | length | 1200 to 3600 s |
//! | tick | 1 s; one in five 0.25 s, and a third as long |
//! | limit | 16,384 to 1,048,576, log |
//! | fill before the trouble, in the mean from pass to pass of the garbage collector | 5 to 70 % |
//! | jiffies a second | 100, 250, 300 or 1000 |
//! | timeouts | the kernel's; in three of ten each 0.25 to 2 times as long, log |
//! | share of a class in the level | 0 to 1, cubed, relative to all classes |
//! | time that packets pass | lognormal: median 0.5 to 60 s, log; sigma 0 to 1.5. Long ones: exponential, mean 600 to 36,000 s, log |
//! | dispersion | 1 to 20, log |
//! | trouble | none 15 %, step 25 %, pulse 15 %, ramp 15 %, leak 10 %, saw 10 %, wave 10 % |
//! | its begin | from a tenth to a half of the length |
//! | its class | any but long TCP; a leak is long TCP that lives 100,000 s |
//! | where it would settle | at 0.3 to 4 times the room that is left, log |
//! | length of a pulse | 5 to 300 s, log |
//! | of a ramp | 60 s to the end |
//! | of a leak until full | 0.3 to 2 times the time that is left |
//! | period of a saw or wave | 60 to 1200 s, log; a saw is up for 0.1 to 0.6 of it |
//! | event | none 70 %; else at any time one of: limit times 0.6 to 2, flush, 0.2 to 1 of the TCP connections anew within 1 to 60 s, gap of 10 to 120 s, restart |

use rand::Rng as _;

use super::{
    class::Class,
    collector::Left,
    draw::{self, Source},
    law::Law,
    scenario::{Arrivals, Event, Reconnect, Scenario, SetTimeouts, Sine, What},
};

const CLASSES: [Class; 7] = [
    Class::TcpUnreplied,
    Class::TcpAssured,
    Class::UdpUnreplied,
    Class::UdpStream,
    Class::Icmp,
    Class::Other,
    Class::TcpLong,
];

/// A scenario for a seed; `place` tells those of one seed apart.
#[must_use]
pub fn scenario(seed: u64, place: u64) -> (String, Scenario) {
    let mut dice = Dice(draw::source(seed.wrapping_mul(1_000_003).wrapping_add(place)));
    let fast = dice.one_in(0.2);
    let length = dice.even(1200.0, 3600.0).round();
    let (tick, seconds) = if fast { (0.25, (length / 3.0).round()) } else { (1.0, length) };
    let max = dice.log(16_384.0, 1_048_576.0).round();
    let mut scenario = Scenario {
        title: String::new(),
        imitates: format!("Nothing: drawn by seed {seed}, number {place}."),
        seconds,
        tick,
        max: max as u32,
        buckets: None,
        hz: [100, 250, 300, 1000][dice.even(0.0, 4.0) as usize],
        collected: None,
        timeouts: SetTimeouts::default(),
        arrivals: vec![],
        events: vec![],
    };
    if dice.one_in(0.3) {
        scenario.timeouts = dice.timeouts(&scenario);
    }
    let level = max * dice.even(0.05, 0.70);
    let weights = CLASSES.map(|_| dice.even(0.0, 1.0).powi(3));
    let all: f64 = weights.iter().sum();
    let entries = weights.map(|weight| level * weight / all);
    scenario.arrivals = CLASSES.map(|class| dice.arrivals(class)).into();
    let wait = wait(&scenario, &entries);
    for (place, entries) in entries.into_iter().enumerate() {
        let lifetime = lifetime(&scenario, &scenario.arrivals[place], wait);
        scenario.arrivals[place].rate = vec![(0.0, entries / lifetime)];
    }
    let (name, trouble) = dice.trouble(&scenario, max - level, wait);
    scenario.arrivals.extend(trouble);
    let event = if dice.one_in(0.3) { Some(dice.event(&scenario)) } else { None };
    scenario.events.extend(event);
    scenario.title = format!("{name}{}", if event.is_some() { " and an event" } else { "" });
    (format!("drawn-{seed}-{place}"), scenario)
}

/// Seconds between two passes of the garbage collector through so many entries of each of the `arrivals`.
fn wait(scenario: &Scenario, entries: &[f64]) -> f64 {
    let mut left = Left::default();
    for (arrivals, entries) in scenario.arrivals.iter().zip(entries) {
        let (timeout, open) = arrivals.timeouts(scenario);
        let active = active(arrivals);
        left.add(entries * active / (active + timeout), open);
        left.add_evenly(entries * timeout / (active + timeout), timeout);
    }
    left.wait(scenario.hz.into())
}

/// Seconds that an entry is there in the mean, with `wait` seconds between two passes of the garbage collector.
fn lifetime(scenario: &Scenario, arrivals: &Arrivals, wait: f64) -> f64 {
    active(arrivals) + arrivals.timeouts(scenario).0 + wait / 2.0
}

fn active(arrivals: &Arrivals) -> f64 {
    arrivals.active.as_ref().map_or(0.0, Law::mean)
}

struct Dice(Source);

impl Dice {
    fn even(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    fn log(&mut self, low: f64, high: f64) -> f64 {
        self.even(low.ln(), high.ln()).exp()
    }

    fn one_in(&mut self, probability: f64) -> bool {
        self.0.random::<f64>() < probability
    }

    fn timeouts(&mut self, scenario: &Scenario) -> SetTimeouts {
        let kernel = scenario.timeouts();
        let mut set = |seconds: f64| Some((seconds * self.log(0.25, 2.0)).round());
        SetTimeouts {
            udp: set(kernel.udp),
            udp_stream: set(kernel.udp_stream),
            tcp_syn_sent: set(kernel.tcp_syn_sent),
            tcp_time_wait: set(kernel.tcp_time_wait),
            icmp: set(kernel.icmp),
            generic: set(kernel.generic),
        }
    }

    /// A class without a rate.
    fn arrivals(&mut self, class: Class) -> Arrivals {
        let (median, sigma) = (self.log(0.5, 60.0), self.even(0.0, 1.5));
        let active = match class {
            Class::TcpUnreplied | Class::UdpUnreplied => None,
            Class::TcpLong => Some(Law::Exponential(self.log(600.0, 36_000.0))),
            _ => Some(Law::Lognormal { median, sigma }),
        };
        let dispersion = self.log(1.0, 20.0);
        let (rate, sine, timeout, at_start) = (vec![], None, None, None);
        Arrivals { class, rate, sine, dispersion, active, timeout, at_start }
    }

    /// What makes it climb, where there is `room` for so many entries.
    fn trouble(
        &mut self,
        scenario: &Scenario,
        room: f64,
        wait: f64,
    ) -> (&'static str, Option<Arrivals>) {
        let seconds = scenario.seconds;
        let begin = self.even(0.1, 0.5) * seconds;
        let place = self.0.random_range(0..CLASSES.len() - 1);
        let mut arrivals = self.arrivals(CLASSES[place]);
        arrivals.at_start = Some(0);
        let rate = room * self.log(0.3, 4.0) / lifetime(scenario, &arrivals, wait);
        let name = match self.even(0.0, 100.0) {
            ..15.0 => return ("nothing", None),
            15.0..40.0 => {
                arrivals.rate = vec![(begin, 0.0), (begin, rate)];
                "step"
            }
            40.0..55.0 => {
                let end = begin + self.log(5.0, 300.0);
                arrivals.rate = pulse(begin, end, rate);
                "pulse"
            }
            55.0..70.0 => {
                let end = begin + self.even(60.0, (seconds - begin).max(60.0));
                arrivals.rate = vec![(begin, 0.0), (end, rate)];
                "ramp"
            }
            70.0..80.0 => {
                arrivals.class = Class::TcpLong;
                arrivals.active = Some(Law::Exponential(100_000.0));
                let until = (seconds - begin) * self.even(0.3, 2.0);
                arrivals.rate = vec![(begin, 0.0), (begin, room / until)];
                "leak"
            }
            80.0..90.0 => {
                let (period, up) = (self.log(60.0, 1200.0), self.even(0.1, 0.6));
                let mut start = begin;
                while start < seconds {
                    arrivals.rate.extend(pulse(start, start + up * period, rate));
                    start += period;
                }
                "saw"
            }
            _ => {
                let (period, phase) = (self.log(60.0, 1200.0), self.even(0.0, 1.0));
                arrivals.rate = vec![(0.0, rate / 2.0)];
                arrivals.at_start = None;
                arrivals.sine = Some(Sine { period, amplitude: 1.0, phase: phase * period });
                "wave"
            }
        };
        // So much that no machine could send it is sent by none.
        arrivals.rate.iter_mut().for_each(|(_, rate)| *rate = rate.min(100_000.0));
        (name, Some(arrivals))
    }

    fn event(&mut self, scenario: &Scenario) -> Event {
        let at = self.even(0.0, scenario.seconds).round();
        let what = match self.0.random_range(0..5) {
            0 => What::Max((f64::from(scenario.max) * self.even(0.6, 2.0)).round() as u32),
            1 => What::Flush,
            2 => What::Reconnect(Reconnect {
                class: if self.one_in(0.5) { Class::TcpLong } else { Class::TcpAssured },
                share: self.even(0.2, 1.0),
                over: self.even(1.0, 60.0).round(),
                lingers: self.one_in(0.5),
            }),
            3 => What::Pause(self.even(10.0, 120.0).round()),
            _ => What::Restart,
        };
        Event { at, what }
    }
}

fn pulse(begin: f64, end: f64, rate: f64) -> Vec<(f64, f64)> {
    vec![(begin, 0.0), (begin, rate), (end, rate), (end, 0.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_makes_sense_and_stays_the_same() {
        for place in 0..500 {
            let (name, drawn) = scenario(1, place);
            drawn.check().unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(format!("{:?}", scenario(1, place).1), format!("{drawn:?}"));
        }
        assert_ne!(format!("{:?}", scenario(2, 0).1), format!("{:?}", scenario(1, 0).1));
    }

    #[test]
    fn the_level_before_the_trouble_is_as_drawn() {
        for place in 0..20 {
            let (_, drawn) = scenario(3, place);
            let base = &drawn.arrivals[..CLASSES.len()];
            // Each entry for its mean lifetime: as many as there are, whatever the wait is.
            let entries = |wait: f64| -> Vec<f64> {
                base.iter().map(|one| one.rate_at(0.0) * lifetime(&drawn, one, wait)).collect()
            };
            let wait = wait(&drawn, &entries(0.0));
            let fill = entries(wait).iter().sum::<f64>() / f64::from(drawn.max);
            assert!((0.045..0.75).contains(&fill), "{fill}");
        }
    }
}
