"""A browser for tests of pages: Chromium, driven by Selenium."""

import importlib.util
import shutil

REMEDY = (
  'install the packages chromium and chromium-driver (Debian; on Ubuntu, where '
  'they are snaps, Google Chrome and its chromedriver), and `pip install '
  'selenium`'
)
_BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
# No sandbox, as tests may run as root; nothing that goes to the network.
_ARGUMENTS = (
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--hide-scrollbars',
)


def find_browser() -> str | None:
  """Returns the path of an installed browser."""
  return next(filter(None, map(shutil.which, _BROWSERS)), None)


def is_there() -> bool:
  """Returns whether there is all that it takes."""
  driver, selenium = shutil.which('chromedriver'), 'selenium'
  return bool(find_browser() and driver and importlib.util.find_spec(selenium))


def start():
  """Starts a browser; returns Selenium's driver, which its user quits."""
  if not is_there():
    raise RuntimeError(f'There is no browser: {REMEDY}.')
  from selenium import webdriver
  from selenium.webdriver.chrome import service

  options = webdriver.ChromeOptions()
  options.binary_location = find_browser()
  for argument in _ARGUMENTS:
    options.add_argument(argument)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  return webdriver.Chrome(
    options=options, service=service.Service(shutil.which('chromedriver'))
  )
