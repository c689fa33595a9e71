"""Headless Chromium, by Debian's `chromium`, `chromium-driver` and `python3-selenium`.

Every browser is a program of its own with a profile of its own below a folder of the caller's, so two of them share
nothing. It talks to loopback addresses only: every other name is one that does not exist.
"""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"

# Seconds that a page may take on a loaded machine.
WATCHDOG = 120

ARGUMENTS = (
    # Chromium's own sandbox refuses to run as root.
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-default-apps", "--metrics-recording-only", "--password-store=basic",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """A browser: see `browser`."""

    def __init__(self, driver, base):
        self.driver = driver
        self.base = base

    def open(self, path):
        """Goes to a page."""
        self.driver.get(self.base + path)
        return self

    def all(self, selector):
        """The elements that match."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        """The element that matches, as soon as there is one."""
        return self.until(lambda: next(iter(self.all(selector)), None), selector)

    def text(self, selector):
        """The text of the element that matches."""
        return self.one(selector).text

    def type(self, selector, text):
        """Writes into a field."""
        field = self.one(selector)
        field.clear()
        field.send_keys(text)

    def press(self, selector):
        """Presses a button, and waits for the page that comes of it."""
        before = self.one("html")
        self.one(selector).click()
        self.until(lambda: _is_gone(before), f"the page after {selector}")
        self.until(lambda: self.driver.execute_script("return document.readyState") == "complete", "the page to load")

    def until(self, condition, what):
        """Waits until the condition holds; gives what it gave."""
        return WebDriverWait(self.driver, WATCHDOG, 0.05).until(lambda _: condition(), f"waited for {what}")

    def errors(self):
        """What the browser complained of."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def _is_gone(element):
    try:
        element.is_enabled()
    except WebDriverException:
        return True
    return False


@contextmanager
def browser(base, folder):
    """A browser for the site at `base`, with its profile and its files below `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Nothing of it may be left in the caller's own folders.
    environment = {
        **os.environ, "HOME": str(folder), "TMPDIR": str(folder), "XDG_CONFIG_HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
    }
    service = Service(DRIVER, env=environment, log_path=str(folder / "chromedriver.log"))
    driver = webdriver.Chrome(service=service, options=options)
    try:
        driver.set_page_load_timeout(WATCHDOG)
        yield Browser(driver, base)
    finally:
        driver.quit()


def version():
    """Chromium's version, for messages."""
    return subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=False).stdout.strip()
