//! Sources of alerts: the alerts API, Resource Graph, or alerts saved from either.
//!
//! Every source passes alerts one by one to the caller, so that a subscription with tens of thousands of alerts takes
//! the memory of one page.

use std::fmt;

use jiff::Timestamp;
use serde_json::Value;

use super::{Arm, Call, Result, Right, Saved};
use crate::net::{Cause, Explanation};
use crate::verify::FiredAlert;

const ALERTS: &str = "providers/Microsoft.Security/alerts?api-version=2022-01-01";

/// The scope of alerts: a subscription or one of its resource groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    subscription: String,
    resource_group: Option<String>,
}

impl Scope {
    /// Creates the scope of a subscription (a UUID), or of a resource group in it.
    ///
    /// # Errors
    /// If an ID or name is invalid.
    pub fn new(subscription: &str, resource_group: Option<&str>) -> Result<Self> {
        let refuse = |message: String| {
            Explanation::new(Cause::Setting, message)
                .with_hint("see: az account list -o table, az group list -o table")
                .failed_to("select the subscription")
        };
        let is_uuid =
            |text: &str| text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if !is_uuid(subscription) {
            return Err(refuse(format!("{subscription:?} is not a subscription ID")));
        }
        // By Azure's rules for names; these characters need no escape in queries.
        let is_plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "-_().".contains(c));
        if let Some(name) = resource_group.filter(|name| name.is_empty() || !is_plain(name)) {
            return Err(refuse(format!("{name:?} is not a resource group name")));
        }
        Ok(Self {
            subscription: subscription.to_owned(),
            resource_group: resource_group.map(str::to_owned),
        })
    }

    /// Returns the subscription ID.
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    /// Returns the resource group.
    pub fn resource_group(&self) -> Option<&str> {
        self.resource_group.as_deref()
    }

    /// Returns the resource ID.
    pub fn id(&self) -> String {
        match &self.resource_group {
            Some(group) => format!("/subscriptions/{}/resourceGroups/{group}", self.subscription),
            None => format!("/subscriptions/{}", self.subscription),
        }
    }

    /// Returns the resource ID as a path, in which some letters of names are escaped.
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

/// Escapes a resource ID for a path.
pub(super) fn escaped(id: &str) -> String {
    // The characters that end a path or are invalid in it.
    const ESCAPED: percent_encoding::AsciiSet = percent_encoding::CONTROLS
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
    percent_encoding::utf8_percent_encode(id, &ESCAPED).to_string()
}

/// A source of alerts.
#[derive(Clone)]
pub enum Source {
    /// The alerts API, which lists every alert of the scope and is the freshest source.
    Alerts(Arm, Scope),
    /// Resource Graph, with a query for recent alerts. It omits alerts that the login must not read, without an error
    /// (Microsoft's overview of Resource Graph), so the alerts API is read as well to check the permission.
    Graph(Arm, Scope),
    /// Alerts saved from one of these or by continuous export.
    Saved(Saved),
}

/// The result of reading a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it is complete; a file may hold one of several pages.
    pub whole: bool,
    /// The number of alerts.
    pub alerts: usize,
    /// The number of other items.
    pub others: usize,
}

impl Answer {
    /// Counts an item, and passes it to `each` if it is an alert.
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
    /// Passes every alert to `each`, in the order of the source. The source may omit alerts that ended before `since`.
    ///
    /// Reading a file blocks the task.
    ///
    /// # Errors
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

/// Returns a query for the alerts since a time. In Resource Graph the names of properties start with a capital letter,
/// but published queries have both spellings, so the query accepts both. Alerts without a time match.
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
