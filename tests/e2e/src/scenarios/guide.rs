//! The task definitions of the guide of 2015 as they were printed (`crds/tests/fixtures/task-definitions`), with other
//! images: volumes, links and ports of each work.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tallyman_lab::{Host, wait_until};

use crate::suite::{Lane, Scenario, folder};
use crate::user::{PATIENCE, User};

/// Scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the examples of the 2015 guide run, with their volumes, links and ports",
    run: examples,
}];

const BUSYBOX: &str = "localhost/tallyman/busybox:1";
/// A container that became the images.
const MOULD: &str = "guide-mould";
/// Apache of the guide's own image, which serves `/var/www`.
const APACHE: &str = "mkdir -p /usr/sbin; printf '#!/bin/sh\nexec httpd -f -p 80 -h /var/www\n' > /usr/sbin/apache2; \
                      chmod +x /usr/sbin/apache2";
/// How a script goes on until SIGTERM.
const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// An example, and what the guide says that it does.
struct Example {
    printed: &'static str,
    /// By container, the program that its image is; the others bring a command.
    programs: &'static [(&'static str, &'static str)],
    works: fn(&Host, &Path) -> Result<()>,
}

macro_rules! printed {
    ($file:literal) => {
        include_str!(concat!(
            "../../../../crds/tests/fixtures/task-definitions/",
            $file,
            ".json"
        ))
    };
}

const EXAMPLES: &[Example] = &[
    Example {
        printed: printed!("console-sample-app"),
        programs: &[("simple-app", "exec /usr/sbin/apache2")],
        works: date_over_and_over,
    },
    // MySQL tells its password to those who are linked, and WordPress is a page of it.
    Example {
        printed: printed!("hello_world"),
        programs: &[
            (
                "wordpress",
                "while read address names; do case \" $names \" in *\" mysql \"*) db=$address;; esac; done < /etc/hosts; \
                 mkdir /page; until grep -s 'word is' /page/index.html; do sleep 1; \
                 printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 $db 3306 > /page/index.html; done; httpd -p 80 -h /page",
            ),
            (
                "mysql",
                "mkdir /data; echo the word is $MYSQL_ROOT_PASSWORD > /data/index.html; httpd -p 3306 -h /data",
            ),
        ],
        works: |host, _| served(host, 80, "/", "the word is password"),
    },
    Example {
        printed: printed!("database-scratch"),
        programs: &[
            ("database1", "echo database1 >> /var/scratch/names"),
            ("database2", "echo database2 >> /var/scratch/names"),
        ],
        works: scratch_is_shared,
    },
    Example {
        printed: printed!("test-volumes-from"),
        programs: &[("web", "httpd -p 80 -h /usr/local/apache2/htdocs")],
        works: |host, of_host| {
            for volume in ["empty_volume", "host_etc", "dockerfile_volume"] {
                served(host, 80, &format!("/{volume}/date"), "UTC")?;
            }
            let date = std::fs::read_to_string(of_host.join("etc/date"))?;
            ensure!(date.contains("UTC"), "the host has {date}");
            Ok(())
        },
    },
    Example {
        printed: printed!("webdata"),
        programs: &[("web", "httpd -p 80 -h /usr/share/nginx/html")],
        works: |host, of_host| {
            written(&of_host.join("ecs/webdata"), "of the host")?;
            served(host, 80, "/", "of the host")
        },
    },
    Example {
        printed: printed!("webroot"),
        programs: &[
            ("web-server-1", "httpd -p 80 -h /var/www/html"),
            ("web-server-2", "httpd -p 8080 -h /srv/www/htdocs"),
        ],
        works: |host, of_host| {
            written(&of_host.join("data/webroot"), "of both")?;
            served(host, 80, "/", "of both")?;
            served(host, 8080, "/", "of both")
        },
    },
    Example {
        printed: printed!("sleep360"),
        programs: &[],
        works: |_, _| Ok(()),
    },
    Example {
        printed: printed!("sleep360-described"),
        programs: &[],
        works: |_, _| Ok(()),
    },
];

fn examples(user: &User<'_>) -> Result<()> {
    let host = user.lab.host(0);
    // The hosts of the lab are this machine: what the guide mounts of the host is taken from here.
    let of_host = folder(Lane::about(host.generation())).join("guide");
    host.docker_ok(["run", "--name", MOULD, BUSYBOX, "sh", "-c", APACHE])?;
    // One after the other: most of them want port 80.
    let volumes = || host.docker_ok(["volume", "ls", "--quiet"]);
    let before = volumes()?;
    let ran = EXAMPLES
        .iter()
        .try_for_each(|example| example.run(user, host, &of_host));
    host.docker_ok(["rm", MOULD])?;
    if of_host.exists() {
        std::fs::remove_dir_all(&of_host)?;
    }
    ran?;
    let after = volumes()?;
    ensure!(after == before, "volumes are left: {after}");
    Ok(())
}

impl Example {
    fn run(&self, user: &User<'_>, host: &Host, of_host: &Path) -> Result<()> {
        let mut spec: Value = serde_json::from_str(self.printed)?;
        let name = spec["family"].as_str().context("no family")?;
        let name = format!("guide-{}", name.replace('_', "-"));
        let mut images = Vec::new();
        for container in elements(&mut spec, "containerDefinitions") {
            let program = self
                .programs
                .iter()
                .find(|(of, _)| container["name"] == **of);
            container["image"] = match program {
                Some((of, program)) => {
                    let image = format!("localhost/tallyman/{name}-{of}:1");
                    make_image(host, program, &image)?;
                    images.push(image.clone());
                    json!(image)
                }
                None => json!(BUSYBOX),
            };
        }
        for volume in elements(&mut spec, "volumes") {
            if let Some(path) = volume["host"]["sourcePath"].as_str() {
                volume["host"]["sourcePath"] = json!(format!("{}{path}", of_host.display()));
            }
        }
        user.apply(&[
            json!({ "kind": "TaskDefinition", "metadata": { "name": name }, "spec": spec }),
            json!({ "kind": "Task", "metadata": { "name": name },
                    "spec": { "taskDefinition": spec["family"], "containerInstance": host.name() } }),
        ])?;
        wait_until(format!("a task of {name} to run"), PATIENCE, || {
            let status = user.get("tasks", &name)?["status"].clone();
            ensure!(status["lastStatus"] == "RUNNING", "{status}");
            Ok(true)
        })?;
        (self.works)(host, of_host).with_context(|| name.clone())?;
        // Most of them do not hear SIGTERM, and as printed each has 30 s to. One may have ended meanwhile.
        let label = format!("label=tallyman.dev/task={name}");
        let ids = host.docker_ok(["ps", "--quiet", "--filter", &label])?;
        host.docker(std::iter::once("kill").chain(ids.split_whitespace()))?;
        user.k(&["delete", "tasks.tallyman.dev", &name, "--timeout=60s"])?;
        user.delete(&[&name])?;
        for image in images {
            host.docker_ok(["rmi", &image])?;
        }
        Ok(())
    }
}

/// Objects of a list, if there is one.
fn elements<'a>(spec: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = spec.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Makes an image that runs a program by itself, and declares the volume that a Dockerfile of the guide does.
fn make_image(host: &Host, program: &str, image: &str) -> Result<()> {
    let command = json!(["sh", "-c", format!("{program}; {STAY}")]);
    let changes = [
        format!("CMD {command}"),
        "VOLUME /usr/local/apache2/htdocs/dockerfile_volume".to_owned(),
    ];
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    let words = std::iter::once("commit")
        .chain(changes)
        .chain([MOULD, image]);
    host.docker_ok(words)?;
    Ok(())
}

fn written(folder: &Path, page: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("index.html"), page)?;
    Ok(())
}

/// Waits until a page of the host holds a word.
fn served(host: &Host, port: u16, path: &str, word: &str) -> Result<()> {
    let what = format!("{path} at port {port} to say {word}");
    wait_until(what, PATIENCE, || {
        let page = host.get(port, path)?;
        ensure!(page.status == 200 && page.body.contains(word), "{page:?}");
        Ok(true)
    })?;
    Ok(())
}

fn date_over_and_over(host: &Host, _: &Path) -> Result<()> {
    let page = || -> Result<String> {
        let page = host.get(80, "/my-vol/date")?;
        ensure!(page.status == 200 && !page.body.is_empty(), "{page:?}");
        Ok(page.body)
    };
    let first = wait_until("the date to be served", PATIENCE, || page().map(Some))?;
    wait_until("another date", PATIENCE, || Ok(page()? != first))?;
    Ok(())
}

fn scratch_is_shared(host: &Host, _: &Path) -> Result<()> {
    let filter = "label=com.amazonaws.ecs.container-name=database1";
    let first = host.docker_ok(["ps", "--quiet", "--filter", filter])?;
    let what = "what both databases wrote to be seen by the first";
    wait_until(what, PATIENCE, || {
        let names = host.docker_ok(["exec", first.trim(), "cat", "/var/scratch/names"])?;
        let both = ["database1", "database2"]
            .iter()
            .all(|one| names.contains(one));
        ensure!(both, "it has {names}");
        Ok(true)
    })?;
    Ok(())
}
