//! When steps started and alerts were raised. Positions are percentages, so that the chart has any width.

use jiff::Timestamp;

use super::super::meaning::portal;
use super::utc;
use crate::result::{RaisedAlert, RunResult};

/// More alerts than a run can raise: the others are in the table of alerts.
const MOST_ALERTS: usize = 60;
/// Distances between ticks, in seconds.
const DISTANCES: [f64; 20] = [
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1800.0,
    3600.0,
    7200.0,
    14_400.0,
    21_600.0,
    43_200.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
];
const MOST_TICKS: f64 = 5.0;

/// A chart with a row for each scenario and alert, in the order of time.
#[derive(Default)]
pub(super) struct Timeline<'a> {
    pub rows: Vec<Row<'a>>,
    pub ticks: Vec<Tick>,
}

/// Something that happened, with its marks in the chart.
pub(super) struct Row<'a> {
    /// Class of the row: `steps`, `alert` or `end`.
    pub kind: &'static str,
    pub what: &'static str,
    pub name: &'a str,
    pub link: Option<String>,
    pub time: String,
    pub after: String,
    pub marks: Vec<String>,
    /// Start and end of the line.
    pub line: (String, String),
}

/// A tick of the axis.
pub(super) struct Tick {
    pub x: String,
    pub label: String,
    pub anchor: &'static str,
}

/// The period of the chart.
#[derive(Clone, Copy)]
struct Scale {
    from: Timestamp,
    span: f64,
}

impl Scale {
    fn seconds(self, time: Timestamp) -> f64 {
        time.duration_since(self.from).as_secs_f64()
    }

    /// Returns a position in percent. Times outside of the chart, of a clock that was wrong, are at its border.
    fn x(self, seconds: f64) -> String {
        format!("{:.2}%", (seconds / self.span * 100.0).clamp(0.0, 100.0))
    }
}

impl<'a> Timeline<'a> {
    /// Returns the chart, without rows if no step has started.
    pub fn of(result: &'a RunResult) -> Self {
        let Some(from) = result.steps().filter_map(|step| step.started).min() else {
            return Self::default();
        };
        let mut alerts = alerts(result);
        alerts.sort_by_key(|(time, _)| *time);
        alerts.truncate(MOST_ALERTS);
        let last = alerts.iter().map(|(time, _)| *time).max();
        let until = last.unwrap_or(result.ended).max(result.ended);
        let scale = Scale {
            from,
            span: until.duration_since(from).as_secs_f64().max(1.0),
        };
        let mut rows: Vec<Row> = result
            .scenarios
            .iter()
            .filter_map(|scenario| {
                let starts = scenario.steps.iter().filter_map(|step| step.started);
                row(
                    scale,
                    "steps",
                    "Steps of",
                    &scenario.id,
                    &starts.collect::<Vec<_>>(),
                )
            })
            .collect();
        rows.extend(row(
            scale,
            "end",
            "End of the run,",
            "cleanup included",
            &[result.ended],
        ));
        rows.extend(alerts.into_iter().filter_map(|(time, alert)| {
            let mut row = row(scale, "alert", "Alert raised:", &alert.name, &[time])?;
            row.link = portal(alert).map(String::from);
            row.line.0 = scale.x(0.0);
            Some(row)
        }));
        Self {
            rows,
            ticks: ticks(scale),
        }
    }
}

/// Returns every raised alert whose time is known.
fn alerts(result: &RunResult) -> Vec<(Timestamp, &RaisedAlert)> {
    let verification = result.verification.iter();
    let raised = verification.flat_map(|verification| {
        let expected = verification
            .alerts
            .iter()
            .filter_map(|alert| alert.raised.as_ref());
        expected.chain(&verification.additional)
    });
    raised
        .filter_map(|alert| Some((alert.generated?, alert)))
        .collect()
}

/// Returns a row, or `None` without times.
fn row<'a>(
    scale: Scale,
    kind: &'static str,
    what: &'static str,
    name: &'a str,
    times: &[Timestamp],
) -> Option<Row<'a>> {
    let (first, last) = (*times.iter().min()?, *times.iter().max()?);
    let x = |time: &Timestamp| scale.x(scale.seconds(*time));
    let mut marks: Vec<String> = times.iter().map(x).collect();
    marks.sort();
    marks.dedup();
    Some(Row {
        kind,
        what,
        name,
        link: None,
        time: utc(first),
        after: label(scale.seconds(first)),
        marks,
        line: (x(&first), x(&last)),
    })
}

fn ticks(scale: Scale) -> Vec<Tick> {
    let fits = |distance: &f64| scale.span / distance <= MOST_TICKS;
    let distance = DISTANCES.into_iter().find(fits).unwrap_or(scale.span);
    let mut ticks = vec![];
    let mut at = 0.0;
    while at <= scale.span {
        let share = at / scale.span;
        ticks.push(Tick {
            x: scale.x(at),
            label: label(at),
            anchor: match share {
                share if share < 0.05 => "start",
                share if share > 0.9 => "end",
                _ => "middle",
            },
        });
        at += distance;
    }
    ticks
}

/// Formats a distance from the start: `0 s`, `90 s`, `7 min`, `2 h`, `3 d`.
fn label(seconds: f64) -> String {
    let (unit, name) = match seconds.abs() {
        s if s < 120.0 => (1.0, "s"),
        s if s < 7200.0 => (60.0, "min"),
        s if s < 172_800.0 => (3600.0, "h"),
        _ => (86_400.0, "d"),
    };
    let number = seconds / unit;
    if unit > 60.0 && number.fract().abs() > 0.05 {
        format!("{number:.1} {name}")
    } else {
        format!("{number:.0} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn labels_have_the_unit_of_their_size() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (90.0, "90 s"),
            (420.0, "7 min"),
            (7200.0, "2 h"),
            (9000.0, "2.5 h"),
            (259_200.0, "3 d"),
        ] {
            assert_eq!(label(seconds), expected);
        }
    }

    #[test]
    fn every_span_has_a_few_ticks() {
        for span in [1.0, 7.0, 61.0, 2400.0, 86_400.0, 1e7, 1e10] {
            let from = Timestamp::UNIX_EPOCH;
            let ticks = ticks(Scale { from, span });
            assert!((2..=6).contains(&ticks.len()), "{span}: {}", ticks.len());
        }
    }

    #[test]
    fn alert_before_the_first_step_is_at_the_border() {
        let mut result = fixture::verified();
        let verification = result.verification.as_mut().unwrap();
        verification.additional[0].generated = Some(Timestamp::UNIX_EPOCH);
        let timeline = Timeline::of(&result);
        let rows = timeline.rows.iter().filter(|row| row.kind == "alert");
        assert_eq!(rows.map(|row| &*row.marks[0]).next(), Some("0.00%"));
    }

    #[test]
    fn run_without_steps_has_no_chart() {
        assert!(Timeline::of(&fixture::not_started()).rows.is_empty());
    }
}
