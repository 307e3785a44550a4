//! (i) Sliding windows by panes beside tumbling ones over the same events.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidemill_tests::project::{Project, ProjectBuilder};

use crate::PanesArgs;
use crate::child::{self, Usage};
use crate::clicks::{self, Day, VARS};
use crate::results::Section;
use crate::stats::{median, thousands};

/// Seconds of a window and of a slide.
const WINDOW_S: u32 = 60;
const SLIDE_S: u32 = 10;
/// What windows are counted by, and what that stands for.
const CASES: [(&str, &str); 2] = [
    ("action", "few groups: a window holds many events of each"),
    ("user_id", "many groups: nearly a pane for each event"),
];

/// Measures both kinds of windows in turn.
pub(crate) fn measure(args: &PanesArgs) -> Result<Section> {
    let mut builder = ProjectBuilder::shipped();
    for (key, _) in CASES {
        for (name, sql) in models(key) {
            builder = builder.file(&format!("dbt-like-models/models/bench/{name}.sql"), &sql);
        }
    }
    let bench = Bench { project: builder.build()? };
    let day = Day::simulate(&bench.project, args.events)?;
    let files = day.deal("events.user-actions", 1, |_, _| 0)?;
    clicks::ingest(&bench.project, "clicks.user_actions", &files[0])?;
    let mut rows = Vec::new();
    for (key, meaning) in CASES {
        let (mut tumbling, mut sliding) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            bench.forget(key)?;
            tumbling.push(bench.build(&[&format!("tumbling_by_{key}")], &day)?);
            sliding.push(bench.build(&[&format!("panes_by_{key}"), &format!("sliding_by_{key}")], &day)?);
            eprintln!("by={key} tumbling={:?} sliding={:?}", tumbling.last(), sliding.last());
        }
        let counts = bench.check(key)?;
        for (name, runs, count) in [("tumbling", &tumbling, counts.0), ("sliding", &sliding, counts.1)] {
            rows.push(row(&format!("by {key} ({meaning})"), name, count, runs, &tumbling));
        }
    }
    Ok(Section {
        id: "i",
        title: "Sliding windows by panes",
        command: format!("benches/run i --events {} --rounds {}", args.events, args.rounds),
        data: format!(
            "{} clicks of one day, from files. *tumbling*: one model, events counted per {WINDOW_S} s. *sliding*: two models, events counted per\n\
             pane of {SLIDE_S} s, and windows of {WINDOW_S} s every {SLIDE_S} s added up from panes. `tidemill run-models` of tables that are not there, a\n\
             process, start included, in turn; medians of {}. Every sixth sliding window was compared with the tumbling one. A pane\n\
             lies in six windows: sliding windows have six times the rows, which is what they cost where there is a row for each event.",
            thousands(u32::try_from(args.events).map_or(f64::NAN, f64::from)),
            args.rounds,
        ),
        heading: vec!["windows", "kind", "rows", "time", "of tumbling", "processor time", "of tumbling"],
        rows,
    })
}

fn row(case: &str, name: &str, count: i64, runs: &[Usage], base: &[Usage]) -> Vec<String> {
    let middle =
        |runs: &[Usage], pick: fn(&Usage) -> Duration| median(runs.iter().map(|run| pick(run).as_secs_f64()).collect());
    #[expect(clippy::cast_precision_loss, reason = "rows are millions")]
    let count = count as f64;
    let mut cells = vec![case.to_owned(), name.to_owned(), thousands(count)];
    for pick in [(|run| run.wall) as fn(&Usage) -> Duration, |run| run.cpu] {
        cells.push(format!("{:.2} s", middle(runs, pick)));
        cells.push(format!("{:.2}", middle(runs, pick) / middle(base, pick)));
    }
    cells
}

/// Windows of either kind by one column.
fn models(key: &str) -> Vec<(String, String)> {
    let config = |at: &str, context: &str| {
        format!(
            "{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='{at}', batch_size='hour',\n    \
             begin='2000-01-01', unique_key=['{key}', '{at}']{context}) }}}}\n"
        )
    };
    let counted = |seconds: u32, at: &str| {
        format!(
            "with events as (\n    select {key}, {{{{ tumble_start('occurred_at', {seconds}) }}}} as {at}\n    \
             from {{{{ ref('stg_clicks__user_actions') }}}}\n)\n\
             select {key}, {at}, count(*) as events from events group by {key}, {at}\n"
        )
    };
    let mut sliding = config(
        "window_start",
        &format!(", meta={{'tidemill': {{'context': {{'after': '{}s'}}}}}}", WINDOW_S - SLIDE_S),
    );
    // Writing to a string cannot fail.
    let _ = write!(
        sliding,
        "with slides as (\n    select {key}, events, pane_start, unnest(range(0, {})) as slide\n    \
         from {{{{ ref('panes_by_{key}') }}}}\n),\n\
         slid as (\n    select {key}, events,\n        \
         to_timestamp_micros({{{{ epoch_micros('pane_start') }}}} - slide * {SLIDE_S} * 1000000) as window_start\n    \
         from slides\n)\n\
         select {key}, window_start, sum(events) as events from slid group by {key}, window_start\n",
        WINDOW_S / SLIDE_S
    );
    vec![
        (format!("tumbling_by_{key}"), config("window_start", "") + &counted(WINDOW_S, "window_start")),
        (format!("panes_by_{key}"), config("pane_start", "") + &counted(SLIDE_S, "pane_start")),
        (format!("sliding_by_{key}"), sliding),
    ]
}

struct Bench {
    project: Project,
}

impl Bench {
    fn forget(&self, key: &str) -> Result<()> {
        for model in ["tumbling", "panes", "sliding"] {
            let folder = self.project.lake().join("models/main").join(format!("{model}_by_{key}"));
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        Ok(())
    }

    fn build(&self, models: &[&str], day: &Day) -> Result<Usage> {
        let tidemill = self.project.tidemill().vars(VARS).as_of(&day.as_of);
        Ok(child::run(tidemill.command(&[&["run-models", "--select"][..], models].concat())?)?.1)
    }

    /// Counts of windows of either kind; fails where a sliding window that starts with a minute is not the tumbling one.
    fn check(&self, key: &str) -> Result<(i64, i64)> {
        let tidemill = self.project.tidemill().vars(VARS);
        let number = |sql: &str| tidemill.number(sql);
        let (tumbling, sliding) = (format!("main.tumbling_by_{key}"), format!("main.sliding_by_{key}"));
        let wrong = number(&format!(
            "select count(*) from {tumbling} as t left join {sliding} as s on t.{key} = s.{key} and t.window_start = s.window_start \
             where s.events is null or s.events <> t.events"
        ))?;
        ensure!(wrong == 0, "{wrong} sliding windows by {key} are not the tumbling ones");
        let counts =
            (number(&format!("select count(*) from {tumbling}"))?, number(&format!("select count(*) from {sliding}"))?);
        let sum = |table: &str| number(&format!("select sum(events) from {table}"));
        let (of_tumbling, of_sliding) = (sum(&tumbling)?, sum(&sliding)?);
        let times = i64::from(WINDOW_S / SLIDE_S);
        ensure!(
            of_sliding == of_tumbling * times,
            "{of_sliding} events in sliding windows, {of_tumbling} in tumbling ones"
        );
        Ok(counts)
    }
}
