//! The figures of a run: a row of the table and a line of JSON for each.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

/// What was measured, once or several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The bench that measured it.
    pub bench: &'static str,
    /// What was measured.
    pub case: String,
    /// The number of values.
    pub n: usize,
    /// The smallest value.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The average.
    pub mean: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest value.
    pub max: f64,
    /// The unit of the values.
    pub unit: &'static str,
    /// The case of the same bench in the same run that it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to: Option<String>,
    /// The median, divided by the median of that case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Figure {
    /// Summarizes values, of which there is at least one.
    pub fn of(bench: &'static str, case: &str, values: &[f64], unit: &'static str) -> Self {
        assert!(!values.is_empty(), "{case} was not measured");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = u32::try_from(sorted.len()).expect("values fit into memory");
        Self {
            bench,
            case: case.to_owned(),
            n: sorted.len(),
            min: rounded(percentile(&sorted, 0)),
            p50: rounded(percentile(&sorted, 50)),
            mean: rounded(sorted.iter().sum::<f64>() / f64::from(n)),
            p99: rounded(percentile(&sorted, 99)),
            max: rounded(percentile(&sorted, 100)),
            unit,
            ratio_to: None,
            ratio: None,
        }
    }

    /// Compares it with another figure. Nothing has a ratio to zero.
    pub fn compared_with(mut self, base: &Self) -> Self {
        if base.p50 != 0.0 {
            self.ratio_to = Some(base.case.clone());
            self.ratio = Some(rounded(self.p50 / base.p50));
        }
        self
    }

    fn row(&self) -> String {
        let numbers = [self.min, self.p50, self.mean, self.p99, self.max];
        let numbers: Vec<String> = numbers.iter().map(|x| format!("{x:>9.3}")).collect();
        let ratio = self.ratio.zip(self.ratio_to.as_ref());
        let ratio = ratio.map_or_else(String::new, |(ratio, to)| format!("{ratio:>9.3} to {to}"));
        let row = format!(
            "{:<11} {:<44} {:>4} {} {:<5} {ratio}",
            self.bench,
            self.case,
            self.n,
            numbers.join(" "),
            self.unit
        );
        row.trim_end().to_owned()
    }
}

/// Returns the smallest of sorted values that `percent` of a hundred do not exceed.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// Rounds to what a table shows: a millisecond of seconds.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The figures of a run, printed and written as they come.
pub struct Report {
    bench: &'static str,
    file: File,
    figures: Vec<Figure>,
}

impl Report {
    /// Creates an empty one, in place of what an earlier run wrote to the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { bench: "", file: File::create(path)?, figures: Vec::new() })
    }

    /// Begins the figures of a bench.
    pub fn begin(&mut self, bench: &'static str) {
        self.bench = bench;
        println!(
            "\n{:<11} {:<44} {:>4} {:>9} {:>9} {:>9} {:>9} {:>9} unit  {:>9}",
            "bench", "case", "n", "min", "p50", "mean", "p99", "max", "ratio"
        );
    }

    /// Adds seconds.
    pub fn seconds(&mut self, case: &str, values: &[f64]) {
        self.values(case, values, "s");
    }

    /// Adds seconds, and their ratio to those of an earlier case of this bench.
    pub fn compared(&mut self, case: &str, values: &[f64], base: &str) {
        let base = self.figures.iter().find(|f| f.bench == self.bench && f.case == base);
        let base = base.unwrap_or_else(|| panic!("{case} has nothing to be compared with"));
        let figure = Figure::of(self.bench, case, values, "s").compared_with(base);
        self.add(figure);
    }

    /// Adds values of this unit.
    pub fn values(&mut self, case: &str, values: &[f64], unit: &'static str) {
        self.add(Figure::of(self.bench, case, values, unit));
    }

    /// Adds a number of things.
    pub fn count(&mut self, case: &str, number: usize) {
        let number = u32::try_from(number).expect("few things are counted");
        self.values(case, &[f64::from(number)], "count");
    }

    fn add(&mut self, figure: Figure) {
        println!("{}", figure.row());
        let line = serde_json::to_string(&figure).expect("a figure is JSON");
        writeln!(self.file, "{line}").expect("the file can be written");
        self.figures.push(figure);
    }
}
