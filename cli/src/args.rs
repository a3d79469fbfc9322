//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Amazon ECS on your own Docker hosts: services, tasks and hosts, and why they are as they are.
///
/// What kubectl does for every kind it does for these, too: `kubectl get tsvc`, `kubectl apply`, `kubectl wait`. Here is what
/// it cannot know: the tree of a service, what a change would do, why a task does not run, going back, draining a host.
#[derive(Parser, Debug)]
#[command(name = "kubectl-tally", bin_name = "kubectl tally", version)]
#[command(
    after_help = "Begin with `kubectl tally get`, and `kubectl tally doctor` if it says nothing."
)]
pub struct Cli {
    /// Where to ask.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags as kubectl has them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Namespace. Default: that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Kubeconfig file. Default: $KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// Form of what is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Form of the output.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    pub output: Form,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// `service.tallyman.dev/web`, a line each, as kubectl takes it.
    Name,
}

/// Whether to look into one namespace or into all.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Reach {
    /// Look into all namespaces, whatever -n says
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// Form of findings, which have neither names nor more columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FindingForm {
    /// Lines for people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show services with their deployments, tasks and containers as a tree; runs and single tasks, too
    #[command(visible_alias = "tree")]
    Get(Get),
    /// Wait until a service is deployed or a run has ended; for pipelines
    ///
    /// Progress goes to stderr. Exit code 0: the service runs what its spec asks for, or the run ended well. 1: it will not
    /// come to that by itself (it is Stalled, or the run failed), and the reason is printed. 2: the time is over.
    Status(Status),
    /// Say what applying a file would do, without doing it
    ///
    /// The API server checks each object (dry run), then the operator's own scheduler decides here, in this process, on
    /// what is in the cluster now: which revision is registered, which tasks start on which host and which stop, and what every
    /// host lacks for those that find none. It supposes that each task that starts also runs well.
    ///
    /// Exit code 0: nothing would change. 1: something would. 255: it cannot be said.
    Plan(Plan),
    /// Say why something does not run, host by host
    ///
    /// Every host is asked everything that a placement asks, and all that it fails is listed, not only the first.
    Explain(Explain),
    /// List the revisions of a service's task definition, and which of them it runs
    History(History),
    /// Go back to an earlier revision
    ///
    /// The service is pinned to it, as `taskDefinition: family:number`. Without --to-revision it is the deployment
    /// that completed before the present one, else the next lower ACTIVE revision.
    Undo(Undo),
    /// Start every task of a service anew, within its deployment configuration
    Restart(Restart),
    /// Run a task definition once, wait for its end, and exit as its container did
    ///
    /// Exit code: that of the essential container; the first that is not 0 when there are several copies. 125: no
    /// container ran, and the reason is printed. 124: --timeout. 130: it was interrupted.
    ///
    /// Ctrl-C stops the tasks and waits for them; a second one does not wait.
    Run(Run),
    /// Stop a task, or every task of a run
    Stop(Stop),
    /// Take a host out of service: it gets no tasks, and those of services move away
    Drain(Drain),
    /// Put a host back into service
    Undrain(Undrain),
    /// Let a host join, and print the command to run on it
    ///
    /// Makes a HostJoin of the host's name and a token of it. The command goes to stdout, what to do then to stderr. Whoever has
    /// the command may ask to be the host: send it as you send a password.
    Join(Join),
    /// Show what hosts have and what services take of it, as reserved
    Top(Top),
    /// List hosts, those of which an expression of the cluster query language is true
    ///
    /// For example: --filter 'attribute:stack == prod and agentConnected == true'
    Instances(Instances),
    /// Make manifests of ECS JSON or of a Compose file
    ///
    /// Takes what `aws ecs` prints with `describe-task-definition`, `describe-services`, `describe-tasks`, `describe-task-sets`,
    /// `describe-container-instances` and `describe-clusters`, what `register-task-definition` and `create-service` take, and
    /// Compose files. What cannot be carried over is named on stderr and in a comment; nothing is dropped
    /// without a word.
    Convert(Convert),
    /// Look for what is wrong with this installation, and say what to do about it
    ///
    /// Exit code 0: nothing is wrong. 1: something is.
    Doctor(Doctor),
    /// Print a script that completes commands in a shell
    Completion(Completion),
    /// What kubectl asks for completion.
    #[command(name = "__complete", hide = true)]
    Complete(Complete),
    /// Not there yet.
    #[command(hide = true, disable_help_flag = true)]
    Logs(Later),
    /// Not there yet.
    #[command(hide = true, disable_help_flag = true)]
    Exec(Later),
    /// Not there yet.
    #[command(hide = true, disable_help_flag = true)]
    PortForward(Later),
}

/// `get`
#[derive(Args, Debug)]
pub struct Get {
    /// Name of a service, run or task; `service/web` when names are ambiguous. Default: all
    #[arg(value_name = "NAME", conflicts_with = "all_namespaces")]
    pub name: Option<String>,
    /// Where.
    #[command(flatten)]
    pub reach: Reach,
    /// Go on showing, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Show STOPPED tasks of services, too. Default: the newest two that failed
    #[arg(short, long)]
    pub all: bool,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// `status`
#[derive(Args, Debug)]
pub struct Status {
    /// Name of a service or run
    #[arg(value_name = "SERVICE|RUNTASK")]
    pub name: String,
    /// How long to wait, such as 90s or 10m
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// `plan`
#[derive(Args, Debug)]
pub struct Plan {
    /// File, folder, or `-` for standard input; may be given more than once
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    pub filename: Vec<String>,
    /// Who would apply: fields of other managers that differ are told
    #[arg(long, default_value = "kubectl", value_name = "NAME")]
    pub field_manager: String,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// `explain`
#[derive(Args, Debug)]
pub struct Explain {
    /// Name of a service, task or run; `task/web` when names are ambiguous
    #[arg(value_name = "SERVICE|TASK|RUNTASK")]
    pub name: String,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// `history`
#[derive(Args, Debug)]
pub struct History {
    /// Name of the service
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// Show what happened lately, too, newest first
    #[arg(long)]
    pub events: bool,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// `undo`
#[derive(Args, Debug)]
pub struct Undo {
    /// Name of the service
    #[arg(value_name = "SERVICE")]
    pub name: String,
    /// Number of the revision, as `history` lists it
    #[arg(long, value_name = "NUMBER")]
    pub to_revision: Option<i64>,
    /// Follow the latest revision of the family again, instead of going back
    #[arg(long, conflicts_with = "to_revision")]
    pub follow: bool,
}

/// `restart`
#[derive(Args, Debug)]
pub struct Restart {
    /// Name of the service
    #[arg(value_name = "SERVICE")]
    pub name: String,
}

/// `run`
#[derive(Args, Debug)]
pub struct Run {
    /// `family` for its latest revision, or `family:number`
    #[arg(value_name = "TASKDEFINITION")]
    pub task_definition: String,
    /// Command of the container, instead of its own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Name of the run. Default: the family and five characters
    #[arg(long)]
    pub name: Option<String>,
    /// Cluster to run in
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How many copies, 1 to 10
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10))]
    pub count: i32,
    /// Container that --env, --cpu, --memory and the command are for. Default: the essential one, if there is one only
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Environment variable NAME=VALUE; may be given more than once
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// CPU units of the container; 1024 are a core
    #[arg(long, value_name = "UNITS")]
    pub cpu: Option<i32>,
    /// Memory limit of the container, MiB
    #[arg(long, value_name = "MIB")]
    pub memory: Option<i32>,
    /// Wait for a host with room instead of failing, as ECS does
    #[arg(long)]
    pub wait_for_capacity: bool,
    /// Delete the run once it has ended
    #[arg(long)]
    pub rm: bool,
    /// Start it and do not wait
    #[arg(long, conflicts_with = "rm")]
    pub detach: bool,
    /// How long it may take; then its tasks are stopped
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

/// `stop`
#[derive(Args, Debug)]
pub struct Stop {
    /// Name of a task or run
    #[arg(value_name = "TASK|RUNTASK")]
    pub name: String,
    /// Why; the task shows it as its reason
    #[arg(long, default_value = "Task stopped by user", value_name = "TEXT")]
    pub reason: String,
}

/// `drain`
#[derive(Args, Debug)]
pub struct Drain {
    /// Name of the host
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Wait until no task is left on it
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 10m
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// `undrain`
#[derive(Args, Debug)]
pub struct Undrain {
    /// Name of the host
    #[arg(value_name = "HOST")]
    pub host: String,
}

/// `join`
#[derive(Args, Debug)]
pub struct Join {
    /// Name that the host gets: that of its ContainerInstance, which may be applied already
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Accept whoever asks first with the token, instead of comparing keys
    #[arg(long, conflicts_with = "key")]
    pub automatic: bool,
    /// Fingerprint of the key that is accepted, sha256:<64 hexadecimal digits>, where the host has one already
    #[arg(long, value_name = "FINGERPRINT")]
    pub key: Option<String>,
    /// Cluster of the host. Default: `default`
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How long the host may join, 1m to 24h
    #[arg(long, default_value = "1h", value_parser = validity, value_name = "TIME")]
    pub valid: Duration,
    /// URL of the API server as hosts reach it. Default: that of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// `top`
#[derive(Args, Debug)]
pub struct Top {
    /// What to show; both by default
    #[arg(value_enum, value_name = "WHAT")]
    pub what: Option<TopOf>,
    /// Where.
    #[command(flatten)]
    pub reach: Reach,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// What `top` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopOf {
    /// Hosts.
    Hosts,
    /// Services.
    Services,
}

/// `instances`
#[derive(Args, Debug)]
pub struct Instances {
    /// Expression of the cluster query language
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Where.
    #[command(flatten)]
    pub reach: Reach,
    /// Form.
    #[command(flatten)]
    pub output: Output,
}

/// `convert`
#[derive(Args, Debug)]
pub struct Convert {
    /// ECS JSON or a Compose file; `-` for standard input; may be given more than once
    #[arg(short, long = "filename", required = true, value_name = "FILE|-")]
    pub filename: Vec<String>,
    /// Compose: one task with all containers, which reach each other by name and keep `depends_on`, instead of a task
    /// definition and a service for each
    #[arg(long)]
    pub together: bool,
    /// Compose: name of the task definition with --together. Default: the file's `name`, else that of its folder
    #[arg(long)]
    pub name: Option<String>,
}

/// `doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// Namespace of the operator
    #[arg(long, default_value = "tallyman-system", value_name = "NAME")]
    pub system_namespace: String,
    /// Form of the output.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    pub output: FindingForm,
}

/// `completion`
#[derive(Args, Debug)]
pub struct Completion {
    /// For which shell; `kubectl` for `kubectl tally <TAB>`
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// For `kubectl-tally` in bash: `source <(kubectl tally completion bash)`
    Bash,
    /// For `kubectl-tally` in zsh: `source <(kubectl tally completion zsh)`
    Zsh,
    /// For `kubectl-tally` in fish: `kubectl tally completion fish | source`
    Fish,
    /// For `kubectl tally`: save it as `kubectl_complete-tally` in the PATH and make it executable
    Kubectl,
}

/// `__complete`
#[derive(Args, Debug)]
pub struct Complete {
    /// The words so far; the last is to be completed.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// What will be a command: whatever it is given, it says that it is not there yet.
#[derive(Args, Debug)]
pub struct Later {
    /// Anything.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub words: Vec<String>,
}

/// Parses `500ms`, `40s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a duration such as 40s, 5m or 1h, not '{text}'");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// What `spec.expiresAfterSeconds` of a HostJoin takes.
fn validity(text: &str) -> Result<Duration, String> {
    let valid = duration(text)?;
    if !(60..=86_400).contains(&valid.as_secs()) {
        return Err(format!("must be 1m to 24h, not '{text}'"));
    }
    Ok(valid)
}

/// Parses `NAME=VALUE`.
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("must be NAME=VALUE, not '{text}'")),
    }
}
