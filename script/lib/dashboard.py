"""A Staithe with a browser in front: what pictures and measurements of the dashboard share."""

import contextlib
import glob
import json
import os
import sys

from playwright.sync_api import sync_playwright

import bench

sys.path.insert(0, "tests/it/browser")
from driver import CHROMIUM, Driver  # noqa: E402


@contextlib.contextmanager
def browser():
    [axe] = glob.glob("target/browser/lib/*/site-packages/axe_playwright_python/axe.min.js")
    os.makedirs("target/tmp/browser", exist_ok=True)
    with open(axe, encoding="utf-8") as file:
        source = file.read()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        yield Driver(chromium, source, "target/tmp/browser/script")
        chromium.close()


def base(instance):
    """Where the dashboard is."""
    with open(f"{instance.run}/serving.json", encoding="utf-8") as file:
        return "http://" + json.load(file)["web"][0]


def sign_in(driver, instance):
    """By a link that works once, as a person would."""
    link = instance.cli("dashboard:login").splitlines()[0].strip()
    path = link.split("/", 3)[3]
    # From elsewhere: a link that differs behind its `#` alone loads no page.
    driver.goto("about:blank")
    driver.goto(f"{base(instance)}/{path}")
    driver.press_button("Sign in")
    driver.wait_selector(".rail")


def push(instance, sample, app, files=None):
    """A copy of a sample app, with `files` changed, pushed as `app`."""
    source = bench.Source(instance, sample)
    moved = f"{instance.directory}/source-{app}"
    os.rename(source.path, moved)
    source.path = moved
    for name, text in (files or {}).items():
        with open(f"{source.path}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    source.git("add", "-A")
    source.git("commit", "-q", "--allow-empty", "-m", f"Bring {app} into shape")
    source.git("push", "-q", instance.remote(app), "main")
    return source
