# SPDX-License-Identifier: Apache-2.0
"""
A headless Chromium, driven through the pipe of its DevTools protocol. By hand, pictures of a page:

    browser.py PAGE PREFIX      writes PREFIX-desktop.png, -phone.png, -dark.png and PREFIX.pdf
"""
import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")


class BrowserError(Exception):
    pass


def find():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. A context: the browser and its directory are gone afterwards."""

    def __init__(self, program, patience_s=60):
        self.program, self.patience_s = program, patience_s
        self.number, self.unread, self.events, self.session = 0, b"", [], None

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, answers = os.pipe(), os.pipe()
        # The browser's ends have to be descriptors 3 and 4; the shell moves them there.
        shell = ["sh", "-c", 'exec "$0" "$@" 3<&%d 4>&%d' % (commands[0], answers[1])]
        self.process = subprocess.Popen(
            [*shell, self.program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
             "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-dev-shm-usage",
             "--hide-scrollbars", f"--user-data-dir={self.directory.name}", "about:blank"],
            pass_fds=(commands[0], answers[1]), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=dict(os.environ, HOME=self.directory.name))
        os.close(commands[0])
        os.close(answers[1])
        self.to, self.answers = commands[1], answers[0]
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(domain + ".enable")
        return self

    def __exit__(self, *_):
        self.session = None
        try:
            self.ask("Browser.close")
            self.process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.to)
        os.close(self.answers)
        self.directory.cleanup()

    def read(self, until):
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.answers], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise BrowserError("the browser does not answer")
            more = os.read(self.answers, 1 << 20)
            if not more:
                raise BrowserError("the browser ended")
            self.unread += more
        line, self.unread = self.unread.split(b"\0", 1)
        return json.loads(line)

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self.to, rest):]
        until = time.monotonic() + self.patience_s
        while True:
            answer = self.read(until)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def shape(self, width, height, dark=False, media="screen", mobile=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                 mobile=mobile)
        self.ask("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, path):
        self.events.clear()
        self.ask("Page.navigate", url="file://" + os.path.abspath(path))
        self.wait_for("document.readyState === 'complete'")

    def wait_for(self, condition):
        until = time.monotonic() + self.patience_s
        while not self.run(condition):
            if time.monotonic() > until:
                raise BrowserError(f"never true: {condition}")
            time.sleep(0.05)

    def run(self, script):
        """The value of an expression in the page."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(str(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def complaints(self):
        """What the page's console got: errors and warnings."""
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"])[:300])
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                found.append(str(event["params"]["args"])[:300])
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                found.append(event["params"]["entry"]["text"][:300])
        return found

    def addresses(self):
        """Everything that was asked for."""
        return [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]

    def picture(self, path, whole=True, clip=None):
        more = {"clip": dict(clip, scale=1)} if clip else {}
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **more)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def paper(self):
        """The page as PDF, by a reader whose system is dark."""
        self.ask("Emulation.setEmulatedMedia", media="", features=[
            {"name": "prefers-color-scheme", "value": "dark"}])
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])


def main():
    page, prefix = sys.argv[1:]
    with Browser(find()) as browser:
        for name, width, dark in (("desktop", 1200, False), ("phone", 390, False), ("dark", 1200, True)):
            browser.shape(width, 900, dark, mobile=width < 500)
            browser.open(page)
            size = browser.run("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
            browser.picture(f"{prefix}-{name}.png", clip=dict(x=0, y=0, width=size[0], height=size[1]))
            print(name, size, browser.complaints())
        with open(f"{prefix}.pdf", "wb") as file:
            file.write(browser.paper())


if __name__ == "__main__":
    main()
