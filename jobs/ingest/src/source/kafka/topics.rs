//! Which topics a contract means.

use regex::Regex;
use tidemill_project::SourceName;
use tidemill_project::contract::TopicRule;

use crate::Result;
use crate::error::Cause;

/// The contract's topic rules, ready to match.
#[derive(Debug)]
pub(crate) struct TopicRules(Vec<Matcher>);

#[derive(Debug)]
enum Matcher {
    Name(String),
    Pattern(Regex),
}

impl TopicRules {
    /// Compiles the rules.
    ///
    /// # Errors
    /// When a pattern is no regular expression.
    pub(crate) fn new(name: &SourceName, rules: &[TopicRule]) -> Result<Self> {
        let matchers = rules.iter().map(|rule| {
            if !rule.pattern.starts_with('^') {
                return Ok(Matcher::Name(rule.pattern.clone()));
            }
            let faulty = |source| {
                let (source_name, pattern) = (name.clone(), rule.pattern.clone());
                Cause::TopicPattern { source_name, pattern, source }.into()
            };
            Regex::new(&rule.pattern).map(Matcher::Pattern).map_err(faulty)
        });
        Ok(Self(matchers.collect::<Result<_>>()?))
    }

    /// The first rule that means the topic. A rule that names it goes before one that describes it.
    pub(crate) fn rule_of(&self, topic: &str) -> Option<usize> {
        let named = self.0.iter().position(|rule| matches!(rule, Matcher::Name(name) if name == topic));
        named
            .or_else(|| self.0.iter().position(|rule| matches!(rule, Matcher::Pattern(regex) if regex.is_match(topic))))
    }

    /// Rules that mean none of `topics`, by their text.
    pub(crate) fn without_topic<'a>(&'a self, topics: &[String]) -> Vec<&'a str> {
        let means_none = |rule: &&Matcher| match rule {
            Matcher::Name(name) => !topics.contains(name),
            Matcher::Pattern(regex) => !topics.iter().any(|topic| regex.is_match(topic)),
        };
        let text = |rule: &'a Matcher| match rule {
            Matcher::Name(name) => name.as_str(),
            Matcher::Pattern(regex) => regex.as_str(),
        };
        self.0.iter().filter(means_none).map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> TopicRules {
        let rules: Vec<TopicRule> =
            patterns.iter().map(|pattern| TopicRule { pattern: (*pattern).to_owned(), defaults: Vec::new() }).collect();
        TopicRules::new(&SourceName::new("zoner", "user_activity"), &rules).unwrap()
    }

    #[test]
    fn a_name_goes_before_a_pattern() {
        let rules = rules(&["^events\\..*", "events.login"]);
        assert_eq!(rules.rule_of("events.login"), Some(1));
        assert_eq!(rules.rule_of("events.click"), Some(0));
        assert_eq!(rules.rule_of("other"), None);
    }

    #[test]
    fn rules_without_a_topic_are_named() {
        let rules = rules(&["sleep", "meals", "^light_.*"]);
        assert_eq!(rules.without_topic(&["sleep".to_owned()]), ["meals", "^light_.*"]);
    }
}
