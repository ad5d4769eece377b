//! Which of a mirror's kernels a series stands for. Pure: works on names and versions.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use anyhow::{Error, Result, bail};

/// One kernel of the mirror, with the packages that make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// What `uname -r` says there, such as `6.1.0-56-cloud-amd64`.
    pub(crate) name: String,
    /// The Debian version, such as `6.1.192-2`.
    pub(crate) version: String,
    pub(crate) packages: Vec<String>,
}

/// What a user asks for by name: a series, and `-rt` for its real-time kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) series: Series,
    pub(crate) is_real_time: bool,
}

impl FromStr for Wanted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let real_time = text.strip_suffix("-rt");
        Ok(Self { series: real_time.unwrap_or(text).parse()?, is_real_time: real_time.is_some() })
    }
}

/// The numbers of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    Number(u32, u32),
    /// The highest number there is.
    Newest,
}

impl FromStr for Series {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "newest" {
            return Ok(Self::Newest);
        }
        let numbers = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        let Some((Ok(major), Ok(minor))) = numbers else {
            bail!(
                "{text:?} is no kernel: a series is like 6.12, 6.12-rt or newest; a local kernel needs a directory"
            );
        };
        Ok(Self::Number(major, minor))
    }
}

/// Groups `package version` lines into kernels. Meta packages, debug information and unsigned images are left out.
pub(crate) fn releases(lines: &str, flavour: &str) -> Vec<Release> {
    let mut releases: BTreeMap<&str, Release> = BTreeMap::new();
    for line in lines.lines() {
        let Some((package, version)) = line.split_once(' ') else {
            continue;
        };
        // Up to 6.18 the image holds everything; later packaging splits it, in different ways.
        let name = ["linux-image-", "linux-binary-", "linux-modules-"]
            .iter()
            .find_map(|kind| package.strip_prefix(kind))
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .filter(|name| {
                name.strip_suffix(flavour).is_some_and(|number| number.matches('.').count() >= 2)
            });
        let Some(name) = name else { continue };
        releases
            .entry(name)
            .or_insert_with(|| Release {
                name: name.to_owned(),
                version: version.to_owned(),
                packages: Vec::new(),
            })
            .packages
            .push(package.to_owned());
    }
    releases.into_values().collect()
}

/// The newest kernel of a series. A suite's own package goes before one that was rebuilt for an older suite.
pub(crate) fn pick(series: Series, releases: &[Release]) -> Option<&Release> {
    let wanted = match series {
        Series::Number(major, minor) => (major, minor),
        Series::Newest => releases.iter().filter_map(|release| number(&release.version)).max()?,
    };
    releases
        .iter()
        .filter(|release| number(&release.version) == Some(wanted))
        .max_by(|a, b| native(a).cmp(&native(b)).then_with(|| compare(&a.version, &b.version)))
}

/// The series among them, for a message.
pub(crate) fn series_of(releases: &[Release]) -> String {
    let numbers: BTreeSet<_> =
        releases.iter().filter_map(|release| number(&release.version)).collect();
    let names: Vec<_> = numbers.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    names.join(", ")
}

fn native(release: &Release) -> bool {
    !release.version.contains("~deb") && !release.version.contains("~bpo")
}

/// Major and minor number of a version.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The order of deb-version(7), without epochs, which kernels do not have.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let split = |version| str::rsplit_once(version, '-').unwrap_or((version, ""));
    let ((upstream_a, revision_a), (upstream_b, revision_b)) = (split(a), split(b));
    compare_part(upstream_a, upstream_b).then_with(|| compare_part(revision_a, revision_b))
}

fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, number_a) = take(&mut a);
        let (text_b, number_b) = take(&mut b);
        // The end of a text sorts after `~` and before everything else.
        let weights = |text: &str| text.bytes().map(weight).chain([0]).collect::<Vec<_>>();
        let order = weights(text_a).cmp(&weights(text_b)).then(number_a.cmp(&number_b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes one run of non-digits and the number after it.
fn take<'a>(rest: &mut &'a str) -> (&'a str, u64) {
    let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (text, after) = rest.split_at(digits);
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let (number, after) = after.split_at(end);
    *rest = after;
    (text, number.parse().unwrap_or(0))
}

fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        byte if byte.is_ascii_alphabetic() => i32::from(byte),
        byte => i32::from(byte) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
linux-image-6.1-cloud-amd64 6.1.192-2
linux-image-6.1.0-56-cloud-amd64 6.1.192-2
linux-image-6.1.0-56-cloud-amd64-dbg 6.1.192-2
linux-image-6.1.0-56-cloud-amd64-unsigned 6.1.192-2
linux-image-6.1.0-9-cloud-amd64 6.1.99-1
linux-image-6.1.0-0.deb11.60-cloud-amd64 6.1.193-1~deb11u1
linux-image-cloud-amd64 7.3.4-1~bpo13+1
linux-binary-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1
linux-binary-unsigned-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1
linux-image-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1
linux-modules-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1
linux-modules-cloud-amd64 7.3.4-1~bpo13+1
";

    fn picked(series: &str) -> Option<Release> {
        pick(series.parse().unwrap(), &releases(INDEX, "-cloud-amd64")).cloned()
    }

    #[test]
    fn native_packages_go_first_and_versions_decide() {
        let release = picked("6.1").unwrap();
        assert_eq!(
            (release.name.as_str(), release.version.as_str()),
            ("6.1.0-56-cloud-amd64", "6.1.192-2")
        );
        assert_eq!(release.packages, ["linux-image-6.1.0-56-cloud-amd64"]);
    }

    #[test]
    fn split_packages_are_one_kernel() {
        let release = picked("newest").unwrap();
        assert_eq!(release.name, "7.3.4+deb13-cloud-amd64");
        assert_eq!(release.packages.len(), 3);
        assert_eq!(picked("7.3"), Some(release));
    }

    #[test]
    fn a_series_may_be_absent() {
        assert_eq!(picked("5.10"), None);
        assert_eq!(pick(Series::Newest, &[]), None);
        assert_eq!(series_of(&releases(INDEX, "-cloud-amd64")), "6.1, 7.3");
    }

    #[test]
    fn a_series_has_a_real_time_kernel_too() {
        let wanted: Wanted = "6.1-rt".parse().unwrap();
        assert_eq!(wanted, Wanted { series: Series::Number(6, 1), is_real_time: true });
        let wanted: Wanted = "newest".parse().unwrap();
        assert_eq!(wanted, Wanted { series: Series::Newest, is_real_time: false });
        assert!("rt".parse::<Wanted>().is_err() && "6.1-".parse::<Wanted>().is_err());
    }

    #[test]
    fn only_series_are_series() {
        for text in ["", "6", "6.1.0", "six.1", "latest"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }

    #[test]
    fn versions_sort_as_debian_says() {
        let ascending = [
            "6.1.99-1",
            "6.1.190-1",
            "6.1.192-2~deb11u1",
            "6.1.192-2",
            "6.1.192-2+b1",
            "6.1.192-10",
            "6.12.1~rc1-1",
            "6.12.1-1",
            "6.12.1a-1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("6.01-1", "6.1-1"), Ordering::Equal);
    }
}
