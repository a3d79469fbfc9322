//! The configuration of a log router, written as the ECS agent writes it: where output comes in, what is filtered, which task
//! it is of, what is included, and where the records of each container go.

use std::fmt::{self, Write};

use tallyman_crds::ecs::FirelensConfigurationType;
use tallyman_crds::firelens::{External, FireLens, OptionValue, Output, Sender};

/// The router's socket, inside its container.
pub const SOCKET: &str = "/var/run/fluent.sock";
/// Port on which the router takes what loggers inside containers send.
pub const PORT: u16 = 24_224;
/// Port on which a health check may ask Fluent Bit.
const HEALTH_PORT: u16 = 8877;
const HEALTH_TAG: &str = "firelens-healthcheck";
/// Most that Fluent Bit keeps in memory of what the engine sends.
const MEMORY: &str = "25MB";

/// Where the router listens on [`PORT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On every address: its containers are neighbours on a bridge.
    Everywhere,
    /// On loopback: its containers share it.
    Loopback,
    /// Not at all.
    Nowhere,
}

impl Listen {
    fn address(self) -> Option<&'static str> {
        match self {
            Self::Everywhere => Some("0.0.0.0"),
            Self::Loopback => Some("127.0.0.1"),
            Self::Nowhere => None,
        }
    }
}

/// The task as its records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the cluster.
    pub cluster: String,
    /// ARN of the task.
    pub task_arn: String,
    /// `family:revision`.
    pub task_definition: String,
}

/// Variable of the router that holds the value of an option of a container: `<option>_<its place in the definition>`.
pub fn variable(option: &str, sender: &Sender<'_>) -> String {
    format!("{option}_{}", sender.index)
}

/// The configuration of the router.
pub fn render(firelens: &FireLens<'_>, origin: &Origin, listen: Listen) -> String {
    let mut text = String::new();
    let written = match firelens.r#type {
        FirelensConfigurationType::Fluentbit => fluent_bit(&mut text, firelens, origin, listen),
        FirelensConfigurationType::Fluentd => fluentd(&mut text, firelens, origin, listen),
    };
    written.expect("a String takes whatever is written");
    text
}

/// Lines of one section in their order.
type Lines<'a> = Vec<(&'a str, String)>;

/// What is added to every record.
fn fields(firelens: &FireLens<'_>, origin: &Origin) -> Lines<'static> {
    let Origin {
        cluster,
        task_arn,
        task_definition,
    } = origin;
    if !firelens.options.log_metadata {
        return Vec::new();
    }
    vec![
        ("ecs_cluster", cluster.clone()),
        ("ecs_task_arn", task_arn.clone()),
        ("ecs_task_definition", task_definition.clone()),
    ]
}

/// The file that is included, as the router finds it.
fn external<'a>(firelens: &'a FireLens<'_>) -> Option<&'a str> {
    Some(match firelens.options.external.as_ref()? {
        External::File(path) => path,
        External::Kept(_) => firelens.r#type.external_path(),
    })
}

/// Records that are kept and records that are dropped: which container's, and what `log` must (not) match.
fn patterns<'a>(
    firelens: &'a FireLens<'a>,
    of: impl Fn(&Sender<'a>) -> Option<&'a str>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    firelens
        .senders
        .iter()
        .filter_map(move |sender| Some((sender.container, of(sender)?)))
}

fn outputs<'a>(
    firelens: &'a FireLens<'a>,
) -> impl Iterator<Item = (&'a Sender<'a>, &'a Output<'a>)> {
    let senders = firelens.senders.iter();
    senders.filter_map(|sender| Some((sender, sender.output.as_ref()?)))
}

fn value(value: &OptionValue<'_>, placeholder: impl Fn() -> String) -> String {
    match value {
        OptionValue::Plain(text) => (*text).to_owned(),
        OptionValue::Secret(_) => placeholder(),
    }
}

fn fluent_bit(
    text: &mut String,
    firelens: &FireLens<'_>,
    origin: &Origin,
    listen: Listen,
) -> fmt::Result {
    for input in inputs(listen) {
        section(text, "INPUT", input)?;
    }
    let kept = patterns(firelens, |sender| sender.include).map(|(of, text)| (of, "Regex", text));
    let dropped =
        patterns(firelens, |sender| sender.exclude).map(|(of, text)| (of, "Exclude", text));
    for (container, key, pattern) in kept.chain(dropped) {
        let grep = vec![
            line("Name", "grep"),
            ("Match", format!("{container}-firelens*")),
            (key, format!("log {pattern}")),
        ];
        section(text, "FILTER", grep)?;
    }
    let fields = fields(firelens, origin);
    if !fields.is_empty() {
        let mut lines = vec![line("Name", "record_modifier"), line("Match", "*")];
        let records = fields.into_iter();
        lines.extend(records.map(|(key, value)| ("Record", format!("{key} {value}"))));
        section(text, "FILTER", lines)?;
    }
    if let Some(path) = external(firelens) {
        write!(text, "@INCLUDE {path}\n\n")?;
    }
    if listen.address().is_some() {
        let nowhere = vec![line("Name", "null"), line("Match", HEALTH_TAG)];
        section(text, "OUTPUT", nowhere)?;
    }
    for (sender, output) in outputs(firelens) {
        let tag = format!("{}-firelens*", sender.container);
        let mut lines = vec![line("Name", output.plugin), ("Match", tag)];
        lines.extend(output.options.iter().map(|(key, option)| {
            let placeholder = || format!("${{{}}}", variable(key, sender));
            (*key, value(option, placeholder))
        }));
        section(text, "OUTPUT", lines)?;
    }
    Ok(())
}

/// What Fluent Bit listens to: the engine, loggers inside containers, and health checks.
fn inputs(listen: Listen) -> Vec<Lines<'static>> {
    let mut inputs = vec![vec![
        line("Name", "forward"),
        line("Mem_Buf_Limit", MEMORY),
        line("unix_path", SOCKET),
    ]];
    if let Some(address) = listen.address() {
        inputs.push(vec![
            line("Name", "forward"),
            line("Listen", address),
            ("Port", PORT.to_string()),
        ]);
        inputs.push(vec![
            line("Name", "tcp"),
            line("Tag", HEALTH_TAG),
            line("Listen", "127.0.0.1"),
            ("Port", HEALTH_PORT.to_string()),
        ]);
    }
    inputs
}

fn line<'a>(key: &'a str, value: &str) -> (&'a str, String) {
    (key, value.to_owned())
}

/// A section of Fluent Bit's configuration.
fn section(text: &mut String, name: &str, lines: Lines<'_>) -> fmt::Result {
    writeln!(text, "[{name}]")?;
    for (key, value) in lines {
        writeln!(text, "    {key} {value}")?;
    }
    writeln!(text)
}

fn fluentd(
    text: &mut String,
    firelens: &FireLens<'_>,
    origin: &Origin,
    listen: Listen,
) -> fmt::Result {
    write!(
        text,
        "<source>\n    @type unix\n    path {SOCKET}\n</source>\n\n"
    )?;
    if let Some(address) = listen.address() {
        write!(
            text,
            "<source>\n    @type forward\n    bind {address}\n    port {PORT}\n</source>\n\n"
        )?;
    }
    let kept = patterns(firelens, |sender| sender.include).map(|(of, text)| (of, "regexp", text));
    let dropped =
        patterns(firelens, |sender| sender.exclude).map(|(of, text)| (of, "exclude", text));
    for (container, part, pattern) in kept.chain(dropped) {
        write!(
            text,
            "<filter {container}-firelens**>\n    @type grep\n    <{part}>\n        key log\n        \
             pattern {pattern}\n    </{part}>\n</filter>\n\n"
        )?;
    }
    let fields = fields(firelens, origin);
    if !fields.is_empty() {
        write!(
            text,
            "<filter **>\n    @type record_transformer\n    <record>\n"
        )?;
        for (key, value) in fields {
            writeln!(text, "        {key} {value}")?;
        }
        write!(text, "    </record>\n</filter>\n\n")?;
    }
    if let Some(path) = external(firelens) {
        write!(text, "@include {path}\n\n")?;
    }
    for (sender, output) in outputs(firelens) {
        let (container, plugin) = (sender.container, output.plugin);
        write!(text, "<match {container}-firelens**>\n    @type {plugin}\n")?;
        for (key, option) in &output.options {
            let placeholder = || format!("\"#{{ENV['{}']}}\"", variable(key, sender));
            writeln!(text, "    {key} {}", value(option, placeholder))?;
        }
        write!(text, "</match>\n\n")?;
    }
    Ok(())
}
