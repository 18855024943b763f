//! Where alerts are read: the alerts API, Resource Graph, or what was saved from either.
//!
//! Whatever the source, alerts go one by one from the answer to the caller's question, so that a subscription
//! with tens of thousands of them costs the memory of one page.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::{Arm, Call, Cause, Explained, Result, Right, Saved};
use crate::verify::FiredAlert;

const ALERTS: &str = "providers/Microsoft.Security/alerts?api-version=2022-01-01";

/// Whose alerts: those of a subscription or of one of its resource groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    subscription: String,
    resource_group: Option<String>,
}

impl Scope {
    /// `subscription` is its id (a UUID); without a group, all of it is meant.
    ///
    /// # Errors
    ///
    /// A text that is no id of a subscription, or no name of a group.
    pub fn new(subscription: &str, resource_group: Option<&str>) -> Result<Self> {
        let refuse = |message: String| {
            Explained::new(Cause::Setting, message)
                .hint("see: az account list -o table, az group list -o table")
                .doing("choose the subscription")
        };
        let uuid = |text: &str| text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if !uuid(subscription) {
            return Err(refuse(format!("{subscription:?} is no id of a subscription")));
        }
        // As Azure's rules for names have it; nothing of it has to be escaped in a path or in a query.
        let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-_().".contains(c));
        if let Some(name) = resource_group.filter(|name| name.is_empty() || !plain(name)) {
            return Err(refuse(format!("{name:?} is no name of a resource group")));
        }
        Ok(Self {
            subscription: subscription.to_owned(),
            resource_group: resource_group.map(str::to_owned),
        })
    }

    /// The id of the subscription.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// The name of the group, where only one is meant.
    pub fn resource_group(&self) -> Option<&str> {
        self.resource_group.as_deref()
    }

    /// Its id in Azure.
    pub fn id(&self) -> String {
        match &self.resource_group {
            Some(group) => format!("/subscriptions/{}/resourceGroups/{group}", self.subscription),
            None => format!("/subscriptions/{}", self.subscription),
        }
    }

    /// Its id as a path: names of groups may have letters that a path escapes.
    pub(super) fn path(&self) -> String {
        escaped(&self.id())
    }

    pub(super) fn alerts(&self) -> (Call, String) {
        let call = Call {
            doing: format!("read the alerts of {}", self.id()),
            right: Right::ALERTS,
            scope: self.id(),
        };
        (call, format!("{}/{ALERTS}", self.path()))
    }
}

/// An id of a resource as a path.
pub(super) fn escaped(id: &str) -> String {
    // What ends a path, and what is no part of one at all.
    const OTHERS: percent_encoding::AsciiSet = percent_encoding::CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    percent_encoding::utf8_percent_encode(id, &OTHERS).to_string()
}

/// Where alerts are read.
#[derive(Clone)]
pub enum Source {
    /// The alerts API: every alert of the scope, the freshest source.
    Alerts(Arm, Scope),
    /// Resource Graph: one query, only what is new enough. What the login may not read it leaves out, and does not
    /// refuse (Microsoft's overview of Resource Graph), so the alerts API is asked whether the login may.
    Graph(Arm, Scope),
    /// What was saved from one of them, or by a continuous export.
    Saved(Saved),
}

/// What a source answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is complete: a file may hold one page of several.
    pub whole: bool,
    /// How many alerts it has.
    pub alerts: usize,
    /// How many items of it are something else.
    pub others: usize,
}

impl Answer {
    /// Counts an item, and hands it to `each` if it is an alert.
    pub(super) fn take(&mut self, item: &Value, each: &mut impl FnMut(FiredAlert)) {
        match FiredAlert::parse(item) {
            Some(alert) => {
                self.alerts += 1;
                each(alert);
            }
            None => self.others += 1,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alerts(_, scope) => write!(f, "the alerts API for {}", scope.id()),
            Self::Graph(_, scope) => write!(f, "Azure Resource Graph for {}", scope.id()),
            Self::Saved(saved) => saved.fmt(f),
        }
    }
}

impl Source {
    /// Hands over every alert, in the order of the source. Those that ended before `since` may be left out, where the
    /// source can tell: ask with some time to spare.
    ///
    /// A file is read at once, without giving way to anything else.
    ///
    /// # Errors
    ///
    /// Those of [`Arm::list`], [`Arm::graph`] and [`Saved::read`].
    pub async fn alerts(&self, since: Timestamp, mut each: impl FnMut(FiredAlert)) -> Result<Answer> {
        let mut answer = Answer {
            whole: true,
            ..Answer::default()
        };
        let item = |value: Value| answer.take(&value, &mut each);
        match self {
            Self::Alerts(arm, scope) => {
                let (call, path) = scope.alerts();
                arm.list(&call, &path, item).await?;
            }
            Self::Graph(arm, scope) => {
                let (call, path) = scope.alerts();
                let subscriptions = [scope.subscription.clone()];
                arm.graph(&call, &query(scope, since), &subscriptions, item)
                    .await?;
                arm.get(&call, &path).await?;
            }
            Self::Saved(saved) => return saved.read(each),
        }
        Ok(answer)
    }
}

/// One query for the alerts since a time. In Resource Graph the names of an alert's properties begin with a
/// capital letter; since other people's queries have them otherwise, both are asked for. An alert without a
/// time is never left out.
fn query(scope: &Scope, since: Timestamp) -> String {
    let either = |name: &str| {
        let small = format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
        format!("todatetime(coalesce(tostring(properties.{name}), tostring(properties.{small})))")
    };
    let group = scope.resource_group().map_or(String::new(), |name| {
        format!("\n| where resourceGroup =~ '{name}'")
    });
    format!(
        "securityresources\n| where type =~ 'microsoft.security/locations/alerts'{group}\n\
         | extend raised = {}, ended = {}\n\
         | where (isnull(raised) and isnull(ended)) or raised >= datetime({since}) or ended >= datetime({since})\n\
         | project id, name, type, properties\n| order by id asc",
        either("TimeGeneratedUtc"),
        either("EndTimeUtc"),
    )
}
