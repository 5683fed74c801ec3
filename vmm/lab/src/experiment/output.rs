//! The outcome of an experiment as Markdown, as CSV, and as a figure.

use super::{Dimension, Experiment, MEASURES, Measure, Results};
use crate::csv::quoted;
use crate::plot::curves::{self, Curve, Panel};

impl Results<'_> {
    /// The table in Markdown, and a line that explains its columns.
    pub fn markdown(&self) -> String {
        let experiment = self.experiment;
        let keys = experiment.keys(experiment.across);
        let across = experiment.across.map(|index| (index, &experiment.dimensions[index]));
        let mut header: Vec<String> =
            keys.iter().map(|index| experiment.dimensions[*index].name.clone()).collect();
        match across {
            Some((_, Dimension { name, values })) => {
                header.extend(values.iter().map(|value| format!("{name} {value}")));
            }
            None => header.extend(experiment.show.iter().map(|measure| measure.header.to_owned())),
        }
        let mut lines = vec![line(&header), line(&vec!["---".to_owned(); header.len()])];
        for place in 0..self.cells.len() {
            let mut at = experiment.at(place);
            if across.is_some_and(|(index, _)| at[index] > 0) {
                continue;
            }
            let mut row: Vec<String> = keys
                .iter()
                .map(|index| format!("`{}`", experiment.dimensions[*index].values[at[*index]]))
                .collect();
            match across {
                Some((index, Dimension { values, .. })) => {
                    for value in 0..values.len() {
                        at[index] = value;
                        let place = experiment.place(&at);
                        let values =
                            experiment.show.iter().map(|measure| self.text(place, measure));
                        row.push(values.collect::<Vec<_>>().join(", "));
                    }
                }
                None => row.extend(experiment.show.iter().map(|measure| self.text(place, measure))),
            }
            lines.push(line(&row));
        }
        let explained =
            experiment.show.iter().map(|measure| format!("{}: {}", measure.header, measure.about));
        let legend = wrapped(&(explained.collect::<Vec<_>>().join("; ") + "."));
        format!("{}\n\n{legend}\n", lines.join("\n"))
    }

    /// The page of the experiment: question, finding, command, table and figure.
    pub fn page(&self) -> String {
        let Experiment { name, about, finding, seeds, .. } = self.experiment;
        let runs = if *seeds == 1 { "One run".to_owned() } else { format!("{seeds} runs") };
        let figure = match self.experiment.figure {
            Some(_) => format!("\n![{about}]({name}.svg)\n"),
            None => String::new(),
        };
        let finding = match finding.as_str() {
            "" => String::new(),
            text => format!("{text}\n\n"),
        };
        format!(
            "# {name}: {about}\n\n{finding}```\nghostlink experiment {name}\n```\n\n{runs} for each cell.\n\n{}{figure}",
            self.markdown()
        )
    }

    fn text(&self, place: usize, measure: &Measure) -> String {
        self.cells[place].as_ref().map_or("n/a".to_owned(), |cell| measure.of(cell).text())
    }

    /// All measures of all combinations. Times are nanoseconds, shares are between 0 and 1.
    pub fn csv(&self) -> String {
        let names = self.experiment.dimensions.iter().map(|dimension| dimension.name.as_str());
        let header = names.chain(["runs"]).chain(MEASURES.iter().map(|measure| measure.name));
        let mut csv = header.collect::<Vec<_>>().join(",") + "\n";
        for (place, cell) in self.cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let at = self.experiment.at(place);
            let values = self.experiment.dimensions.iter().zip(&at);
            let values = values.map(|(dimension, at)| quoted(&dimension.values[*at]));
            let measures = MEASURES.iter().map(|measure| measure.of(cell).raw());
            let fields = values.chain([cell.sum.runs.to_string()]).chain(measures);
            csv += &(fields.collect::<Vec<_>>().join(",") + "\n");
        }
        csv
    }

    /// The figure as SVG, if the experiment has one.
    pub fn svg(&self) -> Option<String> {
        let experiment = self.experiment;
        let figure = experiment.figure.as_ref()?;
        let keys = experiment.keys(Some(figure.x));
        let x = &experiment.dimensions[figure.x];
        let panels = figure.measures.iter().map(|measure| {
            let mut curves = Vec::new();
            for place in 0..self.cells.len() {
                let mut at = experiment.at(place);
                if at[figure.x] > 0 {
                    continue;
                }
                let names: Vec<&str> = keys
                    .iter()
                    .map(|index| experiment.dimensions[*index].values[at[*index]].as_str())
                    .collect();
                let points = (0..x.values.len()).map(|value| {
                    at[figure.x] = value;
                    let cell = self.cells[experiment.place(&at)].as_ref();
                    cell.map(|cell| measure.of(cell))
                });
                curves.push(Curve { points: points.collect(), name: names.join(" ") });
            }
            Panel { title: format!("{}: {}", measure.header, measure.about), curves }
        });
        Some(curves::svg(&x.name, &x.values, &panels.collect::<Vec<_>>()))
    }
}

impl Experiment {
    /// The dimensions with several values, except `but`.
    fn keys(&self, but: Option<usize>) -> Vec<usize> {
        let is_key =
            |index: &usize| self.dimensions[*index].values.len() > 1 && Some(*index) != but;
        (0..self.dimensions.len()).filter(is_key).collect()
    }
}

/// A paragraph in lines of up to 100 columns.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if last.chars().count() + 1 + word.chars().count() <= 100 => {
                *last += " ";
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}
