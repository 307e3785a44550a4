"""The documentation site in a real browser, from a file, with the network watched."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Project
from playwright.sync_api import Page, sync_playwright

CHROMIUM = os.environ.get("TIDEMILL_TEST_CHROMIUM")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="TIDEMILL_TEST_CHROMIUM is not set; tests/run sets it")


@pytest.fixture
def page(shop: Project) -> Iterator[Page]:
    """The site's first page; whatever it complains about or asks for fails the test."""
    shop.run("build")
    shop.run("source-freshness", "--select", "source:raw")
    shop.run("docs", "generate")
    site = (shop.folder / "target/index.html").as_uri()
    complaints: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(site)
        yield page
        browser.close()
    assert complaints == []
    assert [url for url in requests if url.split("#")[0] != site and not url.startswith("data:")] == []


def screenshot(page: Page, name: str) -> None:
    folder = Path(os.environ.get("TIDEMILL_TEST_OUTPUT", "target/test-output"))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / name)


def data_of(page: Page) -> dict:
    return json.loads(page.locator("#data").text_content() or "")


def test_the_graph_shows_every_node_and_edge_without_overlap(page: Page) -> None:
    data = data_of(page)
    page.get_by_role("link", name="Lineage").click()
    nodes = page.locator(".node")
    nodes.first.wait_for()
    assert nodes.count() == len(data["nodes"]) == 7
    edges = sum(len(node["parents"]) for node in data["nodes"])
    assert page.locator("path.edge").count() == edges == 6
    boxes = [nodes.nth(index).locator("rect").bounding_box() for index in range(nodes.count())]
    frame = page.locator(".graph").bounding_box()
    for index, one in enumerate(boxes):
        assert frame["x"] <= one["x"]
        assert one["x"] + one["width"] <= frame["x"] + frame["width"]
        for other in boxes[index + 1 :]:
            apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            apart_y = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert apart_x or apart_y
    screenshot(page, "docs-lineage.png")
    before = page.locator(".graph svg > g").get_attribute("transform")
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".graph svg > g").get_attribute("transform") != before
    page.get_by_role("checkbox", name="Exposures").uncheck()
    assert nodes.count() == 6
    page.locator('.node[data-id="model.shop.fct_customers"]').click()
    assert page.locator("main h2").text_content() == "fct_customersmodel"


def test_search_finds_names_columns_and_descriptions(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("total")
    hits = page.locator("#results li")
    assert "fct_customers" in hits.first.text_content()
    page.keyboard.press("Enter")
    assert page.url.endswith("#/node/model.shop.fct_customers")
    page.get_by_role("combobox", name="Search").fill("who bought")
    assert {"stg_raw__orders", "fct_customers"} <= {re.sub("model.*", "", text) for text in hits.all_text_contents()}
    page.get_by_role("combobox", name="Search").fill("no such thing")
    assert hits.all_text_contents() == ["nothing found"]


def test_a_model_shows_its_columns_tests_and_sql_and_nothing_becomes_markup(page: Page) -> None:
    page.locator('#tree a[data-id="model.shop.fct_customers"]').click()
    main = page.locator("main")
    assert "</script><img src=x onerror=alert(1)>" in main.text_content()
    assert page.locator("main img").count() == 0
    cells = main.locator("tr", has=page.locator("code", has_text="total")).first.locator("td").all_text_contents()
    assert cells[:3] == ["total", "bigint", "What they spent."]
    assert main.locator(".verdict.pass").count() >= 3
    assert "select customer, sum(amount) as total from" in main.text_content()
    assert main.locator(".node").count() == 5
    screenshot(page, "docs-model.png")


def test_freshness_macros_and_exposures_have_their_pages(page: Page) -> None:
    page.get_by_role("link", name="Freshness").click()
    row = page.locator("main tr", has_text="raw.orders")
    assert "warn" in row.text_content()
    assert "2025-01-03 09:00:00" in row.text_content()
    page.get_by_role("link", name="Macros").click()
    assert "Adds up." in page.locator("main").text_content()
    page.locator('#tree a[data-id="exposure.shop.board"]').click()
    assert "https://example.com/board" in page.locator("main").text_content()


def test_the_page_can_be_used_with_the_keyboard_and_read_aloud(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    unnamed = "[...document.querySelectorAll('button, input, select, a')].filter((e) => !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).length"
    assert page.evaluate(unnamed) == 0
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    node = page.locator('.node[data-id="model.shop.fct_daily"]')
    node.focus()
    page.keyboard.press("Enter")
    assert "fct_daily" in page.title()
