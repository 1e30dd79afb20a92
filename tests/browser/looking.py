"""What every test in the browser does with a page."""

from __future__ import annotations


def go(page, name: str) -> None:
    links = page.get_by_test_id("stSidebarNavItems")
    links.get_by_role("link", name=name, exact=True).click()


def choose(page, label: str, option: str) -> None:
    """Choose from a list; anew, where a page that still moves closed the list under the pointer."""
    picker = page.get_by_role("combobox", name=label)
    wanted = page.get_by_role("option").filter(has_text=option)
    for _ in range(60):
        picker.click()
        page.wait_for_timeout(500)
        if wanted.count():
            break
    wanted.click()


def no_error_box(page) -> None:
    boxes = page.get_by_test_id("stAlertContentError")
    assert boxes.count() == 0, boxes.all_inner_texts()
    assert page.get_by_test_id("stException").count() == 0
