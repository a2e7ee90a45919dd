"""Pictures of the dashboard, behind script/screenshots."""

import argparse
import concurrent.futures
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time

from PIL import Image

import bench
import dashboard

# A laptop and a phone.
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
# Colors of a picture: a page has few, and a file with a palette is a third as large.
COLORS = 160

CRON = """{ "cron": [
  { "command": "node -e 'console.log(\\"mailed 12 reports\\")'", "schedule": "0 7 * * 1-5" },
  { "command": "node -e 'process.exit(3)'", "schedule": "*/30 * * * *" } ] }
"""


def furnish(instance):
    """Apps, services, a bad deploy, traffic: so that pages have something to show."""
    cli = instance.cli
    shop = dashboard.push(instance, "node-web", "shop", {"app.json": CRON})
    cli("config:set", "shop", "LOG_LEVEL=info", "STRIPE_KEY=sk_test_51H", "MAIL_FROM=shop@example.com")
    cli("domains:add", "shop", "shop.test", "www.example.com")
    cli("ps:scale", "shop", "web=2")
    cli("resource:limit", "--memory", "256m", "--cpu", "0.5", "--process-type", "web", "shop")
    for kind, name in (("postgres", "shop-db"), ("redis", "cache")):
        cli("plugin:enable", kind)
        cli(f"{kind}:create", name)
        cli(f"{kind}:link", name, "shop")
    cli("postgres:backup", "shop-db")
    cli("postgres:backup-verify", "shop-db")
    cli("storage:create", "shop-uploads", "--size", "200m")
    cli("storage:mount", "shop", "shop-uploads:/app/uploads")
    tasks = cli("cron:list", "shop", "--format", "json")
    for task in json.loads(tasks):
        # The second one fails, as it should.
        subprocess.run([bench.PROGRAM, "cron:run", "shop", task["id"]], check=False,
                       capture_output=True,
                       env={**os.environ, "STAITHE_RUN_DIR": instance.run})
    dashboard.push(instance, "static-site", "docs")
    dashboard.push(instance, "procfile-script", "mailer")
    try:
        dashboard.push(instance, "broken-build", "importer")
    except SystemExit:
        pass
    shop.change("2")
    shop.git("push", "-q", instance.remote("shop"), "main")
    traffic(instance, 20)


def traffic(instance, seconds):
    """Requests, some of them for what is not there."""
    end = time.monotonic() + seconds

    def visit(number):
        while time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", instance.web_port, timeout=5)
            try:
                path = "/missing" if number == 0 else "/"
                connection.request("GET", path, headers={"Host": "shop.test"})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.02 * (number + 1))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))


def pages(driver, instance):
    """Names and paths of all pages, as the rail and the tabs have them, and what they lead to."""
    base = dashboard.base(instance)
    links = """selector => [...document.querySelectorAll(selector)].map(a => a.getAttribute('href'))"""
    found = {}
    driver.goto(f"{base}/")
    for path in driver.page.evaluate(links, ".rail nav a"):
        found[path.strip("/").replace("/", "-") or "apps"] = path
    driver.goto(f"{base}/apps/shop")
    for path in driver.page.evaluate(links, ".tabs a"):
        found["app-" + (path.split("/", 3)[3:] or ["overview"])[0]] = path
    # One of each kind that lists lead to.
    wanted = {"service": ("/services", 'a.row-link[href^="/services/postgres"]'),
              "deployment": ("/apps/shop/deployments", 'main a[href*="/deployments/"]'),
              "deployment-failed": ("/apps/importer/deployments", 'main a[href*="/deployments/"]')}
    for name, (path, selector) in wanted.items():
        if driver.goto(base + path) == 200:
            paths = driver.page.evaluate(links, selector)
            if paths:
                found[name] = paths[0]
    for name, path in {"new-app": "/new", "sessions": "/sessions", "problem": "/nowhere"}.items():
        if name not in found and (driver.goto(base + path) == 200 or name == "problem"):
            found[name] = path
    return found


def review(driver, base):
    """The difference before a config change: a page that a form leads to."""
    driver.goto(f"{base}/apps/shop/config")
    driver.fill_in('textarea[name="set.LOG_LEVEL"]', "debug")
    driver.check('input[name="unset.MAIL_FROM"]')
    driver.fill_in('input[name="new.key.1"]', "FEATURE_CHECKOUT")
    driver.fill_in('textarea[name="new.value.1"]', "on")
    driver.press_button("Review changes")
    driver.wait_text("Review")


def take(driver, path):
    picture = Image.open(io.BytesIO(driver.page.screenshot(full_page=False, animations="disabled")))
    picture.convert("RGB").quantize(COLORS, method=Image.Quantize.MEDIANCUT,
                                    dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--into", default="docs/screenshots")
    options = parser.parse_args()
    os.makedirs(options.into, exist_ok=True)
    with bench.staithe() as instance, dashboard.browser() as driver:
        furnish(instance)
        # Signing in is a page as well, seen by strangers.
        base, trouble = dashboard.base(instance), []
        for size, (width, height) in SIZES.items():
            for theme in THEMES:
                driver.open(width=width, height=height, theme=theme)
                driver.goto(f"{base}/sign-in")
                take(driver, f"{options.into}/sign-in-{size}-{theme}.png")
                dashboard.sign_in(driver, instance)
                found = pages(driver, instance)
                for name, path in found.items():
                    if options.only not in name:
                        continue
                    driver.goto(base + path)
                    # Charts and live parts are drawn after the page is there.
                    driver.page.wait_for_timeout(700)
                    take(driver, f"{options.into}/{name}-{size}-{theme}.png")
                    trouble += [f"{name} {size} {theme}: {text}" for text in faults(driver, name)]
                if options.only in "app-config-review":
                    review(driver, base)
                    take(driver, f"{options.into}/app-config-review-{size}-{theme}.png")
        print("\n".join(trouble) or "no page has a fault")


def faults(driver, name):
    """What a person would stumble over."""
    found = [text for text in driver.trouble() if not (name == "problem" and "404" in text)]
    if driver.wide():
        found.append(f"{driver.wide()} pixels wider than the window")
    found += [f"axe {one['rule']}: {one['nodes'][0]['html'][:160]}" for one in driver.axe()]
    return found


if __name__ == "__main__":
    # So that what was started is taken down.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
