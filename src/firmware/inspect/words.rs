//! An inspection for people, 80 columns wide.

use std::fmt;

use super::{GuardedRole, InspectedPartition, Inspection, LostProgram};
use crate::domain::PageRange;
use crate::domain::text::wrapped;

/// Where the values of the first lines begin.
const VALUES: usize = 12;

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest {
            Some(digest) => writeln!(f, "package     {digest}")?,
            None => writeln!(f, "package     no digest: files are missing or damaged")?,
        }
        let count = self.files.len();
        let files = if count == 1 { "file" } else { "files" };
        let usable = if self.usable { "" } else { "; NOT USABLE" };
        writeln!(f, "            {}, {} bytes in {count} {files}{usable}", self.kind.as_str(), self.bytes)?;
        writeln!(f, "storage     NAND, {}", self.geometry)?;
        let programmer = self.programmer.as_deref().unwrap_or("none");
        writeln!(f, "{}", wrapped(&format!("programmer  {programmer}"), VALUES))?;
        for document in &self.documents {
            let used = if document.chosen { "used" } else { "not used" };
            let line = format!("document    {} ({}, {used})", document.key, document.kind.as_str());
            writeln!(f, "{}", wrapped(&line, VALUES))?;
        }
        if let Some(from) = &self.names_from {
            writeln!(f, "{}", wrapped(&format!("names       {from}"), VALUES))?;
        }
        writeln!(f)?;
        for finding in &self.findings {
            writeln!(f, "{}", wrapped(&format!("* {}", finding.text), 2))?;
        }
        self.calibration(f)?;
        writeln!(f, "\nWhat it erases and writes, by partition, with the document's lines:")?;
        writeln!(f, "  {:<11} {:<13} {:<7} {:<7} image", "partition", "pages", "erased", "written")?;
        self.partitions.iter().try_for_each(|partition| write!(f, "{partition}"))?;
        self.own_order(f)?;
        self.lists(f)?;
        writeln!(f, "\nFiles, with bytes and SHA-256:")?;
        for file in &self.files {
            writeln!(f, "  {}  {}\n    {}", file.key, file.bytes, file.sha256)?;
        }
        Ok(())
    }
}

impl Inspection {
    fn calibration(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.guarded.is_empty() {
            writeln!(f, "\nWhat belongs to the unit:")?;
        }
        for partition in &self.guarded {
            let role = match partition.role {
                GuardedRole::Efs => "EFS",
                GuardedRole::Copy => "copy",
            };
            let does = if partition.touched {
                format!("TOUCHED in {}", lines(&partition.lines))
            } else {
                "untouched".to_owned()
            };
            let line = format!("  {:<11} {:<13} {role:<7} {does}", partition.name, pages(partition.range));
            writeln!(f, "{}", wrapped(&line, 4))?;
        }
        if self.touches_guarded || self.rewrites_efs {
            writeln!(f, "With `efs: keep` a profile refuses this package, with `efs: carve` those")?;
            writeln!(f, "operations are left out.")?;
        }
        Ok(())
    }

    fn own_order(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = &self.order;
        if order.lost.is_empty() && order.unsafe_from_line.is_none() {
            return Ok(());
        }
        writeln!(f, "\nThe document's own order is not the order of a flash; a run uses a safe one.")?;
        if !order.lost.is_empty() {
            writeln!(f, "Executed as written, it would lose:")?;
        }
        for LostProgram { line, erased_in_line, what, .. } in &order.lost {
            writeln!(f, "  {what}: written in line {line}, erased in line {erased_in_line}")?;
        }
        if order.fatal {
            writeln!(f, "A module would not start after that: the order is FATAL.")?;
        }
        if let Some(line) = order.unsafe_from_line {
            let text = format!(
                "From line {line} on it works while a boot loader is in place: cut off then, a module would start what \
                 is half written instead of falling back to download mode."
            );
            writeln!(f, "{}", wrapped(&text, 0))?;
        }
        Ok(())
    }

    fn lists(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("Missing", &self.missing),
            ("Damaged", &self.damaged),
            ("Not in the check list", &self.unlisted),
            ("Listed and not used", &self.unreferenced),
            ("Listed and never shipped", &self.never_shipped),
        ];
        for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
            writeln!(f, "\n{what}:")?;
            names.iter().try_for_each(|name| writeln!(f, "{}", wrapped(&format!("  {name}"), 4)))?;
        }
        for warning in &self.warnings {
            writeln!(f, "\n{}", wrapped(&format!("warning: {warning}"), 0))?;
        }
        Ok(())
    }
}

impl fmt::Display for InspectedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "-" } else { &self.name };
        let range = match (self.grows, self.range.pages) {
            (true, 0) => "all".to_owned(),
            (true, _) => format!("{}-end", self.range.start),
            (false, _) => pages(self.range),
        };
        let erased = if self.erased_in_lines.is_empty() { "no".to_owned() } else { numbers(&self.erased_in_lines) };
        let mark = if self.guarded { " GUARDED" } else { "" };
        let head = format!("  {name:<11} {range:<13} {erased:<7}");
        if self.written.is_empty() {
            return writeln!(f, "{}", wrapped(&format!("{head} no{mark}"), 4));
        }
        for (index, written) in self.written.iter().enumerate() {
            let size = match written.pages {
                Some(1) => "1 page".to_owned(),
                Some(pages) => format!("{pages} pages"),
                None => "MISSING".to_owned(),
            };
            let head = if index == 0 { head.as_str() } else { "  and" };
            let line = format!("{head} {:<7} {} ({size}){mark}", written.line, written.image);
            writeln!(f, "{}", wrapped(&line, 4))?;
        }
        Ok(())
    }
}

fn lines(all: &[u32]) -> String {
    let word = if all.len() == 1 { "line" } else { "lines" };
    format!("{word} {}", numbers(all))
}

fn numbers(all: &[u32]) -> String {
    all.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn pages(range: PageRange) -> String {
    format!("{}-{}", range.start, range.end().saturating_sub(1))
}
