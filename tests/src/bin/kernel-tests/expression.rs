//! Expectations such as `entries == count` or `deletes * 1000 <= frees`.
//!
//! ```text
//! expectation = sum ("==" | "!=" | "<=" | ">=" | "<" | ">") sum
//! sum         = product { ("+" | "-") product }
//! product     = factor { "*" factor }
//! factor      = integer | name | "-" factor | "(" sum ")"
//! ```

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, anyhow, bail};

/// What the names stand for. A name without a number is known, but has no value at this moment.
pub(crate) type Values = BTreeMap<String, Option<i64>>;

/// Longer ones come before those they begin with.
const COMPARISONS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];

/// One expectation, ready to be compared with what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    text: String,
    left: Term,
    comparison: &'static str,
    right: Term,
}

#[derive(Clone, Debug)]
enum Term {
    Number(i64),
    Name(String),
    Negative(Box<Term>),
    Operation(char, Box<Term>, Box<Term>),
}

impl Expectation {
    /// # Errors
    /// When the text does not follow the grammar above.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::parse_tokens(text).with_context(|| format!("in the expectation {text:?}"))
    }

    fn parse_tokens(text: &str) -> Result<Self> {
        let mut tokens = Tokens { rest: text };
        let left = tokens.sum()?;
        let comparison = COMPARISONS.into_iter().find(|comparison| tokens.take(comparison));
        let comparison =
            comparison.ok_or_else(|| anyhow!("no comparison before {:?}", tokens.rest))?;
        let right = tokens.sum()?;
        match tokens.peek() {
            None => Ok(Self { text: text.to_owned(), left, comparison, right }),
            Some(_) => bail!("nothing may follow, but {:?} does", tokens.rest),
        }
    }

    /// The names it uses.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.left.names(&mut names);
        self.right.names(&mut names);
        names
    }

    /// # Errors
    /// When the expectation is violated, or one of its names has no value.
    pub(crate) fn check(&self, values: &Values) -> Result<(), String> {
        let number = |term: &Term| term.value(values).map_err(|why| format!("{self}: {why}"));
        let (left, right) = (number(&self.left)?, number(&self.right)?);
        let holds = match self.comparison {
            "==" => left == right,
            "!=" => left != right,
            "<=" => left <= right,
            ">=" => left >= right,
            "<" => left < right,
            _ => left > right,
        };
        let opposite = match self.comparison {
            "==" => "!=",
            "!=" => "==",
            "<=" => ">",
            ">=" => "<",
            "<" => ">=",
            _ => "<=",
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{self}: {left} {opposite} {right}{}", self.details(values)))
        }
    }

    /// The value of each name, where a side is more than a name.
    fn details(&self, values: &Values) -> String {
        let mut names = Vec::new();
        for side in [&self.left, &self.right] {
            if !matches!(side, Term::Name(_)) {
                side.names(&mut names);
            }
        }
        names.dedup();
        let show = |name: &&str| match values.get(*name) {
            Some(Some(value)) => format!("{name} {value}"),
            _ => format!("{name} null"),
        };
        let list: Vec<String> = names.iter().map(show).collect();
        if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.text)
    }
}

impl Term {
    fn value(&self, values: &Values) -> Result<i64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => match values.get(name) {
                Some(Some(value)) => Ok(*value),
                Some(None) => Err(format!("{name} is null")),
                None => Err(format!("{name} is not in ctmon's output")),
            },
            Self::Negative(term) => {
                term.value(values)?.checked_neg().ok_or_else(|| "overflow".to_owned())
            }
            Self::Operation(operator, left, right) => {
                let (left, right) = (left.value(values)?, right.value(values)?);
                let result = match operator {
                    '+' => left.checked_add(right),
                    '-' => left.checked_sub(right),
                    _ => left.checked_mul(right),
                };
                result.ok_or_else(|| format!("{left} {operator} {right} overflows"))
            }
        }
    }

    fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Number(_) => {}
            Self::Name(name) => names.push(name),
            Self::Negative(term) => term.names(names),
            Self::Operation(_, left, right) => {
                left.names(names);
                right.names(names);
            }
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, belongs: fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn operations(
        &mut self,
        operators: &[char],
        operand: fn(&mut Self) -> Result<Term>,
    ) -> Result<Term> {
        let mut term = operand(self)?;
        while let Some(operator) = self.peek().filter(|c| operators.contains(c)) {
            self.rest = &self.rest[operator.len_utf8()..];
            term = Term::Operation(operator, Box::new(term), Box::new(operand(self)?));
        }
        Ok(term)
    }

    fn sum(&mut self) -> Result<Term> {
        self.operations(&['+', '-'], Self::product)
    }

    fn product(&mut self) -> Result<Term> {
        self.operations(&['*'], Self::factor)
    }

    fn factor(&mut self) -> Result<Term> {
        match self.peek() {
            Some('0'..='9') => {
                let digits = self.word(|c| c.is_ascii_digit() || c == '_').replace('_', "");
                Ok(Term::Number(digits.parse().with_context(|| format!("the number {digits}"))?))
            }
            Some('a'..='z') => Ok(Term::Name(
                self.word(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_').to_owned(),
            )),
            Some('-') => {
                self.rest = &self.rest[1..];
                Ok(Term::Negative(Box::new(self.factor()?)))
            }
            Some('(') => {
                self.rest = &self.rest[1..];
                let term = self.sum()?;
                if !self.take(")") {
                    bail!("a ) is missing before {:?}", self.rest);
                }
                Ok(term)
            }
            Some(_) => bail!("neither a number nor a name: {:?}", self.rest),
            None => bail!("it ends where a number or a name should be"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let values = [
            ("sent", Some(50_000)),
            ("inserts", Some(49_999)),
            ("one", Some(1)),
            ("count_drift", None),
        ];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Expectation::parse(text).unwrap().check(&values)
    }

    #[test]
    fn arithmetic_binds_as_usual() {
        for text in [
            "1 + 2 * 3 == 7",
            "(1 + 2) * 3 == 9",
            "7 - 2 - 1 == 4",
            "-one - -1 == 0",
            "50_000==sent",
            "inserts + one == sent",
            "inserts <= sent",
            "sent >= sent",
            "inserts < sent",
            "sent > inserts",
            "sent != inserts",
            "- (one + 2) == 0 - 3",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn violations_show_both_sides() {
        assert_eq!(
            check("inserts == sent").unwrap_err(),
            "expected inserts == sent: 49999 != 50000"
        );
        assert_eq!(check("one > 1").unwrap_err(), "expected one > 1: 1 <= 1");
        assert_eq!(
            check("inserts + one * 2 == sent").unwrap_err(),
            "expected inserts + one * 2 == sent: 50001 != 50000 (inserts 49999, one 1)"
        );
    }

    #[test]
    fn a_value_that_is_not_there_violates() {
        assert_eq!(
            check("count_drift == 0").unwrap_err(),
            "expected count_drift == 0: count_drift is null"
        );
        assert_eq!(
            check("other == 0").unwrap_err(),
            "expected other == 0: other is not in ctmon's output"
        );
    }

    #[test]
    fn overflow_violates() {
        let text = "9223372036854775807 + one > 0";
        assert!(check(text).unwrap_err().contains("overflows"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (text, why) in [
            ("", "ends where"),
            ("sent", "no comparison"),
            ("sent = 1", "no comparison"),
            ("sent == ", "ends where"),
            ("sent == 1 2", "nothing may follow"),
            ("sent == 1 == 1", "nothing may follow"),
            ("(sent == 1", "a ) is missing"),
            ("sent == %", "neither a number nor a name"),
            ("99999999999999999999 == 1", "the number"),
        ] {
            let error = format!("{:#}", Expectation::parse(text).unwrap_err());
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(Expectation::parse("-(a + 1) * b2 == c_d").unwrap().names(), ["a", "b2", "c_d"]);
    }
}
