use super::*;
use crate::{
    forecast::outlook::Outlook,
    model::{
        estimate::Estimate,
        evictable::Evictable,
        full::Full,
        reading::NetnsId,
        tick::{Entries, Rates},
    },
    severity::THRESHOLDS,
};

fn netns(outlook: Outlook) -> NetnsTick {
    NetnsTick {
        id: NetnsId { cookie: Some(1), inode: 4_026_531_840 },
        name: None,
        ended: false,
        entries: Entries::Exact(180_000),
        limit: Limit::Entries(262_144),
        change: None,
        rates: Rates::default(),
        windows: None,
        totals: None,
        baseline: None,
        count_drift: None,
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook,
        full: None,
        growth: None,
        evictable: Evictable { entries: Some(EVICTABLE), unknown: Some(0) },
        timeouts_known: true,
        count: None,
        kernel: None,
        kernel_counters: None,
    }
}

const EVICTABLE: Estimate = Estimate { value: 41_234.0, low: 40_000.0, high: 42_400.0 };

const fn quantiles<T>(low: T, median: T, high: T) -> Quantiles<T> {
    Quantiles { low, median, high }
}

fn filling() -> Outlook {
    Outlook {
        state: State::Filling,
        seconds_to_full: Some(quantiles(Some(31.0), Some(42.3), Some(120.0))),
        full_probability: Some([0.81, 0.93, 0.93, 0.93]),
        seconds_to_first_drop: Some(quantiles(Some(170.0), Some(200.0), None)),
        evictable_entries: None,
        steady_state: Some(SteadyState { level: 1_213_000.0, seconds: 180.0 }),
        entries_in_60s: Some(quantiles(250_000.4, 290_000.0, 300_000.0)),
        entries_in_60s_95: Some([200_000.0, 310_000.4]),
        jump: None,
        reason:
            "TCP arrivals rose from 900/s to 20,000/s 3 s ago; the table settles at 1.21 M, now \
                 180,000, max 262,144"
                .into(),
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn words_say_when_and_why_in_80_columns() {
    let text = plain(&lines(&netns(filling()), &THRESHOLDS));
    let expected = [
        "  filling: full in 42 s (31 s to 2 min); first packets dropped in 3 min; can be",
        "    evicted: 41,200 entries (40,000 to 42,400)",
        "  TCP arrivals rose from 900/s to 20,000/s 3 s ago; the table settles at 1.21 M,",
        "    now 180,000, max 262,144",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
}

#[test]
fn each_state_has_its_sentence() {
    let none = Outlook { seconds_to_first_drop: None, steady_state: None, ..filling() };
    let steady_state = |level, seconds| Some(SteadyState { level, seconds });
    let cases = [
        (
            Outlook {
                state: State::Steady,
                seconds_to_full: Some(quantiles(None, None, None)),
                steady_state: steady_state(4016.0, 0.0),
                ..none.clone()
            },
            "steady: not full within 3 h; stays at about 4,020",
        ),
        (
            Outlook {
                state: State::Filling,
                seconds_to_full: Some(quantiles(Some(240.0), None, None)),
                steady_state: steady_state(121_000.0, 180.0),
                ..none.clone()
            },
            "filling: may be full in 4 min, but probably not within 3 h; settles at 121,000 in 3 min",
        ),
        (
            Outlook {
                seconds_to_full: Some(quantiles(Some(31.0), Some(42.0), None)),
                ..none.clone()
            },
            "filling: full in 42 s (31 s to beyond 3 h)",
        ),
        (
            Outlook {
                seconds_to_full: Some(quantiles(Some(0.1), Some(0.2), Some(0.9))),
                ..none.clone()
            },
            "filling: full in less than 1 s",
        ),
        (Outlook { state: State::Draining, seconds_to_full: None, ..none }, "draining"),
    ];
    for (outlook, expected) in cases {
        let one = NetnsTick { evictable: Evictable::default(), ..netns(outlook) };
        assert_eq!(sentence(&one), expected);
    }
    let unknown = netns(Outlook::unknown(State::Unknown, "the limit is not known"));
    let unknown = NetnsTick { limit: Limit::Unavailable, ..unknown };
    assert_eq!(plain(&lines(&unknown, &THRESHOLDS)), "  no forecast: the limit is not known\n");
}

#[test]
fn of_a_full_table_facts_are_told() {
    let full =
        Outlook { full_probability: Some([1.0; 4]), ..Outlook::unknown(State::Full, IS_FULL) };
    let evictable = Evictable { unknown: Some(3000), ..netns(filling()).evictable };
    let mut one = NetnsTick {
        full: Some(facts_of(12.0, 30.0)),
        entries: Entries::Exact(262_144),
        evictable,
        ..netns(full)
    };
    assert_eq!(cell(&one, &THRESHOLDS).0, "FULL");
    let text = plain(&lines(&one, &THRESHOLDS));
    let expected = [
        "  full for 41 s, drops 12 packets/s and evicts 30 entries/s",
        "  full since 16:00:00 UTC, packets dropped since 16:00:30 UTC; can be evicted:",
        "    41,200 entries (40,000 to 42,400), unknown for 3,000",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    // Arrivals that rose say why; that it is full says nothing.
    one.outlook.reason = "udp arrivals rose from 50/s to 400/s 20 s ago".into();
    let text = plain(&lines(&one, &THRESHOLDS));
    assert!(
        text.ends_with("unknown for 3,000; udp arrivals rose from\n    50/s to 400/s 20 s ago\n"),
        "{text}"
    );
    assert_eq!(seconds_to_full(&one.outlook), Some(0.0));
}

fn facts_of(drops: f64, evictions: f64) -> Full {
    full::tests::full(drops, evictions)
}

#[test]
fn before_a_forecast_exists_level_room_and_growth_are_told() {
    let unknown = Outlook::unknown(State::Unknown, "2 s of 3 s seen so far");
    let mut one = NetnsTick {
        entries: Entries::Exact(4_950),
        limit: Limit::Entries(5_000),
        growth: Some(15.2),
        ..netns(unknown)
    };
    let text = |one: &NetnsTick| plain(&lines(one, &THRESHOLDS));
    let expected =
        "  4,950 of 5,000 entries, 50 free, +15/s; no forecast: 2 s of 3 s seen so far\n";
    assert_eq!(text(&one), expected);
    one.growth = Some(-0.5);
    assert!(text(&one).contains("50 free, -0.5/s;"), "{}", text(&one));
    one.growth = Some(-0.01);
    assert!(text(&one).contains("50 free, not growing;"), "{}", text(&one));
    one.growth = None;
    assert!(text(&one).contains("50 free; no forecast"), "{}", text(&one));
    (one.entries, one.limit) = (Entries::Unavailable, Limit::Entries(5_000));
    assert_eq!(text(&one), "  no forecast: 2 s of 3 s seen so far\n");
}

/// `-` and "not within 3 h" are for what lies beyond the horizon, `?` for what is not known.
#[test]
fn beyond_the_horizon_is_not_unknown() {
    let beyond = Outlook {
        state: State::Steady,
        seconds_to_full: Some(quantiles(None, None, None)),
        ..Outlook::unknown(State::Steady, "arrivals stay as they are")
    };
    let cell = |outlook: &Outlook| cell(&netns(outlook.clone()), &THRESHOLDS).0;
    assert_eq!(cell(&beyond), "-");
    assert!(sentence(&netns(beyond.clone())).contains("not full within 3 h"));
    let json =
        |outlook: &Outlook| serde_json::to_value(super::json(&netns(outlook.clone()))).unwrap();
    assert!(json(&beyond)["seconds_to_full"].is_object());
    let unknown = Outlook { seconds_to_full: None, ..beyond };
    assert_eq!(cell(&unknown), "?");
    assert!(!sentence(&netns(unknown.clone())).contains("3 h"));
    assert!(json(&unknown)["seconds_to_full"].is_null());
}

#[test]
fn json_has_the_keys_that_the_documentation_lists() {
    let of = |netns: &NetnsTick| serde_json::to_value(super::json(netns)).unwrap();
    let json = |outlook| of(&netns(outlook));
    let expected = serde_json::json!({
        "state": "filling",
        "seconds_to_full": {"p10": 31.0, "p50": 42.3, "p90": 120.0},
        "full_probability": {"1m": 0.81, "5m": 0.93, "15m": 0.93, "1h": 0.93},
        "seconds_to_first_drop": {"p10": 170.0, "p50": 200.0, "p90": null},
        "evictable_entries": 41_234,
        "evictable_entries_low": 40_000,
        "evictable_entries_high": 42_400,
        "evictable_unknown_entries": 0,
        "steady_state": {"entries": 1_213_000, "seconds": 180.0},
        "entries_in_60s": {
            "p2_5": 200_000, "p10": 250_000, "p50": 290_000, "p90": 300_000, "p97_5": 310_000,
        },
        "timeouts_known": true,
        "reason": filling().reason,
    });
    assert_eq!(json(filling()), expected);
    let unknown = serde_json::json!({
        "state": "not_enough_data",
        "seconds_to_full": null,
        "full_probability": null,
        "seconds_to_first_drop": null,
        "evictable_entries": null,
        "evictable_entries_low": null,
        "evictable_entries_high": null,
        "evictable_unknown_entries": 3000,
        "steady_state": null,
        "entries_in_60s": null,
        "timeouts_known": true,
        "reason": "2 s of 3 s seen so far",
    });
    let outlook = Outlook::unknown(State::Unknown, "2 s of 3 s seen so far");
    let evictable = Evictable { entries: None, unknown: Some(3000) };
    assert_eq!(of(&NetnsTick { evictable, ..netns(outlook) }), unknown);
}

#[test]
fn what_is_no_number_is_null_and_never_beyond_the_horizon() {
    let broken = Outlook {
        seconds_to_full: Some(quantiles(Some(f64::NAN), Some(1.0), None)),
        full_probability: Some([0.0, f64::INFINITY, 1.0, 1.0]),
        entries_in_60s: Some(quantiles(1.0, f64::NEG_INFINITY, 1.0)),
        ..filling()
    };
    let json = serde_json::to_value(super::json(&netns(broken))).unwrap();
    for key in ["seconds_to_full", "full_probability", "entries_in_60s"] {
        assert!(json[key].is_null(), "{key}");
    }
}

#[test]
fn a_cell_has_the_median() {
    let cell =
        |outlook: Outlook, limit| cell(&NetnsTick { limit, ..netns(outlook) }, &THRESHOLDS).0;
    let limit = Limit::Entries(262_144);
    let steady = Outlook { seconds_to_full: Some(quantiles(Some(31.0), None, None)), ..filling() };
    let cases = [
        (filling(), limit, "42s"),
        (steady, limit, "-"),
        (Outlook::unknown(State::Unknown, ""), limit, "?"),
        (Outlook::unknown(State::Full, ""), limit, "FULL"),
        (Outlook { seconds_to_full: None, ..filling() }, Limit::Unlimited, "never"),
    ];
    for (outlook, limit, expected) in cases {
        assert_eq!(cell(outlook, limit), expected);
    }
}
