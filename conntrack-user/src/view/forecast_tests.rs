use super::*;
use crate::{
    forecast::outlook::Outlook,
    model::{
        counts::Totals,
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
        outlook,
        timeouts_known: true,
        count: None,
        kernel: None,
    }
}

const fn quantiles<T>(low: T, median: T, high: T) -> Quantiles<T> {
    Quantiles { low, median, high }
}

fn filling() -> Outlook {
    Outlook {
        state: State::Filling,
        seconds_to_full: Some(quantiles(Some(31.0), Some(42.3), Some(120.0))),
        full_probability: Some([0.81, 0.93, 0.93, 0.93]),
        seconds_to_first_drop: Some(quantiles(Some(170.0), Some(200.0), None)),
        evictable_entries: Some(41_234.0),
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
        "  filling: full in 42 s (31 s to 2 min); first packets dropped in 3 min; 41,200",
        "    entries can be evicted",
        "  TCP arrivals rose from 900/s to 20,000/s 3 s ago; the table settles at 1.21 M,",
        "    now 180,000, max 262,144",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
}

#[test]
fn each_state_has_its_sentence() {
    let none = Outlook {
        seconds_to_first_drop: None,
        evictable_entries: None,
        steady_state: None,
        ..filling()
    };
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
                evictable_entries: Some(5.0),
                ..none.clone()
            },
            "filling: full in 42 s (31 s to beyond 3 h); 5 entries can be evicted",
        ),
        (
            Outlook { state: State::Full, evictable_entries: Some(0.0), ..none.clone() },
            "full: 0 entries can be evicted",
        ),
        (
            Outlook { state: State::Full, evictable_entries: Some(1.2), ..none.clone() },
            "full: 1 entry can be evicted",
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
        assert_eq!(sentence(&netns(outlook)), expected);
    }
    let unknown = netns(Outlook::unknown(State::Unknown, "the limit is not known"));
    assert_eq!(plain(&lines(&unknown, &THRESHOLDS)), "  no forecast: the limit is not known\n");
}

#[test]
fn a_table_that_evicts_is_full_in_words() {
    let soon =
        Outlook { seconds_to_full: Some(quantiles(Some(0.0), Some(0.01), Some(0.9))), ..filling() };
    let mut netns = netns(soon);
    assert_eq!((state(&netns), cell(&netns, &THRESHOLDS).0), (State::Filling, "0.0s".into()));
    netns.change = Some(Totals { early_drops: 3, ..Totals::default() });
    assert_eq!((state(&netns), cell(&netns, &THRESHOLDS).0), (State::Full, "FULL".into()));
    netns.outlook = filling();
    assert_eq!(state(&netns), State::Filling, "it was full within the tick");
}

#[test]
fn json_has_the_keys_that_the_documentation_lists() {
    let json = |outlook| serde_json::to_value(super::json(&netns(outlook))).unwrap();
    let expected = serde_json::json!({
        "state": "filling",
        "seconds_to_full": {"p10": 31.0, "p50": 42.3, "p90": 120.0},
        "full_probability": {"1m": 0.81, "5m": 0.93, "15m": 0.93, "1h": 0.93},
        "seconds_to_first_drop": {"p10": 170.0, "p50": 200.0, "p90": null},
        "evictable_entries": 41234,
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
        "steady_state": null,
        "entries_in_60s": null,
        "timeouts_known": true,
        "reason": "not enough is known yet",
    });
    assert_eq!(json(Outlook::unknown(State::Unknown, "not enough is known yet")), unknown);
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
