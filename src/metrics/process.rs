//! The metrics that client libraries of Prometheus have for a process, from /proc. What cannot be read has no metric.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Unit of times in /proc: Linux counts them in hundredths of a second on all architectures that it supports today,
/// whatever the frequency of its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Metrics of this process.
#[derive(Debug)]
pub struct Process;

/// What /proc shows of a process.
#[derive(Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    start_time_seconds: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Usage {
    /// Reads the files of /proc.
    fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        // Reading the directory opens one more.
        let open = fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1));
        let text = (
            file("/proc/self/stat"),
            file("/proc/self/status"),
            file("/proc/stat"),
            file("/proc/self/limits"),
        );
        #[allow(clippy::cast_precision_loss)] // a number of files
        let open = open.map(|count| count as f64);
        Self { open_fds: open, ..Self::parse(&text.0, &text.1, &text.2, &text.3) }
    }

    /// Parses the files `stat`, `status` and `limits` of a process and the file `stat` of the system.
    fn parse(stat: &str, status: &str, system: &str, limits: &str) -> Self {
        // The name of the program is in parentheses and may contain anything.
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        // Numbered from 3 in proc_pid_stat(5).
        let field = |number: usize| fields.get(number - 3)?.trim().parse::<f64>().ok();
        let line = |text: &str, name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        let kilobytes = |name| line(status, name).map(|kb| kb * 1024.0);
        let booted = line(system, "btime ");
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            start_time_seconds: field(22).zip(booted).map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND),
            threads: line(status, "Threads:"),
            open_fds: None,
            max_fds: line(limits, "Max open files"),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let usage = Usage::read();
        if let Some(cpu) = usage.cpu_seconds {
            let help = "CPU time that the process used, in user and kernel mode";
            let metric = encoder.encode_descriptor("cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(cpu).encode(metric)?;
        }
        let gauges = [
            ("resident_memory_bytes", "Memory of the process in RAM", usage.resident_bytes),
            ("virtual_memory_bytes", "Address space of the process", usage.virtual_bytes),
            ("start_time_seconds", "Start of the process, as a Unix time", usage.start_time_seconds),
            ("threads", "Threads of the process", usage.threads),
            ("open_fds", "Open file descriptors", usage.open_fds),
            ("max_fds", "Limit of open file descriptors", usage.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                ConstGauge::new(value).encode(encoder.encode_descriptor(
                    name,
                    help,
                    None,
                    MetricType::Gauge,
                )?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 5 0 0 0 150 50 0 0 20 0 3 0 1200 1000 200";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t     512 kB\nThreads:\t3\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        let usage = Usage::parse(stat, status, "cpu 1 2\nbtime 1000\n", limits);
        assert_eq!(
            usage,
            Usage {
                cpu_seconds: Some(2.0),
                resident_bytes: Some(524_288.0),
                virtual_bytes: Some(2_097_152.0),
                start_time_seconds: Some(1012.0),
                threads: Some(3.0),
                open_fds: None,
                max_fds: Some(1024.0),
            }
        );
        assert_eq!(Usage::parse("", "", "", "Max open files unlimited"), Usage::default());
        assert!(Usage::read().open_fds.is_some_and(|open| open >= 3.0));
    }
}
