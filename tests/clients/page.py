#!/usr/bin/env python3
"""Uses the page in headless Chromium: page.py URL PICTURE [SCREENSHOT]"""
import base64
import json
import pathlib
import sys
import tempfile

import axe_selenium_python
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

url = sys.argv[1]
# The driver takes no other path.
picture = str(pathlib.Path(sys.argv[2]).resolve())
package = pathlib.Path(axe_selenium_python.__file__).parent
AXE = next(package.rglob("axe.min.js")).read_text()
options = webdriver.ChromeOptions()
for argument in [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--window-size=1100,900",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]:
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
service = webdriver.ChromeService("/usr/bin/chromedriver")
browser = webdriver.Chrome(options, service)
told = []


def find(selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def all_of(selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def wait_until(is_so):
    return WebDriverWait(browser, 60).until(lambda _: is_so())


def boxes():
    """The boxes on the screen, as fractions of the picture on the screen."""
    frame = find("#picture").rect
    return [
        {
            "label": box.get_attribute("data-label"),
            "corners": [
                (box.rect["x"] - frame["x"]) / frame["width"],
                (box.rect["y"] - frame["y"]) / frame["height"],
                (box.rect["x"] + box.rect["width"] - frame["x"]) / frame["width"],
                (box.rect["y"] + box.rect["height"] - frame["y"]) / frame["height"],
            ],
        }
        for box in reversed(all_of("#boxes rect[data-label]"))
    ]


def detect(path):
    find("#file").send_keys(path)
    wait_until(lambda: find("#result").is_displayed() and not find("#status").text)


HAND_OVER = """
const [kind, name, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type: "image/png" }));
const event = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
const made = kind === "drop" ? new DragEvent(kind, event) : new ClipboardEvent(kind, event);
document.body.dispatchEvent(made);
"""


def hand_over(kind, path):
    """Drops a picture onto the page, or pastes it, after the result of an earlier one is gone."""
    browser.execute_script('document.getElementById("result").hidden = true')
    content = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
    browser.execute_script(HAND_OVER, kind, pathlib.Path(path).name, content)
    wait_until(lambda: find("#result").is_displayed() and not find("#status").text)


def events():
    """What the browser has told so far; its log is emptied by reading it."""
    told.extend(json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return told


def file_chooser_opened():
    return any(event["method"] == "Page.fileChooserOpened" for event in events())


def axe_finds_nothing(when):
    browser.execute_script(AXE)
    violations = browser.execute_async_script(
        "axe.run().then((found) => arguments[0](found.violations.map((one) =>"
        " `${one.id}: ${one.nodes.map((node) => node.html)}`)))"
    )
    assert not violations, f"{when}: {violations}"


try:
    browser.get(url)
    # The keyboard alone reaches the picker and the camera.
    reached = []
    for _ in range(3):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(browser.switch_to.active_element.get_attribute("id"))
    assert reached[:2] == ["file", "camera"], reached
    # Enter opens the picker.
    browser.execute_cdp_cmd("Page.setInterceptFileChooserDialog", {"enabled": True})
    browser.execute_script('document.getElementById("file").focus()')
    webdriver.ActionChains(browser).send_keys(Keys.ENTER).perform()
    wait_until(file_chooser_opened)
    browser.execute_cdp_cmd("Page.setInterceptFileChooserDialog", {"enabled": False})
    axe_finds_nothing("at first")

    detect(picture)
    axe_finds_nothing("with a result")
    found = boxes()
    items = [item.text for item in all_of("#objects li")]
    assert len(items) == len(found), (items, found)
    assert find("#curl").text.startswith("curl --data-binary '@"), find("#curl").text
    grounds = [label.value_of_css_property("fill") for label in all_of("#boxes .label")]
    assert len(grounds) == len(found) and "none" not in grounds, grounds
    shown = json.loads(find("#json").get_attribute("textContent"))
    assert [one["label"] for one in shown["detections"]] == [box["label"] for box in found], shown
    steps = [step.get_attribute("textContent") for step in all_of("#timings tr :first-child")]
    assert steps == list(shown["timings_ms"]), steps
    if len(sys.argv) > 3:
        browser.save_screenshot(sys.argv[3])

    # The slider, moved with the keyboard, hides boxes and items.
    slider = find("#confidence")
    slider.send_keys(Keys.END)
    wait_until(lambda: not all_of("#boxes rect[data-label]") and not all_of("#objects li"))
    assert find("#percent").text == "100%"
    slider.send_keys(Keys.HOME)
    wait_until(lambda: len(all_of("#objects li")) > len(items))
    for _ in range(35):
        slider.send_keys(Keys.ARROW_RIGHT)
    wait_until(lambda: len(all_of("#objects li")) == len(items))

    # The filter hides a class.
    first = find("#classes input")
    label = first.get_attribute("value")
    first.send_keys(Keys.SPACE)
    assert label not in {box["label"] for box in boxes()}
    first.send_keys(Keys.SPACE)
    wait_until(lambda: [box["label"] for box in boxes()] == [box["label"] for box in found])

    for kind in ["drop", "paste"]:
        hand_over(kind, picture)
        wait_until(lambda: [box["label"] for box in boxes()] == [box["label"] for box in found])

    # An error is text.
    with tempfile.NamedTemporaryFile(suffix=".png") as text:
        text.write(b"not a picture at all, but long enough to be one")
        text.flush()
        find("#file").send_keys(text.name)
        wait_until(lambda: "not a picture" in find("#error").text)
    assert not find("#result").is_displayed()

    # The camera's picture is sent too.
    find("#camera").click()
    wait_until(lambda: find("#viewfinder").is_displayed())
    find("#shoot").click()
    wait_until(lambda: find("#result").is_displayed())
    assert not find("#viewfinder").is_displayed()

    # A phone's width needs no scrolling sideways.
    browser.set_window_size(500, 800)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    for scheme in ["light", "dark"]:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light"), ground
        axe_finds_nothing(scheme)

    # Chromium logs the refusal above as an error of the network; there is no other.
    log = [entry for entry in browser.get_log("browser") if "status of 422" not in entry["message"]]
    assert not log, log
    requests = [
        message["params"]["request"]["url"]
        for message in events()
        if message["method"] == "Network.requestWillBeSent"
    ]
    outside = [one for one in requests if not one.startswith((url, "blob:" + url))]
    assert requests and not outside, outside
    json.dump(found, sys.stdout)
finally:
    browser.quit()
