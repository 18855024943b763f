//! Where alerts are read: the alerts API, Resource Graph, or a file that someone took from either.
//!
//! Whatever the source, alerts go one by one from the answer to the caller's question, so that a subscription
//! with tens of thousands of them costs the memory of one page.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Deserializer, Map, Value};

use super::{Arm, Call, Cause, Explained, Result, Right, page};
use crate::defender::fired::{self, FiredAlert};

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 256 << 20;
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
    /// A list of the API, rows of Resource Graph or a continuous export, as one JSON value or as lines of it.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alerts(_, scope) => write!(f, "the alerts API for {}", scope.id()),
            Self::Graph(_, scope) => write!(f, "Azure Resource Graph for {}", scope.id()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// When what it tells is of, where that is not now: the time of a file.
    pub fn as_of(&self) -> Option<Timestamp> {
        let Self::File(path) = self else {
            return None;
        };
        let changed = std::fs::metadata(path).and_then(|file| file.modified()).ok()?;
        Timestamp::try_from(changed).ok()
    }

    /// The alerts that `keep` wants, in the order of the source, and whether it told them to the end: a file may
    /// hold a page that others follow. Those that ended before `since` may be left out, where the source can tell:
    /// ask with some time to spare.
    ///
    /// A file is read at once, without giving way to anything else.
    ///
    /// # Errors
    ///
    /// Those of [`Arm::list`] and [`Arm::graph`]; a file that is not there, too large, not JSON, or something else
    /// than alerts.
    pub async fn alerts(
        &self,
        since: Timestamp,
        keep: impl Fn(&FiredAlert) -> bool,
    ) -> Result<(Vec<FiredAlert>, bool)> {
        let mut kept = vec![];
        let each = |value| kept.extend(fired::read(&value).into_iter().filter(&keep));
        let whole = self.each(since, each).await?;
        Ok((kept, whole))
    }

    /// Every alert as the source has it, and whether it told them to the end; `since` as in [`Source::alerts`].
    ///
    /// # Errors
    ///
    /// As [`Source::alerts`].
    pub async fn each(&self, since: Timestamp, item: impl FnMut(Value)) -> Result<bool> {
        match self {
            Self::Alerts(arm, scope) => {
                let (call, path) = scope.alerts();
                arm.list(&call, &path, item).await?;
                Ok(true)
            }
            Self::Graph(arm, scope) => {
                let (call, path) = scope.alerts();
                let subscriptions = [scope.subscription.clone()];
                arm.graph(&call, &query(scope, since), &subscriptions, item)
                    .await?;
                arm.get(&call, &path).await?;
                Ok(true)
            }
            Self::File(path) => file(path, item),
        }
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

fn file(path: &Path, mut item: impl FnMut(Value)) -> Result<bool> {
    let doing = || format!("read the alerts in {}", path.display());
    let refuse = |message: String| Explained::new(Cause::Unreadable, message).doing(doing());
    let system = |error: std::io::Error| refuse(error.to_string());
    let other = || {
        let message = "it holds something else than alerts; what is read is a list of the alerts API, rows of Resource \
                       Graph (as objects, not as a table), or a continuous export";
        refuse(message.to_owned())
    };
    let opened = File::open(path).map_err(system)?;
    let metadata = opened.metadata().map_err(system)?;
    if metadata.is_dir() {
        return Err(refuse("it is a directory".to_owned()));
    }
    if metadata.len() > MAX_FILE {
        return Err(refuse(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    // A pipe has no length; it ends here all the same.
    let mut reader = BufReader::new(opened.take(MAX_FILE));
    // Some programs begin a file with a mark that is not part of its text.
    if reader.fill_buf().map_err(system)?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    // A list of something else is not one without alerts.
    let (mut items, mut alerts) = (false, false);
    let mut each = |value: Value| {
        items = true;
        alerts = alerts || !fired::read(&value).is_empty();
        item(value);
    };
    let mut from = Deserializer::from_reader(reader);
    let mut whole = true;
    loop {
        let page = page::read(&mut from, &mut each).map_err(|error| refuse(page::place(&error)))?;
        if page.listed {
            whole = !goes_on(&page.rest);
        } else {
            let value = Value::Object(page.rest);
            if fired::read(&value).is_empty() {
                return Err(other());
            }
            each(value);
        }
        // Lines of JSON: another value follows.
        if from.end().is_ok() {
            break;
        }
    }
    if items && !alerts {
        return Err(other());
    }
    Ok(whole)
}

/// Whether a saved page says that others follow it, as the APIs write that, and as programs that ask them do:
/// `nextLink`, `$skipToken`, `skip_token`, and `resultTruncated`, whose value is a text.
fn goes_on(rest: &Map<String, Value>) -> bool {
    rest.iter().any(|(name, value)| {
        let name = name.replace(['$', '_'], "").to_ascii_lowercase();
        match name.as_str() {
            "nextlink" | "skiptoken" => value.as_str().is_some_and(|text| !text.is_empty()),
            "resulttruncated" => {
                let said = value.as_str().unwrap_or_default();
                said.eq_ignore_ascii_case("true") || value.as_bool() == Some(true)
            }
            _ => false,
        }
    })
}
