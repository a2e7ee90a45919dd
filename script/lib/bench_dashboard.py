"""What the dashboard costs: `script/bench dashboard`."""

import json
import os
import statistics
import time

import bench
import dashboard

APPS = 200
LOOKS = 60
# Lines a second, and for how long.
RATE, SECONDS = 5000, 20
# What the issue allows, in bytes as transferred.
PAGE_LIMIT = 150 * 1024

# An app that prints numbered lines at a steady rate when asked to by its environment.
PRINTER = f"""#!/usr/bin/perl
use strict; use warnings; use Time::HiRes qw(time sleep); $| = 0;
my ($rate, $seconds) = ({RATE}, {SECONDS});
sleep 0.1 until -e "/tmp/start";
my $start = time; my $n = 0; my $end = $rate * $seconds;
while ($n < $end) {{
    my $due = int((time - $start) * $rate); $due = $end if $due > $end;
    print "line ", ++$n, " of the measured ones\\n" while $n < $due;
    STDOUT->flush; sleep 0.01;
}}
print "line END\\n"; STDOUT->flush; sleep 1 while 1;
"""


def page_times(driver, instance):
    """Milliseconds of the server for the apps page, as a browser that keeps its connection sees."""
    base = dashboard.base(instance)
    fetch = """async ([url, count]) => {
        const times = []
        for (let look = 0; look < count; look += 1) {
            const start = performance.now()
            const answer = await fetch(url)
            await answer.text()
            times.push(performance.now() - start)
        }
        return times
    }"""
    driver.goto(f"{base}/")
    driver.page.evaluate(fetch, [f"{base}/", 5])
    return driver.page.evaluate(fetch, [f"{base}/", LOOKS])


def weights(driver, instance, paths):
    """Bytes of each page with all it loads, nothing kept from before."""
    rows = []
    for name, path in paths.items():
        driver.open()
        dashboard.sign_in(driver, instance)
        driver.context.clear_cookies(name="none")
        page = driver.context.new_page()
        client = driver.context.new_cdp_session(page)
        client.send("Network.enable")
        client.send("Network.setCacheDisabled", {"cacheDisabled": True})
        total = {"bytes": 0}

        def finished(event, total=total):
            total["bytes"] += event["encodedDataLength"]

        client.on("Network.loadingFinished", finished)
        page.goto(dashboard.base(instance) + path, wait_until="load")
        page.wait_for_timeout(800)
        rows.append((name, total["bytes"]))
        page.close()
    return rows


def live_log(driver, instance):
    """Lines that the tab has seen of those an app prints, and how long the tab stood still."""
    base = dashboard.base(instance)
    watch = """() => {
        window.seen = { lines: 0, last: 0, missing: 0, longest: 0, lagged: 0 }
        const own = window.EventSource
        window.EventSource = function (...args) {
            const source = new own(...args)
            for (const kind of ['message', 'line', 'lines', 'log', 'logs']) {
                source.addEventListener(kind, (event) => {
                    for (const found of event.data.matchAll(/line (\\d+) of the measured/g)) {
                        const number = Number(found[1])
                        window.seen.lines += 1
                        if (number !== window.seen.last + 1) window.seen.missing += 1
                        window.seen.last = number
                    }
                    if (event.data.includes('line END')) window.seen.end = true
                })
            }
            source.addEventListener('lagged', () => (window.seen.lagged += 1))
            return source
        }
        let before = performance.now()
        const tick = () => {
            const now = performance.now()
            window.seen.longest = Math.max(window.seen.longest, now - before)
            before = now
            requestAnimationFrame(tick)
        }
        addEventListener('load', () => { before = performance.now(); tick() })
    }"""
    driver.page.add_init_script(f"({watch})()")
    driver.goto(f"{base}/apps/printer/logs")
    driver.page.wait_for_timeout(1500)
    instance.cli("enter", "printer", "printer", "touch", "/tmp/start")
    end = time.monotonic() + SECONDS * 3 + 30
    while time.monotonic() < end and not driver.evaluate("Boolean(window.seen.end)"):
        driver.page.wait_for_timeout(250)
    return driver.evaluate("window.seen")


def measure():
    load = os.getloadavg()[0]
    with bench.staithe() as instance, dashboard.browser() as driver:
        dashboard.push(instance, "procfile-script", "shop")
        for number in range(APPS - 1):
            instance.cli("apps:create", f"app-{number:03}")
        driver.open()
        dashboard.sign_in(driver, instance)
        times = page_times(driver, instance)
        paths = {"apps": "/"}
        links = "s => [...document.querySelectorAll(s)].map(a => [a.textContent.trim(), a.getAttribute('href')])"
        driver.goto(f"{dashboard.base(instance)}/apps/shop")
        for title, path in (driver.page.evaluate(links, ".rail nav a")
                            + driver.page.evaluate(links, ".tabs a")):
            paths.setdefault(path.removeprefix("/apps/shop/") or title, path)
        heavy = weights(driver, instance, paths)
        dashboard.push(instance, "procfile-script", "printer",
                       {"go.pl": PRINTER,
                        "Procfile": "web: exec perl server.pl\nprinter: exec perl go.pl\n"})
        instance.cli("ps:scale", "printer", "printer=1")
        driver.open()
        dashboard.sign_in(driver, instance)
        seen = live_log(driver, instance)
    report(load, times, heavy, seen)


def report(load, times, heavy, seen):
    bench.machine(load)
    median = statistics.median(times)
    print(f"\nApps page with {APPS} apps: median {median:.1f} ms, "
          f"slowest of {len(times)} {max(times):.1f} ms (limit 20 ms)")
    print(f"\nLive log, {RATE} lines/s for {SECONDS} s: {seen['lines']} of {RATE * SECONDS} lines seen, "
          f"{seen['missing']} gaps, longest pause of the tab {seen['longest']:.0f} ms")
    print("\n| page | KiB with all it loads |\n|---|---:|")
    for name, size in heavy:
        print(f"| {name} | {size / 1024:.1f}{' !' if size > PAGE_LIMIT else ''} |")
    if os.environ.get("STAITHE_BENCH_JSON"):
        print(json.dumps({"median_ms": median, "live": seen, "pages": heavy}))
