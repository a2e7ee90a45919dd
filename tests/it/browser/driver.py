"""A browser that a test drives: reads one JSON request a line, answers one JSON object a line.

A request is `{"do": <name of a method of Driver>, ...its arguments}`. The answer is `{"ok": value}`
or `{"error": sentence, "text": what the page shows, "screenshot": path}`. The browser ends with the
standard input. All waits are Playwright's, with one deadline.
"""

import json
import sys
import traceback

from playwright.sync_api import Error, sync_playwright

CHROMIUM = "/usr/bin/chromium"
# A page of a busy machine; what takes longer is broken.
DEADLINE_MS = 20_000
# What axe calls serious breaks a page for somebody.
BAD = ("serious", "critical")


class Driver:
    def __init__(self, browser, axe, screenshots):
        self.browser, self.axe_source, self.screenshots = browser, axe, screenshots
        self.context, self.page = None, None
        self.shots, self.console, self.refused, self.dialogs = 0, [], [], []
        self.bytes = 0
        self.open()

    def open(self, width=1280, height=900, theme="light", javascript=True, touch=False):
        """Another browser profile, signed in nowhere."""
        if self.context:
            self.context.close()
        self.context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme,
            java_script_enabled=javascript, has_touch=touch, reduced_motion="reduce",
            ignore_https_errors=True)
        self.context.set_default_timeout(DEADLINE_MS)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.console, self.refused, self.dialogs = [], [], []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("response", self._answered)

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.console.append(f"{message.text} ({message.location.get('url')})")

    def _dialog(self, dialog):
        # No page of ours has any: whoever sees one has run a script of a stranger's.
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _answered(self, response):
        if response.status >= 500:
            self.refused.append(f"{response.status} {response.url}")

    def resize(self, width, height):
        self.page.set_viewport_size({"width": width, "height": height})

    def theme(self, name):
        self.page.emulate_media(color_scheme=name)

    def goto(self, url):
        """Opens a page; its status."""
        response = self.page.goto(url, wait_until="load")
        return response.status if response else None

    def reload(self):
        self.page.reload(wait_until="load")

    def url(self):
        return self.page.url

    def title(self):
        return self.page.title()

    def text(self, selector="body"):
        return self.page.locator(selector).first.inner_text()

    def html(self):
        return self.page.content()

    def count(self, selector):
        return self.page.locator(selector).count()

    def attribute(self, selector, name):
        return self.page.locator(selector).first.get_attribute(name)

    def value(self, selector):
        return self.page.locator(selector).first.input_value()

    def click(self, selector):
        self.page.locator(selector).first.click()

    def press_button(self, name):
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def follow(self, name):
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def fill(self, label, value):
        """Fills the field with that label."""
        self.page.get_by_label(label, exact=True).first.fill(value)

    def fill_in(self, selector, value):
        self.page.locator(selector).first.fill(value)

    def select(self, selector, value):
        self.page.locator(selector).first.select_option(value)

    def check(self, selector):
        self.page.locator(selector).first.check()

    def press(self, keys):
        self.page.keyboard.press(keys)

    def type(self, text):
        self.page.keyboard.type(text)

    def wait_text(self, text, selector="body"):
        """Waits until the element shows the text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def wait_selector(self, selector):
        self.page.locator(selector).first.wait_for()

    def wait_url(self, pattern):
        self.page.wait_for_url(pattern)

    def evaluate(self, script):
        return self.page.evaluate(script)

    def wait_true(self, script):
        """Waits until the script says so; the page's own rules forbid `eval`, the debugger does not ask."""
        return self.page.wait_for_function(script, polling=50) and True

    def cookies(self):
        return self.context.cookies()

    def fetch(self, url, method="GET", headers=None, form=None):
        """A request with the profile's cookies, outside of any page."""
        answer = self.context.request.fetch(
            url, method=method, headers=headers or {}, form=form, max_redirects=0)
        return {"status": answer.status, "headers": answer.headers, "body": answer.text()}

    def wide(self):
        """How much wider than the window the page is; more than nothing is ugly on a phone."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def weight(self):
        """Bytes of the page and all it loads, as transferred."""
        return self.page.evaluate(
            """() => performance.getEntriesByType('resource')
                .concat(performance.getEntriesByType('navigation'))
                .map(e => ({ name: new URL(e.name).pathname, bytes: e.transferSize,
                             plain: e.decodedBodySize }))""")

    def trouble(self):
        """What should not happen on any page: errors in the console, 5xx, dialogs of strangers."""
        found = [f"console: {text}" for text in self.console]
        found += [f"answer: {text}" for text in self.refused]
        found += [f"dialog: {text}" for text in self.dialogs]
        self.console.clear(), self.refused.clear(), self.dialogs.clear()
        return found

    def axe(self):
        """Serious findings of axe-core on this page."""
        self.page.evaluate(self.axe_source)
        result = self.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [
            {
                "rule": found["id"],
                "impact": found["impact"],
                "help": found["help"],
                "nodes": [
                    {"target": node["target"], "html": node["html"][:300],
                     "why": node["failureSummary"][:400]}
                    for node in found["nodes"][:5]
                ],
            }
            for found in result["violations"]
            if found["impact"] in BAD
        ]

    def screenshot(self, path, full=False):
        self.page.screenshot(path=path, full_page=full, animations="disabled")

    def failed(self):
        """A picture of the page, for whoever reads the failure."""
        self.shots += 1
        path = f"{self.screenshots}-{self.shots}.png"
        self.page.screenshot(path=path, full_page=True)
        return path


def answer(driver, request):
    name = request.pop("do")
    try:
        return {"ok": getattr(driver, name)(**request)}
    except Error as error:
        reply = {"error": f"{name} {request}: {error.message}"}
    except Exception:
        reply = {"error": f"{name} {request}: {traceback.format_exc()}"}
    # Best effort: the page may be gone.
    for key, look in (("text", driver.text), ("url", driver.url), ("screenshot", driver.failed)):
        try:
            reply[key] = look()
        except Error as error:
            reply[key] = f"none: {error.message}"
    return reply


def main():
    axe_path, screenshots = sys.argv[1:]
    with open(axe_path, encoding="utf-8") as file:
        axe = file.read()
    with sync_playwright() as playwright:
        # Root has no user namespace to give the sandbox. Pages are our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        driver = Driver(browser, axe, screenshots)
        print(json.dumps({"ok": browser.version}), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(driver, json.loads(line))), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
