//! Text of sources, cleaned where it is read: who shows it need not do it. Recordings and live sources have the same.

use std::{borrow::Cow, sync::Arc};

use super::{
    Unavailable,
    item::{Hook, Item, Start},
};
use crate::{
    model::{
        coverage::{Coverage, NetnsNotRead, Reason},
        name,
    },
    text::{LONGEST, clean, printable},
};

/// Makes all text in an item fit to be shown.
pub(super) fn item(item: &mut Item) {
    match item {
        Item::Start(start) => self::start(start),
        Item::Notice(notice) => clean(&mut notice.text, LONGEST),
        Item::Reading(_, reading) => {
            for name in reading.netns.iter_mut().filter_map(|netns| netns.name.as_mut()) {
                clean(&mut name.text, name::LONGEST);
            }
            // It is shared from tick to tick: there is a copy only where there is something to clean.
            if let Some(shared) = &mut reading.coverage
                && !is_clean(shared)
            {
                coverage(Arc::make_mut(shared));
            }
            for probe in &mut reading.probes {
                if let Cow::Owned(hook) = printable(&probe.hook, name::LONGEST) {
                    probe.hook = hook.into();
                }
            }
        }
        Item::Flows(_) | Item::Threshold(_) | Item::Standing(_) => {}
    }
}

/// Makes all text in what a source says of itself fit to be shown: reasons name files.
pub fn start(start: &mut Start) {
    let origin = &mut start.origin;
    clean(&mut origin.kernel_release, name::LONGEST);
    clean(&mut origin.source, name::LONGEST);
    origin.hooks.iter_mut().for_each(hook);
    for Unavailable { what, reason } in &mut origin.unavailable {
        clean(what, LONGEST);
        clean(reason, LONGEST);
    }
}

fn hook(hook: &mut Hook) {
    let Hook { name, function, state: _, attached_via, reason, not_exact } = hook;
    clean(name, name::LONGEST);
    clean(function, name::LONGEST);
    for text in [attached_via, reason, not_exact].into_iter().flatten() {
        clean(text, LONGEST);
    }
}

/// Reports whether [`coverage`] would change nothing.
fn is_clean(coverage: &Coverage) -> bool {
    let of_netns = coverage.not_read.iter().flat_map(|netns| {
        let reason = match &netns.reason {
            Reason::Refused(why) => Some((why, LONGEST)),
            Reason::NoPath | Reason::HiddenProcess => None,
        };
        netns.name.as_ref().map(|name| (name, name::LONGEST)).into_iter().chain(reason)
    });
    let stale = coverage.stale_files.iter().map(|file| (file, LONGEST));
    let mut texts = of_netns.chain(stale);
    texts.all(|(text, longest)| matches!(printable(text, longest), Cow::Borrowed(_)))
}

fn coverage(coverage: &mut Coverage) {
    for NetnsNotRead { name, reason, .. } in &mut coverage.not_read {
        if let Some(name) = name {
            clean(name, name::LONGEST);
        }
        if let Reason::Refused(why) = reason {
            clean(why, LONGEST);
        }
    }
    coverage.stale_files.iter_mut().for_each(|file| clean(file, LONGEST));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{
        item::Use,
        recording::samples::{coverage, reading},
    };

    fn cleaned(coverage: &Arc<Coverage>) -> Arc<Coverage> {
        let mut reading = reading(0, vec![]);
        reading.coverage = Some(Arc::clone(coverage));
        let mut all = Item::Reading(Use::Tick, Box::new(reading));
        item(&mut all);
        let Item::Reading(_, reading) = all else { unreachable!("it was one") };
        reading.coverage.unwrap()
    }

    #[test]
    fn a_coverage_is_copied_only_where_there_is_something_to_clean() {
        let clean = Arc::new(coverage());
        assert!(Arc::ptr_eq(&cleaned(&clean), &clean));
        let hostile = || String::from("a\u{1b}[2Jb");
        let dirty: [fn(&mut Coverage, String); 3] = [
            |coverage, text| coverage.not_read[0].name = Some(text),
            |coverage, text| coverage.not_read[0].reason = Reason::Refused(text),
            |coverage, text| coverage.stale_files[0] = text,
        ];
        for make in dirty {
            let mut one = coverage();
            make(&mut one, hostile());
            let one = Arc::new(one);
            let text = format!("{:?}", cleaned(&one));
            assert!(!text.contains("u{1b}"), "{text}");
        }
    }
}
