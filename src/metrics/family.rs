//! Metrics whose values are computed at each scrape, as plain values: nothing has to be removed when an object is gone.

/// A metric of type gauge. Its samples differ in their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeFamily {
    /// Name without the prefix of the operator.
    pub name: &'static str,
    /// Meaning.
    pub help: &'static str,
    /// Samples.
    pub samples: Vec<Sample>,
}

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, String)>,
    /// Value.
    pub value: f64,
}
